"""Input checks that every method begins with, and statistics of groups.

`prepare_batch` checks shapes, rejects or masks values that are not finite and merges the leading
axes. `statistics` is written for one objective of one group and mapped over both.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from dvaojax import numerics


class GroupedRewards(NamedTuple):
    """Checked rewards, weights and mask, with the leading axes merged into one.

    Attributes:
        rewards: `[B, G, K]` float32 or float64; any value where `where` is false.
        weights: `[K]` or `[B, K]`, of the dtype of the rewards.
        where: `[B, G, K]` bool, true where an objective was scored and the reward is finite.
    """

    rewards: Array
    weights: Array
    where: Array

    @property
    def scored(self) -> Array:
        """`[B, G]` bool, true for completions that were scored on at least one objective."""
        return jnp.any(self.where, axis=-1)

    @property
    def group_weights(self) -> Array:
        """`[B, K]`, the weights of each group."""
        return jnp.broadcast_to(self.weights, self.rewards.shape[::2])


def prepare_batch(rewards: ArrayLike, weights: ArrayLike, mask: ArrayLike | None) -> GroupedRewards:
    """Checks the inputs of an aggregator and merges their leading axes.

    Args:
        rewards: `[..., G, K]`; dtypes narrower than float32 are converted to float32.
        weights: `[K]`, or `[..., K]` with the leading axes of the rewards.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored; None
            if all objectives of all completions were scored.

    Raises:
        TypeError: an argument is complex, or no array of numbers.
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is NaN or infinite, or a weight is negative
            or infinite.
            Traced rewards are masked instead; traced weights are not checked.
    """
    batch = mask_nonfinite(rewards, weights, mask)
    with jax.ensure_compile_time_eval():
        if _are_known(rewards, mask) and (num_bad := int(count_nonfinite(rewards, mask))):
            raise ValueError(
                f"{num_bad} of {jnp.size(rewards)} rewards are NaN or infinite; "
                "mask rewards that were not scored"
            )
        if _are_known(weights) and not jnp.all(jnp.asarray(weights) >= 0):
            raise ValueError(f"a weight is negative or NaN: {weights}; negate the reward instead")
        if _are_known(weights) and not jnp.all(jnp.isfinite(jnp.asarray(weights))):
            raise ValueError(f"a weight is infinite as {batch.weights.dtype}: {weights}")
    return batch


def _are_known(*arrays: ArrayLike | None) -> bool:
    """Whether the values are concrete, not traced by jit or grad."""
    return not any(isinstance(array, Tracer) for array in arrays)


def count_nonfinite(rewards: ArrayLike, mask: ArrayLike | None) -> Array:
    """Number of unmasked rewards that are NaN or infinite, int32."""
    bad = ~jnp.isfinite(jnp.asarray(rewards))
    return jnp.sum(bad if mask is None else bad & jnp.asarray(mask), dtype=jnp.int32)


def mask_nonfinite(
    rewards: ArrayLike, weights: ArrayLike, mask: ArrayLike | None
) -> GroupedRewards:
    """`prepare_batch` without its value checks: rewards that are not finite are masked.

    Raises:
        TypeError: an argument is complex, or no array of numbers.
        AssertionError: the shapes do not match, or the mask is not of truth values.
    """
    rewards = numerics.real_array("rewards", rewards)
    rewards = rewards.astype(jnp.float64 if rewards.dtype == jnp.float64 else jnp.float32)
    weights = numerics.real_array("weights", weights).astype(rewards.dtype)
    numerics.require_axes("rewards", rewards, range(2, 9), axes="[..., G, K]")
    _check_weights(weights, rewards)
    *leading, group_size, num_objectives = rewards.shape
    where = jnp.isfinite(rewards)
    if mask is not None:
        mask = numerics.real_array("mask", mask)
        numerics.require_shape("mask", mask, rewards.shape, axes="[..., G, K]", like="rewards")
        if mask.dtype != bool:
            raise AssertionError(f"mask is {mask.dtype}; it should be bool, true where scored")
        where &= mask
    num_groups = math.prod(leading)
    flat = (num_groups, group_size, num_objectives)
    return GroupedRewards(
        rewards=rewards.reshape(flat),
        weights=weights if weights.ndim == 1 else weights.reshape(num_groups, num_objectives),
        where=where.reshape(flat),
    )


def _check_weights(weights: Array, rewards: Array) -> None:
    """Asserts that there is one weight for each objective, or one for each of each group."""
    *leading, group_size, num_objectives = rewards.shape
    expected = (*(leading if weights.ndim > 1 else ()), num_objectives)
    if weights.shape == expected:
        return
    hint = ""
    if weights.ndim == 2 and rewards.ndim == 2 and group_size % len(weights) == 0:
        hint = "; rewards is flat [B*G, K]: reshape to [B, G, K]"
    elif weights.shape == (group_size,):
        hint = "; is rewards [..., K, G]? The objectives are the last axis"
    elif weights.shape == (1,):
        hint = "; a single objective needs its axis: rewards[..., None]"
    axes = "[K]" if weights.ndim < 2 else "[..., K]"
    raise AssertionError(
        f"weights has shape {list(weights.shape)}; {axes} should be {list(expected)} for rewards "
        f"[..., G, K] of shape {list(rewards.shape)}{hint}"
    )


def check_lengths(lengths: ArrayLike, rewards: ArrayLike) -> None:
    """Asserts that there is one length for each completion.

    Args:
        lengths: `[..., G]`.
        rewards: `[..., G, K]`.

    Raises:
        AssertionError: the shapes do not match.
    """
    expected = jnp.shape(rewards)[:-1]
    numerics.require_shape("lengths", lengths, expected, axes="[..., G]", like="rewards")


def turns(turn_rewards: ArrayLike, is_turn: ArrayLike) -> tuple[Array, Array]:
    """The arguments of the methods for episodes, `[..., G, S]` each, as arrays.

    Raises:
        TypeError: an argument is complex, or no array of numbers.
        AssertionError: the shapes do not match.
    """
    rewards, turn = numerics.real_array("turn_rewards", turn_rewards), jnp.asarray(is_turn)
    numerics.require_axes("turn_rewards", rewards, range(2, 9), axes="[..., G, S]")
    numerics.require_shape("is_turn", turn, rewards.shape, axes="[..., G, S]", like="turn_rewards")
    return rewards, turn


def statistics(batch: GroupedRewards, *, ddof: int) -> numerics.Moments:
    """Moments of each objective within each group.

    This is `numerics.moments`, written for one objective of one group, mapped over both.

    Args:
        batch: from `prepare_batch`.
        ddof: 0 for the population's standard deviation, 1 for the sample's.

    Returns:
        Moments with `centred` of shape `[B, G, K]` (0 where masked: a masked reward is treated as
        equal to its group's mean) and the other fields of shape `[B, K]`.
    """

    def one_objective(values: Array, where: Array) -> numerics.Moments:
        return numerics.moments(values, where, ddof=ddof)

    one_group = jax.vmap(one_objective, in_axes=-1, out_axes=-1)
    return jax.vmap(one_group)(batch.rewards, batch.where)


def weighted_sum(values: Array, weights: Array) -> Array:
    """`sum_k w_k values_k`: `[B, G, K]` to `[B, G]`, or `[B, K]` to `[B]`.

    Args:
        values: `[B, G, K]` or `[B, K]`, one number per objective.
        weights: `[K]`, or `[B, K]` for different weights in each group.
    """
    group = "" if weights.ndim == 1 else "b"
    completion = "g" if values.ndim == 3 else ""
    # Without HIGHEST an accelerator would round both operands to bfloat16 first.
    product = functools.partial(
        jnp.einsum, f"b{completion}k,{group}k->b{completion}", precision=jax.lax.Precision.HIGHEST
    )
    return numerics.with_automatic_axes(product, values, weights, axes=slice(-1))


def has_signal(deviation: Array) -> Array:
    """Whether some objective varies in a group, `[B, K]` deviations to `[B]` bool."""
    return jnp.any(deviation > 0, axis=-1)


class CentredSum(NamedTuple):
    """The weighted sum of the objectives, centred within its group.

    Attributes:
        centred: `[B, G]`, `c = sum_k w_k (r_k - mu_k)`; 0 for a completion that was not scored.
        deviation: `[B]`, `sigma_sum`, the standard deviation of `c`.
        scale: `[B]`, `S = sum_k w_k sigma_k`, equal to `sigma_sum` if all objectives are perfectly
            correlated.
    """

    centred: Array
    deviation: Array
    scale: Array


def centred_sum(batch: GroupedRewards, *, ddof: int) -> CentredSum:
    """Numerator and possible divisors of the methods of the centred-sum family, `A = c / D`."""
    objectives = statistics(batch, ddof=ddof)
    total = weighted_sum(objectives.centred, batch.weights)
    moments = jax.vmap(lambda values, where: numerics.moments(values, where, ddof=ddof))
    return CentredSum(
        centred=total,
        deviation=moments(total, batch.scored).deviation,
        scale=weighted_sum(objectives.deviation, batch.weights),
    )


def standardised_sum(batch: GroupedRewards, *, ddof: int, epsilon: float) -> Array:
    """`c / (sigma_sum + epsilon)` as `[B, G]`; 0 where the objectives cancel to rounding error."""
    total = centred_sum(batch, ddof=ddof)
    return numerics.standardise(
        total.centred,
        (total.deviation + epsilon)[:, None],
        deviation=total.deviation[:, None],
        scale=total.scale[:, None],
    )


def batch_mean(batch: GroupedRewards) -> numerics.Mean:
    """`[K]`, the mean of each objective over all completions that were scored on it."""
    return numerics.Mean(
        numerics.masked_sum(batch.rewards, batch.where, axis=(0, 1)),
        jnp.sum(batch.where, axis=(0, 1), dtype=batch.rewards.dtype),
    )


def standardised(values: Array, scored: Array, scale: Array, *, ddof: int, epsilon: float) -> Array:
    """`(v - mean(v)) / (std(v) + epsilon)` within each group, `[B, G]`.

    Args:
        values: `[B, G]`, one number per completion.
        scored: `[B, G]` bool, the values that count; the others get 0.
        scale: `[B]`, the size of the terms that the values are sums of; a deviation that is only
            rounding error of these terms gives 0.
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


class ZScores(NamedTuple):
    """Z-scores of each objective within its group.

    Attributes:
        values: `[B, G, K]`, `A_k = (r_k - mu_k) / (sigma_k + epsilon)`; 0 where masked and for an
            objective that is constant in its group.
        has_signal: `[B]` bool, true where some objective varies in the group.
    """

    values: Array
    has_signal: Array


def standard_scores(batch: GroupedRewards, *, ddof: int, epsilon: float) -> ZScores:
    """Z-scores that the methods of the z-score family combine."""
    objectives = statistics(batch, ddof=ddof)
    return ZScores(
        values=numerics.safe_divide(
            objectives.centred, (objectives.deviation + epsilon)[:, None, :]
        ),
        has_signal=has_signal(objectives.deviation),
    )
