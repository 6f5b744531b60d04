"""Quantities of one batch that the propositions are about: statistics, whitening, views and units.

`gather` recomputes the quantities of the papers from the rewards of a batch. Three kinds of
functions of these `Facts` follow:

- a *combination* returns `[B, G]`, one number per completion before the whitening of a method;
- a *view* returns the facts under the weights, scores or completions that a method adapted, so that
  the propositions of GRPO or GDPO apply to it. Adapted weights are computed with the method's own
  functions: the propositions check how they are used;
- *units* return `[B]`, the factor that brings advantages to order 1: an advantage times the units
  is `c / S` in the centred-sum family, a mean z-score elsewhere; 0 excludes the group.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import aggregators, numerics
from dvaojax.aggregators import gd2po
from dvaojax.aggregators._core import batch as batches
from dvaojax.aggregators._core import group, whitening
from dvaojax.aggregators.corr_gdpo import sum_over_the_batch
from dvaojax.aggregators.corr_grpo import sum_of_correlations
from dvaojax.aggregators.dara import factors, stretch
from dvaojax.aggregators.dvao_shrunk import shrunk, spread_of
from dvaojax.aggregators.maxrl import mean_and_size
from dvaojax.aggregators.rvpo import penalised_mean, soft_minimum
from dvaojax.aggregators.tchebycheff import scalarised


class Facts(NamedTuple):
    """A batch, the advantages to be checked, and the quantities of the papers.

    Attributes:
        batch: the rewards, their weights and their mask.
        advantages: `[B, G]`, the advantages to be checked.
        total: `c`, `sigma_sum` and `S` of each group.
        scores: z-scores `A_k`, with the epsilon of the method, and the groups with signal.
        count: `[B]`, number of completions that were scored.
        counts: `[B, G]`, how often each completion counts in the batch's mean: once, or once per
            token.
        shares: `[B, K]`, the weights normalised to sum 1; for GDPO the mean of the sums is 1.
        weight: `[]`, the method's own weights divided by these shares; 1 if it uses shares.
        knobs: the knobs of the call, including defaults.
    """

    batch: group.GroupedRewards
    advantages: Array
    total: group.CentredSum
    scores: group.ZScores
    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    counts: Array
    shares: Array
    weight: Array
    knobs: Mapping[str, Any]

    @property
    def agreement(self) -> Array:
        """`[B]`, `sigma_sum / S`; 0 if the objectives cancel to rounding error or do not vary."""
        ratio = numerics.safe_divide(self.total.deviation, self.total.scale)
        return jnp.where(ratio <= jnp.finfo(ratio.dtype).eps ** 0.5, 0, ratio)

    @property
    def unit(self) -> Array:
        """`[B, G]`, `c / S`."""
        return numerics.safe_divide(self.total.centred, self.total.scale[:, None])

    @property
    def inverse_scale(self) -> Array:
        """`[B]`, `1 / S`, which brings rewards to units of `S`; 0 if no objective varies."""
        return numerics.safe_divide(jnp.ones_like(self.total.scale), self.total.scale)

    @property
    def mean_square_of_scores(self) -> Array:
        """`[B]`, 1 for the population's deviation, `(n - 1) / n` for the sample's."""
        return numerics.safe_divide(self.count - self.knobs.get("ddof", 0), self.count)

    @property
    def may_differ_from_zero(self) -> Array:
        """`[B, G]` bool, completions that were scored, in groups where some objective varies."""
        return self.batch.scored & self.scores.has_signal[:, None]

    def mean(self, values: Array) -> Array:
        """Mean of `[B, G]` over the completions of each group that were scored, `[B]`."""
        total = numerics.masked_sum(values, self.batch.scored, axis=-1)
        return numerics.safe_divide(total, self.count)


Combination = Callable[[Facts], Array]
View = Callable[[Facts], Facts]
Units = Callable[[Facts], Array]

# The methods whose whitening, with its epsilons, is in units of the weights.
_COMBINES_WEIGHTS = ("gdpo", "gdpo_token_weighted")


def gather(
    name: str,
    rewards: ArrayLike,
    weights: ArrayLike,
    advantages: ArrayLike,
    *,
    mask: ArrayLike | None,
    lengths: ArrayLike | None,
    knobs: Mapping[str, Any],
) -> Facts:
    """Computes the facts about a batch and its advantages.

    Args:
        name: a key of `aggregators.METHODS`, or a plug-in as in `aggregators.find`.
        rewards: `[..., G, K]`, as passed to the aggregator.
        weights: `[K]` or `[..., K]`.
        advantages: `[..., G]`.
        mask: `[..., G, K]` bool or None.
        lengths: `[..., G]` or None.
        knobs: the knobs of the call that differ from the defaults.
    """
    batch = group.mask_nonfinite(rewards, weights, mask)
    knobs = {**aggregators.knobs_of(aggregators.find(name)), **knobs}
    ddof, epsilon = knobs.get("ddof", 0), knobs.get("epsilon", 0.0)
    counts = batch.scored.astype(batch.rewards.dtype)
    if lengths is not None:
        tokens = jnp.asarray(lengths).astype(counts.dtype).reshape(counts.shape)
        counts = jnp.where(batch.scored, tokens, 0)
    totals = jnp.sum(batch.weights, axis=-1, keepdims=True)
    weight = jnp.ones((), counts.dtype)
    if name in _COMBINES_WEIGHTS:
        weight = jnp.mean(totals)
        totals = jnp.full_like(totals, weight)
        weight = jnp.where(weight > 0, weight, 1)
    shares = numerics.safe_divide(batch.weights, totals)
    return Facts(
        batch=batch,
        advantages=jnp.asarray(advantages).reshape(counts.shape),
        total=group.centred_sum(batch, ddof=ddof),
        scores=group.standard_scores(batch, ddof=ddof, epsilon=epsilon),
        count=jnp.sum(batch.scored, axis=-1, dtype=counts.dtype),
        counts=counts,
        shares=jnp.broadcast_to(shares, (len(counts), shares.shape[-1])),
        weight=weight,
        knobs=knobs,
    )


# Combinations, in units of the sum of the weights: after the whitening only their ratios matter.


def mean_score(facts: Facts) -> Array:
    """AC and GDPO: the weighted mean of the z-scores."""
    return group.weighted_sum(facts.scores.values, facts.shares)


def combined_soft_minimum(facts: Facts) -> Array:
    """RVPO: the soft minimum of the z-scores."""
    sharpness = facts.knobs["sharpness"]
    return soft_minimum(facts.scores.values, facts.shares, sharpness=sharpness)


def combined_penalised_mean(facts: Facts) -> Array:
    """RVPO with the explicit penalty: the mean minus the variance of the z-scores."""
    penalty = facts.knobs["penalty"]
    return penalised_mean(facts.scores.values, facts.shares, penalty=penalty)


def stretched_score(facts: Facts) -> Array:
    """Asymmetric DARA: the mean of the z-scores with their positive parts stretched."""
    stretched = stretch(facts.scores.values, factors(facts.batch, cap=facts.knobs["cap"]))
    return group.weighted_sum(stretched, facts.shares)


class Whitening(NamedTuple):
    """The last step of GDPO and RVPO on one batch.

    Attributes:
        mean: `[]`, of the values before it, each counted `Facts.counts` times.
        deviation: `[]`, their standard deviation; 0 if it is only rounding error.
        divisor: `[]`, the deviation with its epsilons; 0 if the deviation is 0.
    """

    mean: Array
    deviation: Array
    divisor: Array


def whitening_of(facts: Facts, combine: Combination) -> Whitening:
    """The expected whitening of the advantages."""
    values = combine(facts)
    batch = whitening.batch_moments(values, facts.counts, ddof=facts.knobs["ddof"])
    sizes = group.weighted_sum(jnp.abs(facts.scores.values), facts.shares)
    scale = whitening.root_mean_square(sizes, facts.counts)
    is_rounding = batch.deviation <= jnp.finfo(scale.dtype).eps ** 0.5 * scale
    # verl adds its epsilon to the variance, the others to the deviation.
    inside = facts.knobs.get("variance_epsilon", 0.0) / facts.weight**2
    outside = 0.0 if "variance_epsilon" in facts.knobs else facts.knobs["epsilon"] / facts.weight
    divisor = numerics.safe_sqrt(batch.deviation**2 + inside) + outside
    return Whitening(
        mean=numerics.safe_divide(jnp.sum(facts.counts * values), jnp.sum(facts.counts)),
        deviation=jnp.where(is_rounding, 0, batch.deviation),
        divisor=jnp.where(is_rounding, 0, divisor),
    )


# Views.


def rloo_view(facts: Facts) -> Facts:
    """RLOO as Dr.GRPO with the weights `w_k n_k / (n_k - 1)`."""
    count = group.statistics(facts.batch, ddof=0).count
    weights = jnp.broadcast_to(facts.batch.weights, count.shape)
    batch = facts.batch._replace(weights=weights * numerics.safe_divide(count, count - 1))
    return facts._replace(batch=batch, total=group.centred_sum(batch, ddof=0))


def reweighted(weigh: Callable[..., Array], knobs: tuple[str, ...], facts: Facts) -> Facts:
    """The facts under the weights `weigh(batch, **knobs)`.

    Args:
        weigh: a function of the method, from a batch and knobs to `[K]` or `[B, K]` weights.
        knobs: the names of the knobs that it takes.
        facts: under the configured weights.
    """
    weights = weigh(facts.batch, **{knob: facts.knobs[knob] for knob in knobs})
    weights = jnp.broadcast_to(weights, facts.shares.shape)
    batch = facts.batch._replace(weights=weights)
    unit = jnp.mean(jnp.sum(weights, axis=-1))
    unit = jnp.where(unit > 0, unit, 1)
    return facts._replace(
        batch=batch,
        total=group.centred_sum(batch, ddof=facts.knobs.get("ddof", 0)),
        shares=weights / unit,
        weight=unit,
    )


def own_weights(batch: group.GroupedRewards) -> Array:
    """The configured weights."""
    return batch.weights


def kept_hard(facts: Facts) -> Facts:
    """GD2PO: only the completions without conflict."""
    return _kept(facts, ~gd2po.in_conflict(facts.scores.values, facts.batch.weights))


def kept_snr(facts: Facts) -> Facts:
    """GD2PO: only the completions without conflict or with a clear consensus."""
    is_weak = jnp.abs(consensus(facts)) < facts.knobs["threshold"]
    conflict = gd2po.in_conflict(facts.scores.values, facts.batch.weights)
    return _kept(facts, ~(conflict & is_weak))


def consensus(facts: Facts) -> Array:
    """`[B, G]`, q of GD2PO."""
    return gd2po.consensus(facts.scores.values, facts.batch.weights)


def _kept(facts: Facts, is_kept: Array) -> Facts:
    facts = reweighted(own_weights, (), facts)
    kept = is_kept & facts.batch.scored
    share = numerics.safe_divide(jnp.sum(kept, axis=-1, dtype=facts.count.dtype), facts.count)
    values = facts.scores.values * share[:, None, None]  # which scales their sums
    return facts._replace(
        batch=facts.batch._replace(where=facts.batch.where & kept[..., None]),
        scores=facts.scores._replace(values=values),
        counts=kept.astype(facts.counts.dtype),
    )


def over_the_batch(facts: Facts) -> Facts:
    """REINFORCE++: rewards minus the batch's mean as scores; every group has a signal."""
    objectives = group.statistics(facts.batch, ddof=0)
    departures = batches.statistics(objectives, ddof=0).departures
    values = objectives.centred + jnp.where(facts.batch.scored[..., None], departures[:, None], 0)
    facts = _in_units_of_rewards(facts, values)
    return facts._replace(scores=facts.scores._replace(has_signal=facts.count >= 0))


def over_the_groups(facts: Facts) -> Facts:
    """REINFORCE++ with a baseline: rewards minus the group's mean as scores."""
    return _in_units_of_rewards(facts, group.statistics(facts.batch, ddof=0).centred)


def _in_units_of_rewards(facts: Facts, values: Array) -> Facts:
    """The facts with `values` `[B, G, K]` as scores, divided by one number to be of order 1."""
    weights = facts.batch.group_weights
    size = whitening.root_mean_square(group.weighted_sum(jnp.abs(values), weights), facts.counts)
    size = jnp.where(size > 0, size, 1)
    return facts._replace(
        scores=facts.scores._replace(values=values / size), shares=weights, weight=size
    )


# Units.


def inverse_scale(facts: Facts) -> Array:
    """Dr.GRPO, RLOO and OPO: `1 / S`."""
    return facts.inverse_scale


def rc_units(facts: Facts) -> Array:
    """RC and GRPO: `sigma_sum + epsilon` over `S`; 0 if the objectives cancel."""
    damping = facts.knobs["epsilon"] * facts.inverse_scale
    return jnp.where(facts.agreement > 0, facts.agreement + damping, 0)


def dvao_units(facts: Facts) -> Array:
    """DVAO: `S + epsilon` over `S`; 0 if no objective with a weight varies."""
    damping = facts.knobs["epsilon"] * facts.inverse_scale
    return jnp.where(facts.total.scale > 0, 1 + damping, 0)


def interpolated_units(facts: Facts) -> Array:
    """Interpolated DVAO: its divisor over `S`."""
    caution = facts.knobs["caution"]
    damping = facts.knobs["epsilon"] * facts.inverse_scale
    units = jnp.sqrt((1 - caution) * facts.agreement**2 + caution)
    return jnp.where((facts.total.scale > 0) & (units > 0), units + damping, 0)


def shrunk_units(facts: Facts) -> Array:
    """Shrunk DVAO: the weighted sum of the shrunk deviations over `S`."""
    objectives = group.statistics(facts.batch, ddof=facts.knobs["ddof"])
    deviation = shrunk(objectives.deviation, spread_of(objectives))
    deviation = jnp.where(objectives.count >= 2, deviation, 0)
    scale = group.weighted_sum(deviation, facts.batch.weights) + facts.knobs["epsilon"]
    return jnp.where(facts.total.scale > 0, scale * facts.inverse_scale, 0)


def ac_units(facts: Facts) -> Array:
    """AC: 1 over the sum of the weights."""
    total = jnp.broadcast_to(jnp.sum(facts.batch.weights, axis=-1), facts.count.shape)
    return numerics.safe_divide(jnp.ones_like(total), total)


def whitened_units(combine: Combination, facts: Facts) -> Array:
    """GDPO and RVPO: the divisor of the whitening; 0 if the whole batch cancels."""
    return jnp.broadcast_to(whitening_of(facts, combine).divisor, facts.count.shape)


def lite_units(facts: Facts) -> Array:
    """Lite PPO: the batch's divisor over `S`, from the largest advantage and the largest `c`."""
    largest = jnp.max(jnp.abs(facts.total.centred), initial=0)
    divisor = numerics.safe_divide(largest, jnp.max(jnp.abs(facts.advantages), initial=0))
    return divisor * facts.inverse_scale


def corr_units(facts: Facts) -> Array:
    """CorrGRPO: its divisor over `S`; 0 if the correlations cancel."""
    objectives = group.statistics(facts.batch, ddof=0)
    correlations, num_counted = sum_of_correlations(objectives, facts.batch.weights)
    rounding = jnp.finfo(correlations.dtype).eps ** 0.5
    divisor = numerics.safe_sqrt(correlations + facts.knobs["variance_epsilon"])
    cancels = numerics.safe_sqrt(correlations) <= rounding * num_counted
    return jnp.where(cancels, 0, divisor * facts.inverse_scale)


def corr_gdpo_units(facts: Facts) -> Array:
    """CorrGDPO: its divisor over the sum of the weights; 0 if the correlations cancel."""
    columns = facts.scores.values * facts.batch.group_weights[:, None]
    correlations, num_counted = sum_over_the_batch(columns, facts.batch.scored)
    rounding = jnp.finfo(correlations.dtype).eps ** 0.5
    cancels = numerics.safe_sqrt(correlations) <= rounding * num_counted
    divisor = numerics.safe_sqrt(correlations + facts.knobs["variance_epsilon"])
    return jnp.where(cancels, 0, divisor * ac_units(facts))


def maxrl_units(facts: Facts) -> Array:
    """MaxRL: its divisor over `S`; 0 if the mean is only rounding error."""
    mean, size = mean_and_size(group.statistics(facts.batch, ddof=0), facts.batch.weights)
    is_rounding = mean <= jnp.finfo(mean.dtype).eps ** 0.5 * size
    return jnp.where(is_rounding, 0, (mean + facts.knobs["epsilon"]) * facts.inverse_scale)


def tchebycheff_moments(facts: Facts) -> tuple[numerics.Moments, Array]:
    """Moments of the scalarised rewards of each group, and `[B]` the size of their terms."""
    knobs = {knob: facts.knobs[knob] for knob in ("ideal", "augmentation")}
    values, scale = scalarised(facts.batch, group.statistics(facts.batch, ddof=0), **knobs)
    moments = partial(numerics.moments, ddof=facts.knobs["ddof"])
    return jax.vmap(moments)(values, facts.batch.scored), scale


def tchebycheff_units(facts: Facts) -> Array:
    """Tchebycheff: its divisor over `S`; 0 if the scalarised rewards are only rounding error."""
    moments, scale = tchebycheff_moments(facts)
    is_rounding = moments.deviation <= jnp.finfo(scale.dtype).eps ** 0.5 * scale
    divisor = moments.deviation + facts.knobs["epsilon"]
    return jnp.where(is_rounding, 0, divisor * facts.inverse_scale)


def rdpo_units(facts: Facts) -> Array:
    """RDPO: 1 over the largest possible gain of the inverse root, times the sum of the weights."""
    total = jnp.broadcast_to(jnp.sum(facts.batch.weights, axis=-1), facts.count.shape)
    return numerics.safe_divide(jnp.sqrt(jnp.asarray(facts.knobs["shrinkage"], total.dtype)), total)
