"""What every method does first: the door, and the statistics of one group.

`open_batch` checks the shapes, masks or refuses what is not finite and makes the leading axes one;
`statistics` looks at one objective of one group at a time and is mapped over both.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from dvaojax import numerics


class Batch(NamedTuple):
    """Rewards that are fit for arithmetic, with their leading axes made one.

    Attributes:
        rewards: `[B, G, K]` float32 or float64; anything where `where` is false.
        weights: `[K]` or `[B, K]`, of the rewards' type.
        where: `[B, G, K]` bool, true where an objective was scored and the reward is finite.
    """

    rewards: Array
    weights: Array
    where: Array

    @property
    def scored(self) -> Array:
        """`[B, G]` bool, true for a completion that was scored on some objective."""
        return jnp.any(self.where, axis=-1)

    @property
    def group_weights(self) -> Array:
        """`[B, K]` the weights of each group."""
        return jnp.broadcast_to(self.weights, self.rewards.shape[::2])


def open_batch(rewards: ArrayLike, weights: ArrayLike, mask: ArrayLike | None) -> Batch:
    """Check what an aggregator was given, and make it ready for arithmetic.

    Args:
        rewards: `[..., G, K]`; a type narrower than float32 is widened before any arithmetic.
        weights: `[K]`, or `[..., K]` with the leading axes of the rewards.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored; None
            if all were.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is NaN or infinite, or a weight is negative.
            Inside jit such a reward is masked.
    """
    batch = mask_nonfinite(rewards, weights, mask)
    with jax.ensure_compile_time_eval():
        if _are_known(rewards, mask) and (refused := int(count_nonfinite(rewards, mask))):
            raise ValueError(
                f"{refused} of {jnp.size(rewards)} rewards are NaN or infinite; "
                "mask what was not scored"
            )
        if _are_known(weights) and not jnp.all(jnp.asarray(weights) >= 0):
            raise ValueError(f"a weight is negative or NaN: {weights}; negate the reward instead")
    return batch


def _are_known(*arrays: ArrayLike | None) -> bool:
    """Whether the values can be looked at: they are not while jit or grad traces them."""
    return not any(isinstance(array, Tracer) for array in arrays)


def count_nonfinite(rewards: ArrayLike, mask: ArrayLike | None) -> Array:
    """How many rewards that should count are NaN or infinite, int32."""
    bad = ~jnp.isfinite(jnp.asarray(rewards))
    return jnp.sum(bad if mask is None else bad & jnp.asarray(mask), dtype=jnp.int32)


def mask_nonfinite(rewards: ArrayLike, weights: ArrayLike, mask: ArrayLike | None) -> Batch:
    """`open_batch` without its refusals: what is not finite is masked.

    Raises:
        AssertionError: the shapes do not fit.
    """
    rewards = jnp.asarray(rewards)
    rewards = rewards.astype(jnp.float64 if rewards.dtype == jnp.float64 else jnp.float32)
    weights = jnp.asarray(weights).astype(rewards.dtype)
    chex.assert_rank(rewards, set(range(2, 9)))
    *leading, group_size, num_objectives = rewards.shape
    chex.assert_shape(weights, (*(leading if weights.ndim > 1 else ()), num_objectives))
    where = jnp.isfinite(rewards)
    if mask is not None:
        chex.assert_shape(mask, rewards.shape)
        chex.assert_type(mask, bool)
        where &= jnp.asarray(mask)
    num_groups = math.prod(leading)
    flat = (num_groups, group_size, num_objectives)
    return Batch(
        rewards=rewards.reshape(flat),
        weights=weights if weights.ndim == 1 else weights.reshape(num_groups, num_objectives),
        where=where.reshape(flat),
    )


def statistics(batch: Batch, *, ddof: int) -> numerics.Moments:
    """Moments of each objective within each group.

    Written for one objective of one group, `numerics.moments`, and mapped over both.

    Args:
        batch: what `open_batch` returned.
        ddof: 0 for the population's standard deviation, 1 for the sample's.

    Returns:
        Moments with `centred` as `[B, G, K]` (0 where masked: a masked objective counts as its
        group's mean) and the rest as `[B, K]`.
    """

    def one_objective(values: Array, where: Array) -> numerics.Moments:
        return numerics.moments(values, where, ddof=ddof)

    one_group = jax.vmap(one_objective, in_axes=-1, out_axes=-1)
    return jax.vmap(one_group)(batch.rewards, batch.where)


def weighted_sum(values: Array, weights: Array) -> Array:
    """`sum_k w_k values_k`: `[B, G, K]` to `[B, G]`, or `[B, K]` to `[B]`.

    Args:
        values: `[B, G, K]` or `[B, K]`, one number per objective.
        weights: `[K]`, or `[B, K]` for weights of each group's own.
    """
    # Without HIGHEST an accelerator would round both sides to bfloat16 first.
    group = "" if weights.ndim == 1 else "b"
    completion = "g" if values.ndim == 3 else ""
    return jnp.einsum(
        f"b{completion}k,{group}k->b{completion}",
        values,
        weights,
        precision=jax.lax.Precision.HIGHEST,
    )


def is_alive(deviation: Array) -> Array:
    """Which groups can teach anything: those where some objective varies, `[B, K]` to `[B]`."""
    return jnp.any(deviation > 0, axis=-1)


class Sum(NamedTuple):
    """The weighted sum of the objectives, centred within its group.

    Attributes:
        centred: `[B, G]` `c = sum_k w_k (r_k - mu_k)`; 0 for a completion that was not scored.
        deviation: `[B]` `sigma_sum`, the standard deviation of `c`.
        scale: `[B]` `S = sum_k w_k sigma_k`, what `sigma_sum` would be if no objectives disagreed.
    """

    centred: Array
    deviation: Array
    scale: Array


def centred_sum(batch: Batch, *, ddof: int) -> Sum:
    """What every method of the centred-sum family divides, and by what (`A = c / D`)."""
    objectives = statistics(batch, ddof=ddof)
    total = weighted_sum(objectives.centred, batch.weights)
    moments = jax.vmap(lambda values, where: numerics.moments(values, where, ddof=ddof))
    return Sum(
        centred=total,
        deviation=moments(total, batch.scored).deviation,
        scale=weighted_sum(objectives.deviation, batch.weights),
    )


def standardised_sum(batch: Batch, *, ddof: int, epsilon: float) -> Array:
    """`c / (sigma_sum + epsilon)` as `[B, G]`; 0 where the objectives cancel to rounding."""
    total = centred_sum(batch, ddof=ddof)
    return numerics.standardise(
        total.centred,
        (total.deviation + epsilon)[:, None],
        deviation=total.deviation[:, None],
        scale=total.scale[:, None],
    )


def batch_mean(batch: Batch) -> numerics.Mean:
    """`[K]` the mean of each objective over all completions that were scored on it."""
    return numerics.Mean(
        numerics.masked_sum(batch.rewards, batch.where, axis=(0, 1)),
        jnp.sum(batch.where, axis=(0, 1), dtype=batch.rewards.dtype),
    )


def standardised(values: Array, scored: Array, scale: Array, *, ddof: int, epsilon: float) -> Array:
    """`(v - mean(v)) / (std(v) + epsilon)` within each group, `[B, G]`.

    Args:
        values: `[B, G]` one number per completion.
        scored: `[B, G]` bool, which of them count; the others get 0.
        scale: `[B]` the size of the terms that the values are made of, beside which a deviation
            is nothing but rounding, and the result 0.
        ddof: 0 for the population's standard deviation, 1 for the sample's.
        epsilon: added to the standard deviation.
    """
    moments = jax.vmap(lambda v, where: numerics.moments(v, where, ddof=ddof))(values, scored)
    return numerics.standardise(
        moments.centred,
        (moments.deviation + epsilon)[:, None],
        deviation=moments.deviation[:, None],
        scale=scale[:, None],
    )


class Scores(NamedTuple):
    """Each objective on the scale of its own group.

    Attributes:
        values: `[B, G, K]` `A_k = (r_k - mu_k) / (sigma_k + epsilon)`; 0 where masked and for an
            objective that is constant in its group.
        is_alive: `[B]` bool, true where some objective varies, so that the group can teach.
    """

    values: Array
    is_alive: Array


def standard_scores(batch: Batch, *, ddof: int, epsilon: float) -> Scores:
    """What every method of the z-score family combines."""
    objectives = statistics(batch, ddof=ddof)
    return Scores(
        values=numerics.safe_divide(
            objectives.centred, (objectives.deviation + epsilon)[:, None, :]
        ),
        is_alive=is_alive(objectives.deviation),
    )
