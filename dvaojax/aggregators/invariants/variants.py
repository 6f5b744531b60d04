"""What must hold of one batch, by the name of the aggregator: our variants of DVAO, and OPO."""

from functools import partial

from dvaojax.aggregators.invariants import propositions
from dvaojax.aggregators.invariants import propositions_beyond as beyond
from dvaojax.aggregators.invariants.statements import SILENCE, Invariant, sum_family

VARIANTS: dict[str, tuple[Invariant, ...]] = {
    "dvao_denoised": (
        SILENCE,
        Invariant(
            "6 (the mean square is at most that of a z-score)",
            beyond.scores_mean_square,
        ),
        Invariant(
            "10 (each group sums to 0)", partial(propositions.sums_to_zero, propositions.dvao_units)
        ),
        Invariant(
            "11 (no advantage exceeds sqrt(G - 1))",
            partial(propositions.bound, propositions.dvao_units),
        ),
        Invariant(
            "17 (better on every objective is not worse)",
            partial(propositions.dominance, propositions.dvao_units),
        ),
    ),
    "dvao_interpolated": (
        *sum_family(beyond.interpolated_units),
        Invariant("1 (within reward combination)", propositions.within_rc),
        Invariant(
            "2 (c over a deviation between sigma_sum and S)",
            partial(propositions.is_the_sum, beyond.interpolated_units),
        ),
    ),
    "dvao_shrunk": (
        *sum_family(beyond.shrunk_units),
        Invariant(
            "2 (c over the shrunk deviations)",
            partial(propositions.is_the_sum, beyond.shrunk_units),
        ),
        Invariant("2 (no deviation leaves the batch's range)", beyond.within_deviations),
    ),
    "opo": (
        SILENCE,
        Invariant(
            "9 (the order is that of the weighted sum)",
            partial(propositions.same_order_as_the_sum, lambda facts: facts.in_spreads),
        ),
        Invariant(
            "17 (better on every objective is not worse)",
            partial(propositions.dominance, lambda facts: facts.in_spreads),
        ),
        Invariant(
            "29 (c itself, but for a baseline)",
            partial(beyond.is_the_sum_but_for_a_baseline, lambda facts: facts.in_spreads),
        ),
        Invariant(
            "68 (the tokens of a group sum to 0)",
            partial(beyond.sums_to_zero_over_tokens, lambda facts: facts.in_spreads),
        ),
    ),
}
