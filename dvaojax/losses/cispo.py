"""CISPO, Clipped Importance Sampling Policy Optimization (arXiv:2506.13585, MiniMax-M1)."""

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax.losses.ratios import (
    SurrogateInfo,
    clipped,
    log_ratios,
    require_range,
    surrogate_info,
)
from dvaojax.losses.reductions import Reduction, token_mean
from dvaojax.losses.tokens import advantages_on_tokens, on_tokens
from dvaojax.numerics import Mean


def cispo(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = token_mean,
    clip_low: float = 1.0,
    clip_high: float = 0.28,
) -> tuple[Mean, SurrogateInfo]:
    r"""The policy gradient with a clipped importance weight: every token keeps a gradient.

    $$ L_t = -\mathrm{sg}\big[\mathrm{clip}(\rho_t, 1-\epsilon_l, 1+\epsilon_h)\big]
       A_t \log\pi_t $$

    (MiniMax, arXiv:2506.13585; verl 018f23b5.) Only the gradient is meaningful, not the value:
    $-\mathrm{clip}(\rho_t) A_t \nabla\log\pi_t$.

    Not to be confused with: a clip that sets gradients to 0, such as that of `clipped_surrogate` on
    the side selected by the sign of the advantage. CISPO bounds the *weight* of a token, on both
    sides and for either sign.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens are averaged.
        clip_low: width of the clip range below 1, in [0, 1]; 1, as in the paper, sets no bound.
        clip_high: width of the clip range above 1, not negative. The paper tunes it without stating
            its value; 0.28 is DAPO's.

    Returns:
        The loss as sum and count, and the metrics to log; `clip_fraction` counts bounded weights.

    Raises:
        ValueError: the clip range does not contain 1.
    """
    require_range(clip_low=clip_low, clip_high=clip_high)
    log_ratio = log_ratios(logp, logp_old, where)
    advantages = advantages_on_tokens(advantages, where, dtype=log_ratio.dtype)
    weight, is_clipped = clipped(
        jax.lax.stop_gradient(jnp.exp(log_ratio)), 1.0 - clip_low, 1.0 + clip_high
    )
    info = surrogate_info(log_ratio, is_clipped, advantages, where)
    return reduce(-weight * advantages * on_tokens(logp, where, name="logp"), where), info
