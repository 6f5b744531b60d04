"""What must hold of one batch, by the name of the aggregator: those that the package began with.

`invariants.check` asserts them; `relatives` has those of the other methods.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from jax import Array

from dvaojax.aggregators.invariants import propositions
from dvaojax.aggregators.invariants.facts import Combine, Facts
from dvaojax.aggregators.invariants.propositions import Units


class Invariant(NamedTuple):
    """One proposition about one batch.

    Attributes:
        statement: its number and wording; curly brackets would be taken for a format.
        excess: facts to `[B]`, `[B, G]` or `[]`: by how much it is violated, at most 0 if not.
    """

    statement: str
    excess: Callable[[Facts], Array]


SILENCE = Invariant(
    "34 (a group without signal, or a completion without score, gets 0)", propositions.silence
)


def sum_family(units: Units) -> tuple[Invariant, ...]:
    """What holds of every method of the centred-sum family, in its units."""
    return (
        SILENCE,
        Invariant(
            "9 (the order is that of the weighted sum)",
            partial(propositions.same_order_as_the_sum, units),
        ),
        Invariant("10 (each group sums to 0)", partial(propositions.sums_to_zero, units)),
        Invariant(
            "17 (better on every objective is not worse)", partial(propositions.dominance, units)
        ),
    )


def seen_through(view: Callable[[Facts], Facts], *invariants: Invariant) -> tuple[Invariant, ...]:
    """The invariants of another method, which this one is in a view of the facts."""

    def compose(invariant: Invariant) -> Invariant:
        return Invariant(invariant.statement, lambda facts: invariant.excess(view(facts)))

    return tuple(map(compose, invariants))


def whitened(combine: Combine, numbers: str) -> tuple[Invariant, ...]:
    """What whitening leaves of the scores that a method combines; `numbers` of the statements."""
    return (
        SILENCE,
        Invariant(
            f"{numbers} (whitened from what it combines)",
            partial(propositions.is_whitened, combine),
        ),
        Invariant(
            f"{numbers} (the batch has mean 0)", partial(propositions.whitened_mean, combine)
        ),
        Invariant(
            f"{numbers} (the batch has deviation 1)",
            partial(propositions.whitened_deviation, combine),
        ),
    )


GDPO_UNITS = partial(propositions.whitened_units, propositions.mean_score)
_RVPO_UNITS = partial(propositions.whitened_units, propositions.combined_soft_minimum)
GROUP_SUM = Invariant("36 (each group sums to 0)", partial(propositions.sums_to_zero, GDPO_UNITS))
DOMINANCE = Invariant(
    "17 (better on every objective is not worse)", partial(propositions.dominance, GDPO_UNITS)
)
RC = (
    Invariant(
        "2 (the agreement times RC is c / S)",
        partial(propositions.is_the_sum, propositions.rc_units),
    ),
    Invariant(
        "4 (the mean square is 1)",
        partial(propositions.agreement_is_the_mean_square, propositions.rc_units),
    ),
    Invariant(
        "11 (no advantage exceeds sqrt(G - 1))", partial(propositions.bound, propositions.rc_units)
    ),
)

FIRST: dict[str, tuple[Invariant, ...]] = {
    "dr_grpo": (
        *sum_family(lambda facts: facts.in_spreads),
        Invariant(
            "29 (c itself)", partial(propositions.is_the_sum, lambda facts: facts.in_spreads)
        ),
    ),
    "rloo": seen_through(
        propositions.rloo_view,
        *sum_family(lambda facts: facts.in_spreads),
        Invariant(
            "58 (G / (G - 1) times c)",
            partial(propositions.is_the_sum, lambda facts: facts.in_spreads),
        ),
    ),
    "grpo": (*sum_family(propositions.rc_units), *RC),
    "reward_combination": (*sum_family(propositions.rc_units), *RC),
    "lite_ppo": (
        *sum_family(propositions.lite_units),
        Invariant(
            "57 (one divisor for the batch)",
            partial(propositions.is_the_sum, propositions.lite_units),
        ),
        Invariant("57 (the mean square is at most 1)", propositions.within_share),
    ),
    "dvao": (
        *sum_family(propositions.dvao_units),
        Invariant("1 (within reward combination)", propositions.within_rc),
        Invariant("2 (c / S)", partial(propositions.is_the_sum, propositions.dvao_units)),
        Invariant("3 (dynamic weights on z-scores)", propositions.effective_scores),
        Invariant(
            "6 (the mean square is that of the agreement)",
            partial(propositions.agreement_is_the_mean_square, propositions.dvao_units),
        ),
        Invariant(
            "11 (no advantage exceeds sqrt(G - 1))",
            partial(propositions.bound, propositions.dvao_units),
        ),
        Invariant("12 (the dynamic weights sum to 1)", propositions.simplex),
    ),
    "advantage_combination": (
        SILENCE,
        Invariant("3 (weights on z-scores)", propositions.ac_is_the_mean_score),
        Invariant("5 (the mean square is w' rho w)", propositions.ac_mean_square),
        Invariant(
            "10 (each group sums to 0)", partial(propositions.sums_to_zero, propositions.ac_units)
        ),
        Invariant("11 (no advantage exceeds sqrt(G - 1) sum w)", propositions.ac_bound),
        Invariant(
            "17 (better on every objective is not worse)",
            partial(propositions.dominance, propositions.ac_units),
        ),
    ),
    "gdpo": (
        *whitened(propositions.mean_score, "36"),
        GROUP_SUM,
        DOMINANCE,
    ),
    "gdpo_token_weighted": (
        *whitened(propositions.mean_score, "37"),
        DOMINANCE,
    ),
    "rvpo": (
        *whitened(propositions.combined_soft_minimum, "36"),
        Invariant(
            "17 (better on every objective is not worse)",
            partial(propositions.dominance, _RVPO_UNITS),
        ),
        Invariant("51 (between the minimum and the mean)", propositions.between_minimum_and_mean),
        Invariant("51 and 55 (near the minimum)", propositions.near_the_minimum),
        Invariant("54 (the group's mean is at most 0)", propositions.soft_minimum_group_mean),
    ),
    "rvpo_variance_penalty": (
        *whitened(propositions.combined_penalised_mean, "36"),
        Invariant("51 (at most the mean)", propositions.penalty_lowers),
    ),
}
