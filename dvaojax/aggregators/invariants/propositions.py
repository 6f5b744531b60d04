"""By how much a proposition about one batch is violated, as functions of its `Facts`.

Each function returns `[B]`, `[B, G]` or, for the batch as a whole, `[]`: at most rounding error
where the proposition holds. Its statement, and the methods it holds for, are in the index of this
package. Advantages are compared in units in which rounding error is small: multiplied by their own
divisor, over `S = sum_k w_k sigma_k` for methods that sum first. The divisor of RC may be a small
difference of large terms, which makes the last digits of RC rounding error; those of `c / S` are
not.
"""

import jax.numpy as jnp
from jax import Array
from jax.experimental import checkify

from dvaojax import numerics
from dvaojax.aggregators import gd2po
from dvaojax.aggregators._core import group
from dvaojax.aggregators._core.whitening import batch_moments
from dvaojax.aggregators.dvao_shrunk import shrunk, spread_of
from dvaojax.aggregators.invariants.facts import (
    Combination,
    Facts,
    Units,
    ac_units,
    combined_penalised_mean,
    combined_soft_minimum,
    consensus,
    dvao_units,
    mean_score,
    tchebycheff_moments,
    tchebycheff_units,
    whitening_of,
)

TOLERANCE = {jnp.dtype("float32"): 1e-5, jnp.dtype("float64"): 1e-9}


def assert_small(excess: Array, statement: str, tolerance: float) -> None:
    """Asserts that a statement is violated by no more than rounding error, in any group.

    Args:
        excess: `[B]` or `[B, G]`, or `[]` for the whole batch: by how much; NaN is a violation.
        statement: its number and wording.
        tolerance: the largest acceptable rounding error.
    """
    per_group = jnp.max(excess.reshape(len(excess) if excess.ndim else 1, -1), axis=-1, initial=0)
    worst = jnp.argmax(per_group)  # the first NaN, if there is one
    where = "group {worst}" if excess.ndim else "the batch"
    checkify.check(
        jnp.all(per_group <= tolerance),
        f"invariant {statement}: violated in {where} by {{excess}}",
        worst=worst,
        excess=per_group[worst],
    )


# Every method, and whole families.


def zero_without_signal(facts: Facts) -> Array:
    """Infinity where the advantage must be exactly 0 and is not."""
    return jnp.where(~facts.may_differ_from_zero & (facts.advantages != 0), jnp.inf, 0)


def sums_to_zero(units: Units, facts: Facts) -> Array:
    """Magnitude of the mean of each group."""
    return jnp.abs(facts.mean(facts.advantages)) * units(facts)


def same_order_as_the_sum(units: Units, facts: Facts) -> Array:
    """Pairs of completions in another order than their weighted sums of rewards."""
    is_less = facts.unit[:, :, None] < facts.unit[:, None, :] - TOLERANCE[facts.unit.dtype]
    return _misordered(is_less, units, facts)


def dominance(units: Units, facts: Facts) -> Array:
    """Pairs in which a completion that is not better on any objective is preferred."""
    is_no_better = jnp.all(
        facts.scores.values[:, :, None, :] <= facts.scores.values[:, None, :, :], axis=-1
    )
    return _misordered(is_no_better, units, facts)


def _misordered(should_not_exceed: Array, units: Units, facts: Facts) -> Array:
    """By how much `A_i` exceeds `A_j` where it should not, `[B, G, G]` to `[B]`."""
    both = facts.may_differ_from_zero[:, :, None] & facts.may_differ_from_zero[:, None, :]
    gap = facts.advantages[:, :, None] - facts.advantages[:, None, :]
    gap = jnp.where(should_not_exceed & both, gap, 0)
    return jnp.max(gap, axis=(1, 2), initial=0) * units(facts)


def is_the_sum(units: Units, facts: Facts) -> Array:
    """Distance from `c` over the method's divisor."""
    expected = jnp.where(units(facts)[:, None] > 0, facts.unit, 0)
    return jnp.abs(facts.advantages * units(facts)[:, None] - expected)


def is_the_sum_up_to_a_baseline(units: Units, facts: Facts) -> Array:
    """Distance from `c` over the method's divisor, after centring both."""
    centred = facts.advantages - facts.mean(facts.advantages)[:, None]
    difference = jnp.abs(centred * units(facts)[:, None] - facts.unit)
    return jnp.where(facts.may_differ_from_zero, difference, 0)


def sums_to_zero_over_tokens(units: Units, facts: Facts) -> Array:
    """Mean over the tokens of a group, if each completion was scored on each objective."""
    mean = numerics.safe_divide(
        jnp.sum(facts.counts * facts.advantages, axis=-1), jnp.sum(facts.counts, axis=-1)
    )
    return jnp.where(jnp.all(facts.batch.where, axis=(1, 2)), jnp.abs(mean) * units(facts), 0)


def bound(units: Units, facts: Facts) -> Array:
    """Excess over `sqrt(n - 1)`, or `(n - 1) / sqrt(n)` for the sample's deviation."""
    limit = jnp.sqrt(jnp.maximum(facts.count - 1, 0) * facts.mean_square_of_scores)
    return (jnp.max(jnp.abs(facts.advantages), axis=-1, initial=0) - limit) * units(facts)


# Reward combination, advantage combination, DVAO and its variants.


def within_rc(facts: Facts) -> Array:
    """`|A| - |RC|`, where RC is not 0."""
    # |RC| is |c| / sigma_sum; both sides are multiplied by sigma_sum / S.
    excess = jnp.abs(facts.advantages) * facts.agreement[:, None] - jnp.abs(facts.unit)
    return jnp.where(facts.agreement[:, None] > 0, excess, 0)


def agreement_is_the_mean_square(units: Units, facts: Facts) -> Array:
    """Difference of the mean square and `(sigma_sum / S)^2`."""
    expected = facts.agreement**2 * facts.mean_square_of_scores
    return jnp.abs(facts.mean(facts.advantages**2) * units(facts) ** 2 - expected)


def scores_mean_square(facts: Facts) -> Array:
    """Excess of the mean square over that of a z-score."""
    return facts.mean(facts.advantages**2) - facts.mean_square_of_scores


def _effective_weights(facts: Facts) -> Array:
    """`[B, K]`, DVAO's weights `w_k sigma_k / S`."""
    deviation = group.statistics(facts.batch, ddof=facts.knobs["ddof"]).deviation
    weighted = deviation * jnp.broadcast_to(facts.batch.weights, deviation.shape)
    return weighted * facts.inverse_scale[:, None]


def simplex(facts: Facts) -> Array:
    """Distance of DVAO's weights from the simplex."""
    weights = _effective_weights(facts)
    off = jnp.abs(jnp.sum(weights, axis=-1) - (facts.total.scale > 0).astype(weights.dtype))
    return jnp.maximum(off, jnp.max(-weights, axis=-1))


def effective_scores(facts: Facts) -> Array:
    """Distance of DVAO from its definition, dynamic weights times z-scores."""
    deviation = group.statistics(facts.batch, ddof=facts.knobs["ddof"]).deviation
    damping = numerics.safe_divide(jnp.asarray(facts.knobs["epsilon"], deviation.dtype), deviation)
    weights = _effective_weights(facts) * (1 + damping)  # undoes the epsilon in the scores
    expected = group.weighted_sum(facts.scores.values, weights)
    return jnp.abs(facts.advantages * dvao_units(facts)[:, None] - expected)


def within_deviations(facts: Facts) -> Array:
    """By how much shrunk deviations leave the range of the batch's, relative to the largest."""
    objectives = group.statistics(facts.batch, ddof=facts.knobs["ddof"])
    has_one = objectives.count >= 2
    deviation = jnp.where(has_one, objectives.deviation, 0)
    moved = shrunk(objectives.deviation, spread_of(objectives))
    largest = jnp.max(deviation, axis=0, initial=0)[None]
    lowest = jnp.min(jnp.where(has_one, objectives.deviation, jnp.inf), axis=0, initial=jnp.inf)
    excess = jnp.maximum(moved - largest, lowest[None] - moved)
    return jnp.where(has_one, numerics.safe_divide(excess, largest + jnp.zeros_like(excess)), 0)


def ac_bound(facts: Facts) -> Array:
    """Excess of AC over `sqrt(n - 1)`, in units of the sum of the weights."""
    limit = jnp.sqrt(jnp.maximum(facts.count - 1, 0) * facts.mean_square_of_scores)
    return jnp.max(jnp.abs(facts.advantages), axis=-1, initial=0) * ac_units(facts) - limit


def ac_mean_square(facts: Facts) -> Array:
    """Difference of the mean square of AC and `w' rho w`, and its excess over `(sum w)^2`."""
    scores = facts.scores.values
    products = jnp.einsum("bgk,bgl->bkl", scores, scores, precision="highest")
    correlation = numerics.safe_divide(products, facts.count[:, None, None])
    shares = facts.shares
    form = jnp.einsum("bk,bkl,bl->b", shares, correlation, shares, precision="highest")
    actual = facts.mean(facts.advantages**2) * ac_units(facts) ** 2
    return jnp.maximum(jnp.abs(actual - form), actual - 1)


def ac_is_the_mean_score(facts: Facts) -> Array:
    """Distance of AC from its definition, weights times z-scores."""
    return jnp.abs(facts.advantages * ac_units(facts)[:, None] - mean_score(facts))


# Methods that whiten over the batch. A zero-variance group gets 0 instead of its whitened value, so
# the mean and the deviation of a batch are only checked if no group has zero variance.


def is_whitened(combine: Combination, facts: Facts) -> Array:
    """Distance from the whitened value."""
    whitening = whitening_of(facts, combine)
    expected = jnp.where(whitening.divisor > 0, combine(facts) - whitening.mean, 0)
    difference = jnp.abs(facts.advantages * whitening.divisor - expected)
    return jnp.where(facts.may_differ_from_zero, difference, 0)


def whitened_mean(combine: Combination, facts: Facts) -> Array:
    """Magnitude of the batch's mean, each completion counted `Facts.counts` times."""
    total = jnp.sum(facts.counts)
    mean = numerics.safe_divide(jnp.sum(facts.counts * facts.advantages), total)
    off = jnp.abs(mean) * whitening_of(facts, combine).divisor
    return jnp.where(jnp.all(facts.may_differ_from_zero == facts.batch.scored), off, 0)


def whitened_deviation(combine: Combination, facts: Facts) -> Array:
    """Difference of the batch's deviation and 1."""
    whitening = whitening_of(facts, combine)
    moments = batch_moments(facts.advantages, facts.counts, ddof=facts.knobs["ddof"])
    off = jnp.abs(moments.deviation * whitening.divisor - whitening.deviation)
    return jnp.where(jnp.all(facts.may_differ_from_zero == facts.batch.scored), off, 0)


def _before_whitening(combine: Combination, facts: Facts) -> tuple[Array, Array]:
    """`[B, G]`, the values before the whitening, and where they can be computed."""
    whitening = whitening_of(facts, combine)
    known = facts.may_differ_from_zero & (whitening.divisor > 0)
    return facts.advantages * whitening.divisor + whitening.mean, known


def between_minimum_and_mean(facts: Facts) -> Array:
    """By how much the value is below the lowest score or above the mean score."""
    value, known = _before_whitening(combined_soft_minimum, facts)
    scores, has_share = facts.scores.values, facts.shares[:, None, :] > 0
    lowest = jnp.min(jnp.where(has_share, scores, jnp.inf), axis=-1)
    excess = jnp.maximum(lowest - value, value - mean_score(facts))
    return jnp.where(known, excess, 0)


def near_the_minimum(facts: Facts) -> Array:
    """Excess over `Z_j - ln(share_j) / k` for any j, or `-ln(share of all zeros) / k`."""
    # sum_j share_j exp(-k Z_j) is at least each of its terms, and the sum of all equal terms.
    value, known = _before_whitening(combined_soft_minimum, facts)
    scores, shares = facts.scores.values, facts.shares[:, None, :]
    sharpness = jnp.asarray(facts.knobs["sharpness"], scores.dtype)
    constant = jnp.sum(jnp.where(scores == 0, shares, 0), axis=-1)
    caps = jnp.minimum(
        jnp.min(scores - jnp.log(shares) / sharpness, -1), -jnp.log(constant) / sharpness
    )
    return jnp.where(known & (sharpness > 0), value - caps, 0)


def soft_minimum_group_mean(facts: Facts) -> Array:
    """The group's mean before the whitening, which is at most 0."""
    value, known = _before_whitening(combined_soft_minimum, facts)
    return facts.mean(jnp.where(known, value, 0))


def penalty_lowers(facts: Facts) -> Array:
    """Excess over the mean score."""
    value, known = _before_whitening(combined_penalised_mean, facts)
    return jnp.where(known, value - mean_score(facts), 0)


def within_share(facts: Facts) -> Array:
    """Excess of the mean square, the share of the variance within groups, over 1."""
    total = jnp.sum(facts.counts)
    mean_square = numerics.safe_divide(jnp.sum(facts.counts * facts.advantages**2), total)
    return mean_square - 1


# Single methods.


def consensus_within_one(facts: Facts) -> Array:
    """Excess of the magnitude of q of GD2PO over 1."""
    return jnp.abs(consensus(facts)) - 1


def consensus_is_one_without_conflict(facts: Facts) -> Array:
    """Completions with a signal and no conflict whose q is neither 1 nor -1."""
    has_signal = group.weighted_sum(jnp.abs(facts.scores.values), facts.shares) > 1e-2
    agree = ~gd2po.in_conflict(facts.scores.values, facts.batch.weights) & has_signal
    # Scores that are treated as 0 may have either sign.
    slack = 2e2 * jnp.finfo(facts.shares.dtype).eps ** 0.5 * facts.shares.shape[-1]
    return jnp.where(agree, 1 - slack - jnp.abs(consensus(facts)), 0)


def tchebycheff_is_standardised(facts: Facts) -> Array:
    """Distance from the scalarised reward minus its mean, in units of `S`."""
    units = tchebycheff_units(facts)[:, None]
    moments, _ = tchebycheff_moments(facts)
    centred = moments.centred * facts.inverse_scale[:, None]
    return jnp.abs(facts.advantages * units - jnp.where(units > 0, centred, 0))


def rdpo_mean_square(facts: Facts) -> Array:
    """Relative excess of the batch's mean square over `sum w^2 / (1 - shrinkage)`.

    The objectives have unit variance and, up to the shrinkage, no correlation; with different
    weights for each group the bound is K times larger.
    """
    weights = facts.batch.weights
    squares = jnp.max(jnp.sum(jnp.square(weights), axis=-1), initial=0)
    total = numerics.safe_divide(jnp.sum(facts.advantages**2), jnp.sum(facts.count))
    times = 1 if weights.ndim == 1 else weights.shape[-1]
    return numerics.safe_divide(total * (1 - facts.knobs["shrinkage"]), squares) - times
