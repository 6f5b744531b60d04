"""GSPO, Group Sequence Policy Optimization (arXiv:2507.18071), in its two forms."""

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax.losses.ratios import (
    SurrogateInfo,
    log_ratios,
    pessimistic,
    require_range,
    sequence_means,
    surrogate_info,
)
from dvaojax.losses.reductions import Reduction, sequence_mean
from dvaojax.losses.tokens import advantages_on_tokens
from dvaojax.numerics import Mean


def gspo(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = sequence_mean,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
) -> tuple[Mean, SurrogateInfo]:
    r"""The clipped surrogate whose ratio is that of a whole sequence, per token.

    $$ L = -\min\big(s A,\; \mathrm{clip}(s, 1-\epsilon_l, 1+\epsilon_h) A\big)
       \quad\text{with}\quad s = \exp\Big(\tfrac{1}{|y|}\sum_t \log \rho_t\Big) $$

    (Zheng et al., arXiv:2507.18071; verl 018f23b5.) The ratio is the geometric mean of
    the sequence's token ratios; it stays near 1, and its clip range is three orders narrower than a
    token's. A sequence is clipped as a whole. At ratio 1 the slope by the log-probability of a
    token is $-A / |y|$ before the mean over sequences, as that of `clipped_surrogate` with
    `sequence_mean`.

    What it is confused with. The importance weight of the sequence, which is the product of its
    tokens' ratios and varies by orders of magnitude. `gmpo` clips each token before the mean.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence. With `[..., T]` each token multiplies the sequence's
            ratio with its own, and every token learns from their mean; `gspo_token` keeps them
            apart. No gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere anything may stand.
        reduce: how tokens, each of which carries its sequence's value, become one mean; the mean
            over sequences gives the paper's.
        clip_low: how far below 1 the sequence's ratio may pull, in [0, 1].
        clip_high: how far above 1, not negative.

    Returns:
        The loss as sum and count, and the numbers worth logging.

    Raises:
        ValueError: a clip range does not contain 1.
    """
    require_range(clip_low=clip_low, clip_high=clip_high)
    log_ratio = log_ratios(logp, logp_old, where)
    ratio = jnp.broadcast_to(jnp.exp(sequence_means(log_ratio, where)), where.shape)
    advantages = advantages_on_tokens(advantages, where, dtype=ratio.dtype)
    bounded, is_clipped = pessimistic(ratio, advantages, low=1.0 - clip_low, high=1.0 + clip_high)
    info = surrogate_info(log_ratio, is_clipped, advantages, where)
    return reduce(-advantages * bounded, where), info


def gspo_token(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = sequence_mean,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
) -> tuple[Mean, SurrogateInfo]:
    r"""GSPO for advantages that differ within a sequence: the sequence's ratio, a token's gradient.

    $$ L_t = -\min\big(s_t A_t,\; \mathrm{clip}(s_t, 1-\epsilon_l, 1+\epsilon_h) A_t\big)
       \quad\text{with}\quad s_t = \mathrm{sg}[s]\; \pi_t / \mathrm{sg}[\pi_t] $$

    (Zheng et al., arXiv:2507.18071; what verl 018f23b5 computes under the name gspo.)
    `sg` stops the gradient, so that $s_t$ is $s$ in value.

    What it is confused with. Another method than `gspo`: where all tokens of a sequence have one
    advantage, value, clip and gradient are the same. Nor is it `clipped_surrogate`: the ratio that
    is clipped is still the sequence's.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[..., T]`, or `[...]`, one per sequence; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere anything may stand.
        reduce: how tokens become one mean.
        clip_low: how far below 1 the sequence's ratio may pull, in [0, 1].
        clip_high: how far above 1, not negative.

    Returns:
        The loss as sum and count, and the numbers worth logging.

    Raises:
        ValueError: a clip range does not contain 1.
    """
    require_range(clip_low=clip_low, clip_high=clip_high)
    log_ratio = log_ratios(logp, logp_old, where)
    of_sequence = jax.lax.stop_gradient(sequence_means(log_ratio, where))
    ratio = jnp.exp(of_sequence) * jnp.exp(log_ratio - jax.lax.stop_gradient(log_ratio))
    advantages = advantages_on_tokens(advantages, where, dtype=ratio.dtype)
    bounded, is_clipped = pessimistic(ratio, advantages, low=1.0 - clip_low, high=1.0 + clip_high)
    info = surrogate_info(log_ratio, is_clipped, advantages, where)
    return reduce(-advantages * bounded, where), info
