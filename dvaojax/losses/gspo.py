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
    r"""The clipped surrogate with the ratio of a whole sequence, normalised by its length.

    $$ L = -\min\big(s A,\; \mathrm{clip}(s, 1-\epsilon_l, 1+\epsilon_h) A\big)
       \quad\text{with}\quad s = \exp\Big(\tfrac{1}{|y|}\sum_t \log \rho_t\Big) $$

    (Zheng et al., arXiv:2507.18071; verl 018f23b5.) The ratio is the geometric mean of
    the sequence's token ratios. It stays near 1, so its clip range is three orders of magnitude
    narrower than that of a token. A sequence is clipped as a whole. At ratio 1 the derivative with
    respect to the log-probability of a token is $-A / |y|$ before the mean over sequences, as for
    `clipped_surrogate` with `sequence_mean`. The log-ratio of each token is clipped to [-20, 20]
    nats; verl clips their mean to at most 10 instead.

    Not to be confused with: the importance weight of the sequence, which is the product of its
    tokens' ratios and varies by orders of magnitude. `gmpo` clips each token before the mean.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence. With `[..., T]` each token's advantage multiplies the
            sequence's ratio, and the gradient of every token depends on their mean; `gspo_token`
            keeps them separate. No gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens, each with its sequence's value, are averaged; the paper's is the
            mean over sequences.
        clip_low: width of the clip range of the sequence's ratio below 1, in [0, 1].
        clip_high: width of the clip range above 1, not negative.

    Returns:
        The loss as sum and count, and the metrics to log.

    Raises:
        ValueError: the clip range does not contain 1.
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
    r"""GSPO for advantages that differ within a sequence: a gradient per token.

    $$ L_t = -\min\big(s_t A_t,\; \mathrm{clip}(s_t, 1-\epsilon_l, 1+\epsilon_h) A_t\big)
       \quad\text{with}\quad s_t = \mathrm{sg}[s]\; \pi_t / \mathrm{sg}[\pi_t] $$

    (Zheng et al., arXiv:2507.18071; what verl 018f23b5 computes under the name gspo.)
    `sg` stops the gradient, so that $s_t$ equals $s$ in value.

    Not to be confused with: a method that differs from `gspo` in general. Where all tokens of a
    sequence have the same advantage, value, clip and gradient are equal. Nor is it
    `clipped_surrogate`: the clipped ratio is still the sequence's.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[..., T]`, or `[...]`, one per sequence; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens are averaged.
        clip_low: width of the clip range of the sequence's ratio below 1, in [0, 1].
        clip_high: width of the clip range above 1, not negative.

    Returns:
        The loss as sum and count, and the metrics to log.

    Raises:
        ValueError: the clip range does not contain 1.
    """
    require_range(clip_low=clip_low, clip_high=clip_high)
    log_ratio = log_ratios(logp, logp_old, where)
    mean_log_ratio = jax.lax.stop_gradient(sequence_means(log_ratio, where))
    ratio = jnp.exp(mean_log_ratio) * jnp.exp(log_ratio - jax.lax.stop_gradient(log_ratio))
    advantages = advantages_on_tokens(advantages, where, dtype=ratio.dtype)
    bounded, is_clipped = pessimistic(ratio, advantages, low=1.0 - clip_low, high=1.0 + clip_high)
    info = surrogate_info(log_ratio, is_clipped, advantages, where)
    return reduce(-advantages * bounded, where), info
