"""The propositions that our own variants of DVAO keep, and those of OPO; see `propositions`.

Each function returns `[B]`, `[B, G]` or `[]`, as there.
"""

import jax.numpy as jnp
from jax import Array

from dvaojax import numerics
from dvaojax.aggregators._core import group
from dvaojax.aggregators.dvao_shrunk import shrunk, spread_of
from dvaojax.aggregators.invariants.facts import Facts
from dvaojax.aggregators.invariants.propositions import Units


def is_the_sum_but_for_a_baseline(units: Units, facts: Facts) -> Array:
    """The distance from `c` over the method's divisor, when both are centred."""
    centred = facts.advantages - facts.mean(facts.advantages)[:, None]
    difference = jnp.abs(centred * units(facts)[:, None] - facts.unit)
    return jnp.where(facts.teaches, difference, 0)


def sums_to_zero_over_tokens(units: Units, facts: Facts) -> Array:
    """The mean of a group's tokens, where every completion was scored on every objective."""
    mean = numerics.safe_divide(
        jnp.sum(facts.counts * facts.advantages, axis=-1), jnp.sum(facts.counts, axis=-1)
    )
    return jnp.where(jnp.all(facts.batch.where, axis=(1, 2)), jnp.abs(mean) * units(facts), 0)


def interpolated_units(facts: Facts) -> Array:
    """DVAO's divisor with the correlations between what they are and 1, over `S`."""
    caution = facts.knobs["caution"]
    damping = facts.knobs["epsilon"] * facts.in_spreads
    units = jnp.sqrt((1 - caution) * facts.agreement**2 + caution)
    return jnp.where((facts.total.scale > 0) & (units > 0), units + damping, 0)


def shrunk_units(facts: Facts) -> Array:
    """The weighted sum of the shrunk deviations over `S`."""
    objectives = group.statistics(facts.batch, ddof=facts.knobs["ddof"])
    deviation = shrunk(objectives.deviation, spread_of(objectives))
    deviation = jnp.where(objectives.count >= 2, deviation, 0)
    scale = group.weighted_sum(deviation, facts.batch.weights) + facts.knobs["epsilon"]
    return jnp.where(facts.total.scale > 0, scale * facts.in_spreads, 0)


def within_deviations(facts: Facts) -> Array:
    """How far the shrunk deviations leave the range of the batch's, in units of the largest."""
    objectives = group.statistics(facts.batch, ddof=facts.knobs["ddof"])
    has_one = objectives.count >= 2
    deviation = jnp.where(has_one, objectives.deviation, 0)
    moved = shrunk(objectives.deviation, spread_of(objectives))
    largest = jnp.max(deviation, axis=0, initial=0)[None]
    lowest = jnp.min(jnp.where(has_one, objectives.deviation, jnp.inf), axis=0, initial=jnp.inf)
    excess = jnp.maximum(moved - largest, lowest[None] - moved)
    return jnp.where(has_one, numerics.safe_divide(excess, largest + jnp.zeros_like(excess)), 0)


def scores_mean_square(facts: Facts) -> Array:
    """The mean square above that of a z-score."""
    return facts.mean(facts.advantages**2) - facts.mean_square_of_scores
