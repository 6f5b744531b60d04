"""The propositions of the papers as assertions: the numbered index, and the checks of each method.

With `aggregator.check_invariants=true` a run checks the advantages of every step. `check`
recomputes the quantities of the papers from the rewards, weights and mask of the step and asserts
everything that `BY_NAME` lists for the method, for example that the advantages of each group sum to
0. The first violation stops the run with a `TrainingError` that names the proposition, its number,
the group and by how much it is violated; rounding error is tolerated (1e-5 in float32). For methods
that are not listed, such as plug-ins, only proposition 34 is checked. The check is compiled once
and uses the rewards only, so its cost does not depend on the model. It is off by default and meant
for debugging a new method or reward.

Outside of a run `check` can be called directly, or compiled:

    checked = chex.chexify(jax.jit(functools.partial(check, "dvao")), async_check=False)
    checked(rewards, weights, advantages, mask=mask)

`PROPOSITIONS` is the numbered index. Statements about one batch have functions, which `check` uses;
the tests assert these and all statements that compare several batches or methods (see
`tests/helpers/invariant_assertions.py`). Numbers 1 to 35 concern reward combination (RC), advantage
combination (AC) and DVAO, 36 to 42 GDPO, 43 to 49 related methods, 50 to 56 RVPO, the others single
methods. Statements that the papers make for the population's deviation hold here for `ddof` 0 and
1: with 1, mean squares have the factor `(n - 1) / n`.

`facts` has the quantities of a batch, `propositions` by how much each statement is violated.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from jax import Array
from jax.typing import ArrayLike

from dvaojax.aggregators.dara import factors
from dvaojax.aggregators.focal import weights_by_difficulty
from dvaojax.aggregators.invariants import facts as f
from dvaojax.aggregators.invariants import propositions as p
from dvaojax.aggregators.invariants.facts import Combination, Facts, Units, View
from dvaojax.aggregators.sa_mrpo import weights_by_saturation
from dvaojax.aggregators.saw import weights_by_variation
from dvaojax.aggregators.sc_ppo import cross_fitted_weights


class Proposition(NamedTuple):
    """An entry of the numbered index.

    Attributes:
        statement: in words or as a formula.
        functions: of `propositions`; by how much the statement about one batch is violated. Empty
            for statements that compare several batches or methods, which only the tests assert.
    """

    statement: str
    functions: tuple[Callable[..., Array], ...] = ()


PROPOSITIONS: dict[int, Proposition] = {
    1: Proposition("|DVAO| <= |RC| for each completion, with equal ddof", (p.within_rc,)),
    2: Proposition(
        "DVAO = (sigma_sum / S) RC, c over a divisor", (p.is_the_sum, p.within_deviations)
    ),
    3: Proposition(
        "DVAO and AC are weights times z-scores", (p.effective_scores, p.ac_is_the_mean_score)
    ),
    4: Proposition("the mean square of RC is 1", (p.agreement_is_the_mean_square,)),
    5: Proposition(
        "the mean square of AC is w' rho w <= (sum w)^2", (p.ac_mean_square, p.rdpo_mean_square)
    ),
    6: Proposition(
        "the mean square of DVAO is (sigma_sum / S)^2 <= 1",
        (p.agreement_is_the_mean_square, p.scores_mean_square),
    ),
    7: Proposition(
        "K uncorrelated objectives of equal deviation: mean square of DVAO = AC = 1 / K"
    ),
    8: Proposition("AC is not bounded by RC; neither AC nor DVAO has the larger mean square"),
    9: Proposition(
        "the order in a group is that of the weighted sum",
        (p.same_order_as_the_sum, p.is_the_sum, p.tchebycheff_is_standardised),
    ),
    10: Proposition("the advantages of each group sum to 0", (p.sums_to_zero,)),
    11: Proposition("no advantage exceeds sqrt(G - 1)", (p.bound, p.ac_bound)),
    12: Proposition("the dynamic weights of DVAO are on the simplex", (p.simplex,)),
    13: Proposition("the derivative of AC by the completion's own reward"),
    14: Proposition("the derivatives of DVAO and RC by the completion's own reward"),
    15: Proposition("the derivatives by the rewards of other completions; columns sum to 0"),
    16: Proposition("raising a reward never lowers the completion's own advantage"),
    17: Proposition("better on every objective is not worse", (p.dominance,)),
    18: Proposition("perfectly correlated objectives: DVAO = RC = AC"),
    19: Proposition("one objective: DVAO = AC = RC = GRPO"),
    20: Proposition("objectives of equal deviation: DVAO = AC"),
    21: Proposition("DVAO with the weights w / sigma is AC / sum w"),
    22: Proposition("a single objective varies: DVAO = RC, AC = w_k DVAO"),
    23: Proposition("objectives that cancel exactly: the advantages are 0"),
    24: Proposition("a constant objective is ignored, except that AC shrinks"),
    25: Proposition("an objective may be split into two halves"),
    26: Proposition("every completion may be listed twice, for ddof = 0"),
    27: Proposition("the order of groups, completions and objectives does not matter"),
    28: Proposition("a shift of an objective is ignored"),
    29: Proposition(
        "a common scale of the rewards is ignored, or proportional to the advantages",
        (p.is_the_sum, p.is_the_sum_up_to_a_baseline),
    ),
    30: Proposition(
        "the scale of an objective is ignored by z-scores and acts as a weight in sums"
    ),
    31: Proposition("a common scale of the weights is ignored, or proportional to the advantages"),
    32: Proposition("negated rewards negate the advantages; not of RVPO"),
    33: Proposition("1 holds with the same epsilon added to S and sigma_sum"),
    34: Proposition(
        "exactly 0 in a group without signal or for an unscored completion",
        (p.zero_without_signal,),
    ),
    35: Proposition("G = 2: RC and DVAO are equal for the rewards (0, 1) and (0, 2)"),
    36: Proposition(
        "GDPO: over the completions of the batch mean 0, deviation 1; groups sum to 0",
        (p.is_whitened, p.whitened_mean, p.whitened_deviation, p.sums_to_zero),
    ),
    37: Proposition(
        "token-weighted whitening: over the tokens of the batch mean 0, deviation 1",
        (p.is_whitened, p.whitened_mean, p.whitened_deviation),
    ),
    38: Proposition("GDPO is AC, whitened over the batch", (p.is_whitened,)),
    39: Proposition("equal group sizes: the ddof of the groups does not matter to GDPO"),
    40: Proposition("GDPO: scale and shift of an objective may differ between groups"),
    41: Proposition("worked numbers of GDPO for the rewards (0, 1) and (0, 2)"),
    42: Proposition("the number of distinct advantages of two binary rewards"),
    43: Proposition(
        "SA-MRPO with gamma 0 or equal saturation is GDPO; saturated objectives get weight 0"
    ),
    44: Proposition("DARA: factors from 1 to the cap; equal energy of all objectives"),
    45: Proposition(
        "GD2PO: |q| <= 1, with equality only without conflict; dropped completions get 0",
        (p.consensus_within_one, p.consensus_is_one_without_conflict, p.zero_without_signal),
    ),
    46: Proposition("SC-PPO: the least norm is optimal and no objective decreases"),
    47: Proposition("SAW: weights sum to K and depend on offsets, not on scales"),
    48: Proposition("MO-GRPO: correlations of each objective with the advantage"),
    49: Proposition("CorrGRPO is RC times a ratio of two roots", (p.is_the_sum,)),
    50: Proposition("the soft minimum decreases in k, from the mean to the minimum"),
    51: Proposition(
        "min <= RVPO <= mean, and at most min - ln(share) / k",
        (p.between_minimum_and_mean, p.near_the_minimum, p.penalty_lowers),
    ),
    52: Proposition("the expansion of the soft minimum in k by cumulants"),
    53: Proposition("the soft minimum: shift, scale, concave, 1-Lipschitz"),
    54: Proposition(
        "RVPO: the group's mean before the whitening is at most 0", (p.soft_minimum_group_mean,)
    ),
    55: Proposition("RVPO: constant objectives bound the value", (p.near_the_minimum,)),
    56: Proposition("RVPO with k = 0 is GDPO"),
    57: Proposition(
        "Lite PPO: one divisor; the mean square is the share of the variance within groups",
        (p.is_the_sum, p.within_share),
    ),
    58: Proposition("RLOO is G / (G - 1) times c", (p.is_the_sum,)),
    59: Proposition(
        "VPO: the value of a set is monotone in it, and between the mean and the maximum"
    ),
    60: Proposition("VPO: a common shift of all reward vectors of a group is ignored"),
    61: Proposition("VPO: closed forms of the value of two answers"),
    64: Proposition("HVPO: min <= credit <= mean for non-negative gains; 0 on the boundary"),
    68: Proposition("OPO: the tokens of a group sum to 0", (p.sums_to_zero_over_tokens,)),
}
"""The numbered index; 62, 63 and 65 to 67 are about allocation, losses and rewards."""


class Invariant(NamedTuple):
    """A proposition about one batch of one method.

    Attributes:
        statement: number and wording; must not contain curly brackets, which are format fields.
        excess: from facts to `[B]`, `[B, G]` or `[]`, by how much it is violated, at most 0 if it
            holds.
    """

    statement: str
    excess: Callable[[Facts], Array]


ZERO_WITHOUT_SIGNAL = Invariant(
    "34 (a group without signal, or a completion without score, gets 0)", p.zero_without_signal
)
"""The invariant of every aggregator, the only one that is checked of unknown ones."""


def _same_order(units: Units) -> Invariant:
    statement = "9 (the order is that of the weighted sum)"
    return Invariant(statement, partial(p.same_order_as_the_sum, units))


def _sums_to_zero(units: Units, number: int = 10) -> Invariant:
    return Invariant(f"{number} (each group sums to 0)", partial(p.sums_to_zero, units))


def _bound(units: Units) -> Invariant:
    return Invariant("11 (no advantage exceeds sqrt(G - 1))", partial(p.bound, units))


def _dominance(units: Units) -> Invariant:
    return Invariant("17 (better on every objective is not worse)", partial(p.dominance, units))


def _sum(statement: str, units: Units) -> Invariant:
    return Invariant(statement, partial(p.is_the_sum, units))


def _sum_family(units: Units) -> tuple[Invariant, ...]:
    """Propositions of every method of the centred-sum family, in its units."""
    return (ZERO_WITHOUT_SIGNAL, _same_order(units), _sums_to_zero(units), _dominance(units))


def _whitened(combine: Combination, number: int) -> tuple[Invariant, ...]:
    """Propositions of a method that whitens a combination of scores; the number of the last."""
    return (
        ZERO_WITHOUT_SIGNAL,
        Invariant(f"{number} (whitened from the combination)", partial(p.is_whitened, combine)),
        Invariant(f"{number} (the batch has mean 0)", partial(p.whitened_mean, combine)),
        Invariant(f"{number} (the batch has deviation 1)", partial(p.whitened_deviation, combine)),
    )


def _viewed(view: View, *invariants: Invariant) -> tuple[Invariant, ...]:
    """The invariants of another method, which this method equals under a view of the facts."""

    def compose(invariant: Invariant) -> Invariant:
        return Invariant(invariant.statement, lambda facts: invariant.excess(view(facts)))

    return tuple(map(compose, invariants))


_GDPO_UNITS = partial(f.whitened_units, f.mean_score)
_RC = (
    *_sum_family(f.rc_units),
    _sum("2 (the agreement times RC is c / S)", f.rc_units),
    Invariant("4 (the mean square is 1)", partial(p.agreement_is_the_mean_square, f.rc_units)),
    _bound(f.rc_units),
)
_GDPO = (*_whitened(f.mean_score, 36), _sums_to_zero(_GDPO_UNITS, 36), _dominance(_GDPO_UNITS))
_GD2PO = (
    ZERO_WITHOUT_SIGNAL,
    Invariant("45 (q is within 1)", p.consensus_within_one),
    Invariant("45 (without conflict q is 1 or -1)", p.consensus_is_one_without_conflict),
)
_KEPT = (
    Invariant("45 (a dropped completion gets 0)", p.zero_without_signal),
    *_whitened(f.mean_score, 36)[1:],
)


def _as_grpo(weigh: Callable[..., Array], *knobs: str) -> tuple[Invariant, ...]:
    return _viewed(partial(f.reweighted, weigh, knobs), *_RC)


def _as_gdpo(weigh: Callable[..., Array], *knobs: str) -> tuple[Invariant, ...]:
    return _viewed(partial(f.reweighted, weigh, knobs), *_GDPO)


_DENOISED = (
    ZERO_WITHOUT_SIGNAL,
    Invariant("6 (the mean square is at most that of a z-score)", p.scores_mean_square),
    _sums_to_zero(f.dvao_units),
    _bound(f.dvao_units),
    _dominance(f.dvao_units),
)
_SAW = ("lower", "delta", "ddof")
_SC_PPO = ("target", "priority_floor", "priority_power", "saturation", "ddof", "epsilon")

BY_NAME: dict[str, tuple[Invariant, ...]] = {
    "dr_grpo": (*_sum_family(f.inverse_scale), _sum("29 (c itself)", f.inverse_scale)),
    "rloo": _viewed(
        f.rloo_view,
        *_sum_family(f.inverse_scale),
        _sum("58 (G / (G - 1) times c)", f.inverse_scale),
    ),
    "opo": (
        ZERO_WITHOUT_SIGNAL,
        _same_order(f.inverse_scale),
        _dominance(f.inverse_scale),
        Invariant(
            "29 (c itself, up to a baseline)",
            partial(p.is_the_sum_up_to_a_baseline, f.inverse_scale),
        ),
        Invariant(
            "68 (the tokens of a group sum to 0)",
            partial(p.sums_to_zero_over_tokens, f.inverse_scale),
        ),
    ),
    "grpo": _RC,
    "reward_combination": _RC,
    "lite_ppo": (
        *_sum_family(f.lite_units),
        _sum("57 (one divisor for the batch)", f.lite_units),
        Invariant("57 (the mean square is at most 1)", p.within_share),
    ),
    "corr_grpo": (
        *_sum_family(f.corr_units),
        _sum("49 (c over the root of the sum of correlations)", f.corr_units),
    ),
    "maxrl": (*_sum_family(f.maxrl_units), _sum("9 (c over the mean)", f.maxrl_units)),
    "dvao": (
        *_sum_family(f.dvao_units),
        Invariant("1 (within reward combination)", p.within_rc),
        _sum("2 (c / S)", f.dvao_units),
        Invariant("3 (dynamic weights on z-scores)", p.effective_scores),
        Invariant(
            "6 (the mean square is that of the agreement)",
            partial(p.agreement_is_the_mean_square, f.dvao_units),
        ),
        _bound(f.dvao_units),
        Invariant("12 (the dynamic weights sum to 1)", p.simplex),
    ),
    "dvao_denoised": _DENOISED,
    "dvao_of_repeats": _DENOISED,
    "dvao_interpolated": (
        *_sum_family(f.interpolated_units),
        Invariant("1 (within reward combination)", p.within_rc),
        _sum("2 (c over a deviation between sigma_sum and S)", f.interpolated_units),
    ),
    "dvao_shrunk": (
        *_sum_family(f.shrunk_units),
        _sum("2 (c over the shrunk deviations)", f.shrunk_units),
        Invariant("2 (no deviation leaves the batch's range)", p.within_deviations),
    ),
    "advantage_combination": (
        ZERO_WITHOUT_SIGNAL,
        Invariant("3 (weights on z-scores)", p.ac_is_the_mean_score),
        Invariant("5 (the mean square is w' rho w)", p.ac_mean_square),
        _sums_to_zero(f.ac_units),
        Invariant("11 (no advantage exceeds sqrt(G - 1) sum w)", p.ac_bound),
        _dominance(f.ac_units),
    ),
    "rdpo": (
        ZERO_WITHOUT_SIGNAL,
        _sums_to_zero(f.rdpo_units),
        Invariant("5 (the mean square is at most sum w^2)", p.rdpo_mean_square),
    ),
    "augmented_tchebycheff": (
        ZERO_WITHOUT_SIGNAL,
        Invariant("9 (the scalarised reward, standardised)", p.tchebycheff_is_standardised),
        _sums_to_zero(f.tchebycheff_units),
        _bound(f.tchebycheff_units),
        _dominance(f.tchebycheff_units),
    ),
    "gdpo": _GDPO,
    "gdpo_token_weighted": (*_whitened(f.mean_score, 37), _dominance(_GDPO_UNITS)),
    "reinforce_plus_plus": _viewed(
        f.over_the_batch,
        Invariant("34 (a completion without score gets 0)", p.zero_without_signal),
        *_whitened(f.mean_score, 37)[1:],
        _dominance(_GDPO_UNITS),
    ),
    "reinforce_plus_plus_baseline": _viewed(
        f.over_the_groups, *_whitened(f.mean_score, 37), _dominance(_GDPO_UNITS)
    ),
    "james_stein": _viewed(
        f.over_the_batch,
        Invariant("34 (a completion without score gets 0)", p.zero_without_signal),
        _same_order(f.inverse_scale),
        _dominance(f.inverse_scale),
    ),
    "corr_gdpo": (
        ZERO_WITHOUT_SIGNAL,
        Invariant("37 (the batch has mean 0)", partial(p.whitened_mean, f.mean_score)),
        _dominance(f.corr_gdpo_units),
    ),
    "saw_grpo": _as_grpo(weights_by_variation, *_SAW),
    "focal_reward": _as_grpo(weights_by_difficulty, "gamma"),
    "saw_gdpo": _as_gdpo(weights_by_variation, *_SAW),
    "sa_mrpo": _as_gdpo(weights_by_saturation, "lower", "upper", "gamma"),
    "sc_ppo": _as_gdpo(cross_fitted_weights, *_SC_PPO),
    "dara_symmetric": _as_gdpo(
        lambda batch, cap: batch.group_weights * factors(batch, cap=cap)[None, :], "cap"
    ),
    "dara_asymmetric": _viewed(
        partial(f.reweighted, f.own_weights, ()),
        *_whitened(f.stretched_score, 36),
        _dominance(partial(f.whitened_units, f.stretched_score)),
    ),
    "gd2po_hard": (*_GD2PO, *_viewed(f.kept_hard, *_KEPT)),
    "gd2po_snr": (*_GD2PO, *_viewed(f.kept_snr, *_KEPT)),
    "rvpo": (
        *_whitened(f.combined_soft_minimum, 36),
        _dominance(partial(f.whitened_units, f.combined_soft_minimum)),
        Invariant("51 (between the minimum and the mean)", p.between_minimum_and_mean),
        Invariant("51 and 55 (near the minimum)", p.near_the_minimum),
        Invariant("54 (the group's mean is at most 0)", p.soft_minimum_group_mean),
    ),
    "rvpo_variance_penalty": (
        *_whitened(f.combined_penalised_mean, 36),
        Invariant("51 (at most the mean)", p.penalty_lowers),
    ),
}
"""The invariants of one batch, by the name of the aggregator."""


def check(
    name: str,
    rewards: ArrayLike,
    weights: ArrayLike,
    advantages: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    **knobs: Any,
) -> None:
    """Asserts all invariants of the advantages of an aggregator.

    Args:
        name: a key of `aggregators.METHODS`, or a plug-in as in `aggregators.find`. Without an
            entry in `BY_NAME` only proposition 34 is checked.
        rewards: `[..., G, K]`, as passed to the aggregator.
        weights: `[K]` or `[..., K]`.
        advantages: `[..., G]`, returned by the aggregator.
        mask: `[..., G, K]` bool, as passed to the aggregator.
        lengths: `[..., G]`, if the aggregator takes them.
        knobs: the knobs of the call that differ from the defaults.

    Raises:
        ValueError: an invariant is violated; the message names it, the group and by how much.
            Inside jit only under `checkify.checkify` or `chex.chexify`.
    """
    facts = f.gather(name, rewards, weights, advantages, mask=mask, lengths=lengths, knobs=knobs)
    for invariant in BY_NAME.get(name, (ZERO_WITHOUT_SIGNAL,)):
        p.assert_small(
            invariant.excess(facts), invariant.statement, p.TOLERANCE[facts.advantages.dtype]
        )
