"""Parts shared by the losses: bounded log-ratios, clips, and the metrics to log."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax.losses.kl import k3
from dvaojax.losses.tokens import on_tokens
from dvaojax.numerics import (
    MAX_EXPONENT,
    Mean,
    masked_mean,
    masked_sum,
    real_array,
    require_shape,
    safe_divide,
)


class SurrogateInfo(NamedTuple):
    """Metrics of a loss: means over tokens for every reduction, without gradient; scalars.

    Attributes:
        ratio: probability of a token under the policy divided by that under the old policy; 1
            before the first update.
        clip_fraction: share of tokens with nonzero advantage on which the loss's bound is active.
            Most losses give such a token no gradient; CISPO and MinPRO bound its weight; SAPO and
            LCO have no bound.
        approximate_kl: `KL(old || new)` in nats, by k3 over the tokens sampled by the old policy.
    """

    ratio: Mean
    clip_fraction: Mean
    approximate_kl: Mean


def log_ratios(logp: ArrayLike, logp_old: ArrayLike, where: ArrayLike) -> Array:
    """`log(pi_t / pi_old_t)`, clipped to [-20, 20] nats as in verl; no gradient beyond that.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the old policy; no gradient flows through it.
        where: `[..., T]` bool, true on sampled tokens.

    Returns:
        `[..., T]` in float32 or wider, 0 where `where` is false.

    Raises:
        AssertionError: the shapes do not fit, or a dtype is another one.
        TypeError: an argument is complex, or no array of numbers.
    """
    logp, logp_old = real_array("logp", logp), real_array("logp_old", logp_old)
    require_shape("logp_old", logp_old, logp.shape, axes="[..., T]", like="logp")
    new, old = on_tokens(logp, where, name="logp"), on_tokens(logp_old, where, name="logp_old")
    difference = new - jax.lax.stop_gradient(old)
    return jnp.clip(difference, -MAX_EXPONENT, MAX_EXPONENT)


def clipped(values: Array, lowest: ArrayLike, highest: ArrayLike) -> tuple[Array, Array]:
    """`values` clipped to two bounds, elementwise, and where they were outside.

    A value on a bound counts as inside and keeps its gradient; a value outside has none.
    """
    bounds = [jnp.asarray(bound, values.dtype) for bound in (lowest, highest)]
    is_outside = (values < bounds[0]) | (values > bounds[1])
    bounded = jnp.clip(jax.lax.stop_gradient(values), *bounds)
    return jnp.where(is_outside, bounded, values), is_outside


def pessimistic(ratio: Array, advantages: Array, *, low: float, high: float) -> tuple[Array, Array]:
    """The factor of `A` in `min(ratio A, clip(ratio, low, high) A)`, elementwise.

    The minimum equals a one-sided clip: at `high` where the advantage is not negative, at `low`
    where it is negative.

    Returns:
        The bounded ratio, and where it was outside its bound.
    """
    is_negative = advantages < 0
    return clipped(
        ratio, jnp.where(is_negative, low, -jnp.inf), jnp.where(is_negative, jnp.inf, high)
    )


def sequence_means(values: Array, where: Array) -> Array:
    """`[..., T]` to `[..., 1]`: the mean over each sequence's tokens; 0 without tokens."""
    lengths = jnp.sum(where, axis=-1, dtype=values.dtype)
    return safe_divide(masked_sum(values, where, axis=-1), lengths)[..., None]


def surrogate_info(
    log_ratio: Array, is_bounded: Array, advantages: Array, where: Array
) -> SurrogateInfo:
    """The metrics of a loss.

    Args:
        log_ratio: `[..., T]`, the result of `log_ratios`.
        is_bounded: `[..., T]` bool, where the loss's bound is active.
        advantages: `[..., T]`; a token with advantage 0 is not counted as bounded.
        where: `[..., T]` bool, true on sampled tokens.
    """
    acts = (is_bounded & (advantages != 0)).astype(log_ratio.dtype)
    info = SurrogateInfo(
        ratio=masked_mean(jnp.exp(log_ratio), where),
        clip_fraction=masked_mean(acts, where),
        approximate_kl=masked_mean(k3(jnp.zeros_like(log_ratio), log_ratio), where),
    )
    return jax.lax.stop_gradient(info)


def require_range(*, clip_low: float, clip_high: float) -> None:
    """Raise `ValueError` unless [1 - clip_low, 1 + clip_high] contains 1 and no negative number."""
    if not 0.0 <= clip_low <= 1.0 or not clip_high >= 0.0:
        raise ValueError(
            "the clip range must contain 1 (clip_low in [0, 1], clip_high >= 0), "
            f"not {clip_low=}, {clip_high=}"
        )


def require_positive(**knobs: float) -> None:
    """Raise `ValueError` unless every knob is finite and positive."""
    for name, value in knobs.items():
        if not 0.0 < value < float("inf"):
            raise ValueError(f"{name}={value} must be finite and positive")
