"""The clipped surrogate of PPO, with a lower, an upper and a dual clip."""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from dvaojax.losses.kl import k3
from dvaojax.losses.reductions import Reduction, token_mean
from dvaojax.losses.tokens import advantages_on_tokens, on_tokens
from dvaojax.numerics import MAX_EXPONENT, Mean, masked_mean


class SurrogateInfo(NamedTuple):
    """What a step logs: means over tokens, whatever the loss's reduction, without gradient.

    Attributes:
        ratio: of the policy's probability to that of the policy that sampled; 1 at first.
        clip_fraction: tokens whose ratio is clipped and which therefore have no gradient.
        approximate_kl: `KL(old || new)` in nats, by k3 over the tokens that the old one sampled.
    """

    ratio: Mean
    clip_fraction: Mean
    approximate_kl: Mean


def clipped_surrogate(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = token_mean,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> tuple[Mean, SurrogateInfo]:
    r"""The pessimistic policy loss: a ratio may improve the objective only so far.

    $$ L_t = -\min\big(\rho_t A_t,\; \mathrm{clip}(\rho_t, 1-\epsilon_l, 1+\epsilon_h) A_t\big)
       \quad\text{with}\quad \rho_t = \pi_t / \pi^{\mathrm{old}}_t $$

    (Schulman et al., arXiv:1707.06347, eq. 7; two epsilons as in DAPO, arXiv:2503.14476). The
    minimum is a clip on one side that the sign of the advantage picks, and that is how it is
    computed: $-A_t$ times the ratio clipped to $[0, 1+\epsilon_h]$ where $A_t \ge 0$, and to
    $[1-\epsilon_l, c]$ where $A_t < 0$. The last bound $c$ is the dual clip (Ye et al.,
    arXiv:1912.09729, eq. 5), without which a negative advantage has no bound. A ratio on a bound
    counts as inside it, so that the slope at ratio 1 is $-A_t$ for every clip range.

    The log-ratio ends at -20 and 20 nats, as in verl; beyond them the gradient is 0.

    With whole sequences as the unit it would be GSPO; here each token has its own ratio.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere anything may stand.
        reduce: how tokens become one mean.
        clip_low: how far below 1 the ratio may pull, in [0, 1].
        clip_high: how far above 1, not negative; DAPO's "clip-higher" sets it above `clip_low`.
        dual_clip: largest ratio that counts where the advantage is negative, above 1; None sets no
            bound.

    Returns:
        The loss as sum and count, and the numbers worth logging.

    Raises:
        ValueError: a clip range does not contain 1.
    """
    largest = math.inf if dual_clip is None else dual_clip
    if not 0.0 <= clip_low <= 1.0 or not clip_high >= 0.0 or not largest > 1.0:
        raise ValueError(f"clip range without 1: {clip_low=}, {clip_high=}, {dual_clip=}")
    chex.assert_equal_shape([logp, logp_old, where])
    log_ratio = on_tokens(logp, where) - jax.lax.stop_gradient(on_tokens(logp_old, where))
    log_ratio = jnp.clip(log_ratio, -MAX_EXPONENT, MAX_EXPONENT)
    ratio = jnp.exp(log_ratio)
    advantages = advantages_on_tokens(advantages, where, dtype=ratio.dtype)

    lowest = jnp.where(advantages < 0, 1.0 - clip_low, 0.0).astype(ratio.dtype)
    highest = jnp.where(advantages < 0, largest, 1.0 + clip_high).astype(ratio.dtype)
    is_clipped = (ratio < lowest) | (ratio > highest)
    bounded = jnp.where(is_clipped, jnp.clip(jax.lax.stop_gradient(ratio), lowest, highest), ratio)

    info = SurrogateInfo(
        ratio=masked_mean(ratio, where),
        clip_fraction=masked_mean((is_clipped & (advantages != 0)).astype(ratio.dtype), where),
        approximate_kl=masked_mean(k3(jnp.zeros_like(log_ratio), log_ratio), where),
    )
    return reduce(-advantages * bounded, where), jax.lax.stop_gradient(info)
