"""GMPO, Geometric-Mean Policy Optimization (arXiv:2507.20673)."""

import jax.numpy as jnp
from jax import Array

from dvaojax.losses.ratios import (
    SurrogateInfo,
    log_ratios,
    pessimistic,
    sequence_means,
    surrogate_info,
)
from dvaojax.losses.reductions import Reduction, sequence_mean
from dvaojax.losses.tokens import advantages_on_tokens
from dvaojax.numerics import Mean


def gmpo(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = sequence_mean,
    clip_low: float = 0.4,
    clip_high: float = 0.4,
) -> tuple[Mean, SurrogateInfo]:
    r"""The geometric mean over a sequence of its clipped token ratios, times the advantage.

    $$ L = -A \exp\Big(\tfrac{1}{|y|}\sum_t m_t\Big) \quad\text{with}\quad m_t =
       \begin{cases} \min(\log\rho_t, \epsilon_h) & A \ge 0 \cr
                     \max(\log\rho_t, -\epsilon_l) & A < 0 \end{cases} $$

    (Zhao et al., arXiv:2507.20673; verl 018f23b5.) The clip range is in nats and wide: ratios in
    (exp(-0.4), exp(0.4)).

    Not to be confused with: `gspo`, which clips the geometric mean itself, after which the whole
    sequence has no gradient. GMPO clips the log-ratio of each token before the mean, so that a
    token far from ratio 1 loses only its own gradient.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, as in the paper. With `[..., T]` each token is
            clipped on the side given by its own sign, and with the mean over sequences their mean
            multiplies the ratio, as in verl. No gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens, each with its sequence's value, are averaged; the paper's is the
            mean over sequences.
        clip_low: width of the clip range of the log-ratio below 0, in nats, not negative.
        clip_high: width of the clip range of the log-ratio above 0, in nats, not negative.

    Returns:
        The loss as sum and count, and the metrics to log.

    Raises:
        ValueError: the clip range does not contain 0.
    """
    if not clip_low >= 0.0 or not clip_high >= 0.0:
        raise ValueError(f"{clip_low=} and {clip_high=} must not be negative")
    log_ratio = log_ratios(logp, logp_old, where)
    advantages = advantages_on_tokens(advantages, where, dtype=log_ratio.dtype)
    bounded, is_clipped = pessimistic(log_ratio, advantages, low=-clip_low, high=clip_high)
    info = surrogate_info(log_ratio, is_clipped, advantages, where)
    return reduce(-advantages * jnp.exp(sequence_means(bounded, where)), where), info
