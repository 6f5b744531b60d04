"""MinPRO, the Minimum Prefix Ratio (arXiv:2601.22718)."""

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


def minpro(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = token_mean,
    clip_low: float = 1.0,
    clip_high: float = 0.28,
) -> tuple[Mean, SurrogateInfo]:
    r"""`cispo` with the weight multiplied by the smallest ratio of the preceding tokens.

    $$ L_t = -\mathrm{sg}\big[\mathrm{clip}(\min_{j < t}\rho_j \; \rho_t,\;
       1-\epsilon_l, 1+\epsilon_h)\big] A_t \log\pi_t $$

    (Lei, Cheng and Tao, arXiv:2601.22718.) The exact off-policy weight of a token is the product of
    the ratios of all tokens up to it, whose variance grows with the length. MinPRO replaces the
    product over the prefix by its smallest ratio. The first token has no prefix and weight
    $\rho_1$.

    Not to be confused with: a weight that is always below the token's own ratio. The smallest ratio
    never grows along a sequence, and once it is at most 1 the weight is at most $\rho_t$; before
    that it may exceed $\rho_t$. Nor is it the exact product, which may explode, or a mean over the
    sequence as in `gspo`: later tokens do not affect a token's weight.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored, also
            in prefixes.
        reduce: how the tokens are averaged.
        clip_low: width of the clip range below 1, in [0, 1]. The paper's ranges were not available;
            the defaults are those of `cispo`.
        clip_high: width of the clip range above 1, not negative.

    Returns:
        The loss as sum and count, and the metrics to log; `clip_fraction` counts bounded weights.

    Raises:
        ValueError: the clip range does not contain 1.
    """
    require_range(clip_low=clip_low, clip_high=clip_high)
    log_ratio = log_ratios(logp, logp_old, where)
    advantages = advantages_on_tokens(advantages, where, dtype=log_ratio.dtype)
    fixed = jax.lax.stop_gradient(log_ratio)
    weight, is_clipped = clipped(
        jnp.exp(smallest_before(fixed, where) + fixed), 1.0 - clip_low, 1.0 + clip_high
    )
    info = surrogate_info(log_ratio, is_clipped, advantages, where)
    return reduce(-weight * advantages * on_tokens(logp, where, name="logp"), where), info


def smallest_before(log_ratio: Array, where: Array) -> Array:
    """`[..., T]`: the smallest log-ratio of the sampled tokens before each; 0 if there is none."""
    so_far = jax.lax.cummin(jnp.where(where, log_ratio, jnp.inf), axis=where.ndim - 1)
    none = jnp.full_like(so_far[..., :1], jnp.inf)
    before = jnp.concatenate([none, so_far[..., :-1]], axis=-1)
    return jnp.where(jnp.isposinf(before), 0, before)
