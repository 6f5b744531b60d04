"""What the propositions about one batch speak of, recomputed from its rewards."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import aggregators, numerics
from dvaojax.aggregators._core import group, whitening


class Facts(NamedTuple):
    """A batch, the advantages that are examined, and the quantities of the papers.

    Attributes:
        batch: the rewards, their weights and what counts.
        advantages: `[B, G]`, what is examined.
        total: `c`, `sigma_sum` and `S` of each group.
        scores: z-scores `A_k`, with the epsilon of the method, and which groups are alive.
        count: `[B]` completions that were scored.
        counts: `[B, G]` how often the batch's mean counts each completion: 1, or its tokens.
        shares: `[B, K]` the weights with sum 1; of GDPO, with a sum whose mean over groups is 1.
        weight: `[]` what the method's own weights are of those shares: 1 where it takes shares.
        knobs: what the aggregator was called with, its defaults included.
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
        """`[B]` `sigma_sum / S`; 0 where the objectives cancel to rounding or none varies."""
        ratio = numerics.safe_divide(self.total.deviation, self.total.scale)
        return jnp.where(ratio <= jnp.finfo(ratio.dtype).eps ** 0.5, 0, ratio)

    @property
    def unit(self) -> Array:
        """`[B, G]` `c / S`."""
        return numerics.safe_divide(self.total.centred, self.total.scale[:, None])

    @property
    def in_spreads(self) -> Array:
        """`[B]` `1 / S`: what brings a reward to units of `S`; 0 where nothing varies."""
        return numerics.safe_divide(jnp.ones_like(self.total.scale), self.total.scale)

    @property
    def mean_square_of_scores(self) -> Array:
        """`[B]` 1 for the population's deviation, `(n - 1) / n` for the sample's."""
        return numerics.safe_divide(self.count - self.knobs.get("ddof", 0), self.count)

    @property
    def teaches(self) -> Array:
        """`[B, G]` completions that were scored, in groups where some objective varies."""
        return self.batch.scored & self.scores.has_signal[:, None]

    def mean(self, values: Array) -> Array:
        """`[B, G]` to `[B]`, over the completions that were scored."""
        total = numerics.masked_sum(values, self.batch.scored, axis=-1)
        return numerics.safe_divide(total, self.count)


class Whitening(NamedTuple):
    """What the last step of GDPO and RVPO does to a batch.

    Attributes:
        mean: `[]` of the values before it, each as often as it counts.
        deviation: `[]` their standard deviation; 0 where it is nothing but rounding.
        divisor: `[]` the deviation with its epsilons; 0 where that is.
    """

    mean: Array
    deviation: Array
    divisor: Array


# What these whiten is in units of the weights, and so are the epsilons that they add to it.
_COMBINES_WEIGHTS = ("gdpo", "gdpo_token_weighted")

Combine = Callable[[Facts], Array]  # to `[B, G]`, one number per completion before the whitening


def whitening_of(facts: Facts, combine: Combine) -> Whitening:
    """The whitening that the advantages should have gone through."""
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
    """The facts about a batch and what the aggregator of that name made of it.

    Args:
        name: a key of `aggregators.METHODS`.
        rewards: `[..., G, K]`, as the aggregator was given them.
        weights: `[K]` or `[..., K]`.
        advantages: `[..., G]`.
        mask: `[..., G, K]` bool or None.
        lengths: `[..., G]` or None.
        knobs: those that the aggregator was called with.
    """
    batch = group.mask_nonfinite(rewards, weights, mask)
    knobs = {**aggregators.knobs_of(aggregators.METHODS[name]), **knobs}
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
