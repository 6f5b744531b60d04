"""SAPO, Soft Adaptive Policy Optimization (arXiv:2511.20347)."""

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax.losses.ratios import SurrogateInfo, log_ratios, require_positive, surrogate_info
from dvaojax.losses.reductions import Reduction, sequence_mean
from dvaojax.losses.tokens import advantages_on_tokens
from dvaojax.numerics import Mean


def sapo(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = sequence_mean,
    tau_positive: float = 1.0,
    tau_negative: float = 1.05,
) -> tuple[Mean, SurrogateInfo]:
    r"""A soft gate instead of a clip: the gradient decays with the distance from ratio 1.

    $$ L_t = -f(\rho_t) A_t \quad\text{with}\quad
       f(\rho) = \tfrac{4}{\tau}\,\mathrm{sigmoid}(\tau(\rho - 1)) $$

    (Qwen team, arXiv:2511.20347; verl 018f23b5.) The slope of the gate is 1 at ratio 1 for every
    temperature and decays on both sides; its value there, $2/\tau$, has no meaning. A larger
    temperature decays faster, and the one for advantages that are not positive is larger by
    default, because lowering the probability of a token raises that of all others.

    Not to be confused with: a soft version of the clip of `clipped_surrogate`, which removes the
    gradient on one side only. The gate decays in both directions, so that the gradient that brings
    back a token that has moved against its advantage is reduced too.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens are averaged.
        tau_positive: temperature of the gate where the advantage is positive, above 0.
        tau_negative: temperature of the gate elsewhere, above 0.

    Returns:
        The loss as sum and count, and the metrics to log; nothing is clipped.

    Raises:
        ValueError: a temperature is not positive and finite.
    """
    require_positive(tau_positive=tau_positive, tau_negative=tau_negative)
    log_ratio = log_ratios(logp, logp_old, where)
    advantages = advantages_on_tokens(advantages, where, dtype=log_ratio.dtype)
    tau = jnp.where(advantages > 0, tau_positive, tau_negative).astype(log_ratio.dtype)
    gate = 4.0 / tau * jax.nn.sigmoid(tau * (jnp.exp(log_ratio) - 1.0))
    info = surrogate_info(log_ratio, jnp.zeros_like(where), advantages, where)
    return reduce(-gate * advantages, where), info
