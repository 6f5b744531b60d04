"""By how much a proposition is violated, as a function of the facts about one batch.

Each function returns `[B]`, `[B, G]` or, for the batch as a whole, `[]`: at most rounding where the
proposition holds, which is what `assert_small` asserts. What each one states, and for which
aggregator, stands in `invariants.BY_NAME`.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.experimental import checkify

from dvaojax import numerics
from dvaojax.aggregators._core import group
from dvaojax.aggregators._core.whitening import batch_moments
from dvaojax.aggregators.invariants.facts import Combine, Facts, whitening_of
from dvaojax.aggregators.rvpo import penalised_mean, soft_minimum

TOLERANCE = {jnp.dtype("float32"): 1e-5, jnp.dtype("float64"): 1e-9}

Units = Callable[[Facts], Array]  # to `[B]`: what brings the advantages to order 1; 0 leaves out


def assert_small(excess: Array, statement: str, tolerance: float) -> None:
    """Assert that a statement is violated by no more than rounding, in any group.

    Args:
        excess: `[B]` or `[B, G]`, or `[]` for the whole batch: by how much; NaN is a violation.
        statement: its number and wording.
        tolerance: what rounding may leave.
    """
    per_group = jnp.max(excess.reshape(len(excess) if excess.ndim else 1, -1), axis=-1, initial=0)
    worst = jnp.argmax(per_group)  # of NaN, the first
    where = "group {worst}" if excess.ndim else "the batch"
    checkify.check(
        jnp.all(per_group <= tolerance),
        f"invariant {statement}: violated in {where} by {{excess}}",
        worst=worst,
        excess=per_group[worst],
    )


# Units: an advantage times these is `c / S` in the centred-sum family, a mean z-score elsewhere.


def rc_units(facts: Facts) -> Array:
    """`sigma_sum + epsilon` over `S`; 0 where the objectives cancel."""
    damping = facts.knobs["epsilon"] * facts.in_spreads
    return jnp.where(facts.agreement > 0, facts.agreement + damping, 0)


def dvao_units(facts: Facts) -> Array:
    """`S + epsilon` over `S`; 0 where no objective with a weight varies."""
    damping = facts.knobs["epsilon"] * facts.in_spreads
    return jnp.where(facts.total.scale > 0, 1 + damping, 0)


def rloo_view(facts: Facts) -> Facts:
    """The facts with RLOO's weights `w_k n_k / (n_k - 1)`: in them it is Dr.GRPO."""
    count = group.statistics(facts.batch, ddof=0).count
    weights = jnp.broadcast_to(facts.batch.weights, count.shape)
    batch = facts.batch._replace(weights=weights * numerics.safe_divide(count, count - 1))
    return facts._replace(batch=batch, total=group.centred_sum(batch, ddof=0))


def ac_units(facts: Facts) -> Array:
    """1 over the sum of the weights."""
    total = jnp.broadcast_to(jnp.sum(facts.batch.weights, axis=-1), facts.count.shape)
    return numerics.safe_divide(jnp.ones_like(total), total)


def whitened_units(combine: Combine, facts: Facts) -> Array:
    """The divisor of the whitening; 0 where the batch cancels."""
    return jnp.broadcast_to(whitening_of(facts, combine).divisor, facts.count.shape)


# Before the whitening, in units of the sum of the weights: after it only their ratios matter.


def mean_score(facts: Facts) -> Array:
    """`[B, G]` of AC and GDPO: the mean of the z-scores."""
    return group.weighted_sum(facts.scores.values, facts.shares)


def combined_soft_minimum(facts: Facts) -> Array:
    """`[B, G]` of RVPO."""
    sharpness = facts.knobs["sharpness"]
    return soft_minimum(facts.scores.values, facts.shares, sharpness=sharpness)


def combined_penalised_mean(facts: Facts) -> Array:
    """`[B, G]` of RVPO with the explicit penalty."""
    penalty = facts.knobs["penalty"]
    return penalised_mean(facts.scores.values, facts.shares, penalty=penalty)


# What every method must satisfy, and what whole families do.


def silence(facts: Facts) -> Array:
    """Where the advantage has to be 0, exactly, and is not."""
    # Exact: anything but 0 is infinitely wrong.
    return jnp.where(~facts.teaches & (facts.advantages != 0), jnp.inf, 0)


def sums_to_zero(units: Units, facts: Facts) -> Array:
    """The mean of a group."""
    return jnp.abs(facts.mean(facts.advantages)) * units(facts)


def same_order_as_the_sum(units: Units, facts: Facts) -> Array:
    """Pairs of completions ordered against their weighted sums of rewards."""
    is_less = facts.unit[:, :, None] < facts.unit[:, None, :] - TOLERANCE[facts.unit.dtype]
    return misordered(is_less, units, facts)


def dominance(units: Units, facts: Facts) -> Array:
    """Pairs where one is no better on any objective, and is preferred."""
    is_no_better = jnp.all(
        facts.scores.values[:, :, None, :] <= facts.scores.values[:, None, :, :], axis=-1
    )
    return misordered(is_no_better, units, facts)


def misordered(should_not_exceed: Array, units: Units, facts: Facts) -> Array:
    """By how much `A_i` exceeds `A_j` where it should not, `[B, G, G]` to `[B]`."""
    both = facts.teaches[:, :, None] & facts.teaches[:, None, :]
    gap = facts.advantages[:, :, None] - facts.advantages[:, None, :]
    gap = jnp.where(should_not_exceed & both, gap, 0)
    return jnp.max(gap, axis=(1, 2), initial=0) * units(facts)


def is_the_sum(units: Units, facts: Facts) -> Array:
    """The distance from `c` over the method's divisor."""
    expected = jnp.where(units(facts)[:, None] > 0, facts.unit, 0)
    return jnp.abs(facts.advantages * units(facts)[:, None] - expected)


def bound(units: Units, facts: Facts) -> Array:
    """Above `sqrt(n - 1)`, or `(n - 1) / sqrt(n)` for the sample's deviation."""
    limit = jnp.sqrt(jnp.maximum(facts.count - 1, 0) * facts.mean_square_of_scores)
    return (jnp.max(jnp.abs(facts.advantages), axis=-1, initial=0) - limit) * units(facts)


def ac_bound(facts: Facts) -> Array:
    """The same for AC, in units of the sum of the weights."""
    limit = jnp.sqrt(jnp.maximum(facts.count - 1, 0) * facts.mean_square_of_scores)
    return jnp.max(jnp.abs(facts.advantages), axis=-1, initial=0) * ac_units(facts) - limit


# Reward combination, advantage combination, DVAO.


def within_rc(facts: Facts) -> Array:
    """`|DVAO| - |RC|`, where RC is not 0."""
    # |RC| is |c| / sigma_sum; both sides times sigma_sum / S.
    excess = jnp.abs(facts.advantages) * facts.agreement[:, None] - jnp.abs(facts.unit)
    return jnp.where(facts.agreement[:, None] > 0, excess, 0)


def agreement_is_the_mean_square(units: Units, facts: Facts) -> Array:
    """The mean square against `(sigma_sum / S)^2`."""
    expected = facts.agreement**2 * facts.mean_square_of_scores
    return jnp.abs(facts.mean(facts.advantages**2) * units(facts) ** 2 - expected)


def effective_weights(facts: Facts) -> Array:
    """`[B, K]` DVAO's weights `w_k sigma_k / S`."""
    deviation = group.statistics(facts.batch, ddof=facts.knobs["ddof"]).deviation
    weighted = deviation * jnp.broadcast_to(facts.batch.weights, deviation.shape)
    return weighted * facts.in_spreads[:, None]


def simplex(facts: Facts) -> Array:
    """How far DVAO's weights are from the simplex."""
    weights = effective_weights(facts)
    off = jnp.abs(jnp.sum(weights, axis=-1) - (facts.total.scale > 0).astype(weights.dtype))
    return jnp.maximum(off, jnp.max(-weights, axis=-1))


def effective_scores(facts: Facts) -> Array:
    """DVAO against its definition, dynamic weights on z-scores."""
    deviation = group.statistics(facts.batch, ddof=facts.knobs["ddof"]).deviation
    damping = numerics.safe_divide(jnp.asarray(facts.knobs["epsilon"], deviation.dtype), deviation)
    weights = effective_weights(facts) * (1 + damping)  # the scores have the epsilon in them
    expected = group.weighted_sum(facts.scores.values, weights)
    return jnp.abs(facts.advantages * dvao_units(facts)[:, None] - expected)


def ac_mean_square(facts: Facts) -> Array:
    """The mean square of AC against `w' rho w`, and above `(sum w)^2`."""
    scores = facts.scores.values
    products = jnp.einsum("bgk,bgl->bkl", scores, scores, precision="highest")
    correlation = numerics.safe_divide(products, facts.count[:, None, None])
    shares = facts.shares
    form = jnp.einsum("bk,bkl,bl->b", shares, correlation, shares, precision="highest")
    actual = facts.mean(facts.advantages**2) * ac_units(facts) ** 2
    return jnp.maximum(jnp.abs(actual - form), actual - 1)


def ac_is_the_mean_score(facts: Facts) -> Array:
    """AC against its definition, weights on z-scores."""
    return jnp.abs(facts.advantages * ac_units(facts)[:, None] - mean_score(facts))


# GDPO, RVPO, Lite PPO. A silent group gets 0 instead of its whitened value, so the mean and the
# deviation of a batch can only be asserted where no group is silent.


def is_whitened(combine: Combine, facts: Facts) -> Array:
    """The distance from the whitened value."""
    whitening = whitening_of(facts, combine)
    expected = jnp.where(whitening.divisor > 0, combine(facts) - whitening.mean, 0)
    difference = jnp.abs(facts.advantages * whitening.divisor - expected)
    return jnp.where(facts.teaches, difference, 0)


def whitened_mean(combine: Combine, facts: Facts) -> Array:
    """The batch's mean, each completion as often as it counts."""
    total = jnp.sum(facts.counts)
    mean = numerics.safe_divide(jnp.sum(facts.counts * facts.advantages), total)
    is_off = jnp.abs(mean) * whitening_of(facts, combine).divisor
    return jnp.where(jnp.all(facts.teaches == facts.batch.scored), is_off, 0)


def whitened_deviation(combine: Combine, facts: Facts) -> Array:
    """The batch's deviation against 1."""
    whitening = whitening_of(facts, combine)
    moments = batch_moments(facts.advantages, facts.counts, ddof=facts.knobs["ddof"])
    is_off = jnp.abs(moments.deviation * whitening.divisor - whitening.deviation)
    return jnp.where(jnp.all(facts.teaches == facts.batch.scored), is_off, 0)


def before_whitening(combine: Combine, facts: Facts) -> tuple[Array, Array]:
    """`[B, G]` what the advantages were whitened from, and where that can be told."""
    whitening = whitening_of(facts, combine)
    known = facts.teaches & (whitening.divisor > 0)
    return facts.advantages * whitening.divisor + whitening.mean, known


def between_minimum_and_mean(facts: Facts) -> Array:
    """Below the lowest score, or above the mean score."""
    value, known = before_whitening(combined_soft_minimum, facts)
    scores, has_share = facts.scores.values, facts.shares[:, None, :] > 0
    lowest = jnp.min(jnp.where(has_share, scores, jnp.inf), axis=-1)
    excess = jnp.maximum(lowest - value, value - mean_score(facts))
    return jnp.where(known, excess, 0)


def near_the_minimum(facts: Facts) -> Array:
    """Above `Z_j - ln(share_j) / k` for any j, or `-ln(share of all zeros) / k`."""
    # sum_j share_j exp(-k Z_j) is at least each of its terms, and all those of one value together.
    value, known = before_whitening(combined_soft_minimum, facts)
    scores, shares = facts.scores.values, facts.shares[:, None, :]
    sharpness = jnp.asarray(facts.knobs["sharpness"], scores.dtype)
    dead = jnp.sum(jnp.where(scores == 0, shares, 0), axis=-1)
    caps = jnp.minimum(
        jnp.min(scores - jnp.log(shares) / sharpness, -1), -jnp.log(dead) / sharpness
    )
    return jnp.where(known & (sharpness > 0), value - caps, 0)


def soft_minimum_group_mean(facts: Facts) -> Array:
    """The group's mean before the whitening, which is at most 0."""
    value, known = before_whitening(combined_soft_minimum, facts)
    return facts.mean(jnp.where(known, value, 0))


def penalty_lowers(facts: Facts) -> Array:
    """Above the mean score."""
    value, known = before_whitening(combined_penalised_mean, facts)
    return jnp.where(known, value - mean_score(facts), 0)


def lite_units(facts: Facts) -> Array:
    """The batch's divisor over `S`: the largest advantage belongs to the largest `c`."""
    largest = jnp.max(jnp.abs(facts.total.centred), initial=0)
    divisor = numerics.safe_divide(largest, jnp.max(jnp.abs(facts.advantages), initial=0))
    return divisor * facts.in_spreads


def within_share(facts: Facts) -> Array:
    """The mean square, the share of the variance within groups, above 1."""
    total = jnp.sum(facts.counts)
    mean_square = numerics.safe_divide(jnp.sum(facts.counts * facts.advantages**2), total)
    return mean_square - 1
