"""The clipped surrogate of PPO (arXiv:1707.06347), with a lower, an upper and a dual clip."""

import math

import jax.numpy as jnp
from jax import Array

from dvaojax.losses.ratios import SurrogateInfo, clipped, log_ratios, surrogate_info
from dvaojax.losses.reductions import Reduction, token_mean
from dvaojax.losses.tokens import advantages_on_tokens
from dvaojax.numerics import Mean


def clipped_surrogate(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = token_mean,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float = math.inf,
) -> tuple[Mean, SurrogateInfo]:
    r"""The clipped policy loss of PPO: a pessimistic bound on the importance-weighted objective.

    $$ L_t = -\min\big(\rho_t A_t,\; \mathrm{clip}(\rho_t, 1-\epsilon_l, 1+\epsilon_h) A_t\big)
       \quad\text{with}\quad \rho_t = \pi_t / \pi^{\mathrm{old}}_t $$

    (Schulman et al., arXiv:1707.06347, eq. 7; two epsilons as in DAPO, arXiv:2503.14476). The
    minimum equals a one-sided clip whose side depends on the sign of the advantage, and it is
    computed that way: $-A_t$ times the ratio clipped to $[0, 1+\epsilon_h]$ where $A_t \ge 0$, and
    to $[1-\epsilon_l, c]$ where $A_t < 0$. The upper bound $c$ is the dual clip (Ye et al.,
    arXiv:1912.09729, eq. 5); without it the loss is unbounded for negative advantages. A ratio on a
    bound counts as inside, so that the slope at ratio 1 is $-A_t$ for every clip range.

    The log-ratio is clipped to [-20, 20] nats, as in verl; beyond that the gradient is 0.

    GRPO (arXiv:2402.03300) is this loss with `sequence_mean`, Dr.GRPO (arXiv:2503.20783) with
    `constant_length`, and DAPO with different epsilons (`dapo`).

    Not to be confused with: a ratio that is bounded on both sides. The clip applies to the side
    selected by the sign of the advantage, and without a dual clip the gradient of a token with a
    negative advantage grows with its ratio. `gspo` clips the ratio of the whole sequence; here each
    token has its own ratio.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens are averaged.
        clip_low: width of the clip range below 1, in [0, 1].
        clip_high: width of the clip range above 1, not negative; DAPO's "clip-higher" makes it
            larger than `clip_low`.
        dual_clip: upper bound of the ratio where the advantage is negative, above 1; infinity sets
            no bound.

    Returns:
        The loss as sum and count, and the metrics to log.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: the clip range does not contain 1, or `dual_clip` is not above 1.
    """
    if not 0.0 <= clip_low <= 1.0 or not clip_high >= 0.0 or not dual_clip > 1.0:
        raise ValueError(
            "the clip range must contain 1 (clip_low in [0, 1], clip_high >= 0, dual_clip > 1), "
            f"not {clip_low=}, {clip_high=}, {dual_clip=}"
        )
    log_ratio = log_ratios(logp, logp_old, where)
    ratio = jnp.exp(log_ratio)
    advantages = advantages_on_tokens(advantages, where, dtype=ratio.dtype)
    bounded, is_clipped = clipped(
        ratio,
        jnp.where(advantages < 0, 1.0 - clip_low, 0.0),
        jnp.where(advantages < 0, dual_clip, 1.0 + clip_high),
    )
    info = surrogate_info(log_ratio, is_clipped, advantages, where)
    return reduce(-advantages * bounded, where), info
