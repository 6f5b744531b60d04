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

    GRPO (arXiv:2402.03300) is this loss with `sequence_mean`, Dr.GRPO (arXiv:2503.20783) with
    `constant_length`, DAPO with its own epsilons (`dapo`).

    What it is confused with. A ratio that is bounded on both sides: the clip acts on the one that
    the sign of the advantage picks, and without a dual clip a bad token that has become likely is
    pushed down as hard as its ratio says. With whole sequences as the unit it would be `gspo`; here
    each token has its own ratio.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere anything may stand.
        reduce: how tokens become one mean.
        clip_low: how far below 1 the ratio may pull, in [0, 1].
        clip_high: how far above 1, not negative; DAPO's "clip-higher" sets it above `clip_low`.
        dual_clip: largest ratio that counts where the advantage is negative, above 1; infinity
            sets no bound.

    Returns:
        The loss as sum and count, and the numbers worth logging.

    Raises:
        ValueError: a clip range does not contain 1.
    """
    if not 0.0 <= clip_low <= 1.0 or not clip_high >= 0.0 or not dual_clip > 1.0:
        raise ValueError(f"clip range without 1: {clip_low=}, {clip_high=}, {dual_clip=}")
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
