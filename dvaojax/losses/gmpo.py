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

    What it is confused with. `gspo` has a geometric mean too and clips it, and then the whole
    sequence has no gradient; GMPO clips each token before the mean, on the logarithm, so that one
    token far off silences itself and not its companions.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, as in the paper. With `[..., T]` a token's own sign
            picks its clip, and with the mean over sequences their mean multiplies the ratio, as in
            verl. No gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere anything may stand.
        reduce: how tokens, each of which carries its sequence's value, become one mean; the mean
            over sequences gives the paper's.
        clip_low: how far below 0 a log-ratio may pull, in nats, not negative.
        clip_high: how far above 0, in nats, not negative.

    Returns:
        The loss as sum and count, and the numbers worth logging.

    Raises:
        ValueError: a clip range does not contain 0.
    """
    if not clip_low >= 0.0 or not clip_high >= 0.0:
        raise ValueError(f"clip range without 0: {clip_low=}, {clip_high=}")
    log_ratio = log_ratios(logp, logp_old, where)
    advantages = advantages_on_tokens(advantages, where, dtype=log_ratio.dtype)
    bounded, is_clipped = pessimistic(log_ratio, advantages, low=-clip_low, high=clip_high)
    info = surrogate_info(log_ratio, is_clipped, advantages, where)
    return reduce(-advantages * jnp.exp(sequence_means(bounded, where)), where), info
