"""Truncated importance sampling between the sampler and the trainer.

A sampler and a trainer with the same parameters assign different probabilities to a token if they
use different kernels or precisions; and an asynchronous sampler uses older parameters. If the
denominator of a loss's ratio is `pi_old` as recomputed by the *trainer* before its first update,
the tokens are still samples of the sampler's `mu`, and each term has to be weighted by
`pi_old / mu`. Truncating that weight bounds its variance at the cost of a small bias (Ionides,
2008; for language models Yao et al., "Your efficient RL framework secretly brings you off-policy RL
training", 2025; verl 018f23b5, `rollout_is`).

This is a weight, not a loss: it multiplies the terms of any loss through the reduction that is
passed to the loss.

    weights = truncated_importance_weights(logp_old, logp_sampler, where=where, cap=2.0)
    reduce = weighted(token_mean, weights)
    loss, info = dapo(logp, logp_old, advantages, where=where, reduce=reduce)
"""

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax.losses.ratios import log_ratios
from dvaojax.losses.reductions import Reduction
from dvaojax.losses.tokens import on_tokens
from dvaojax.numerics import Mean


def truncated_importance_weights(
    logp_old: Array, logp_sampler: Array, *, where: Array, cap: float = 2.0
) -> Array:
    r"""Ratio of each token's probability under the trainer to that under the sampler, truncated.

    $$ w_t = \min\big(\pi^{\mathrm{old}}_t / \mu_t,\; c\big) $$

    It corrects for the difference between sampler and trainer; the ratio in a loss, `pi / pi_old`,
    corrects for the updates since. Their product is `pi / mu`, the ratio of a loss that is given
    the sampler's log-probabilities as `logp_old`.

    Args:
        logp_old: `[..., T]` log-probability of each sampled token as the trainer recomputed it
            before its first update, in nats.
        logp_sampler: `[..., T]` the same as recorded by the sampler.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        cap: largest weight, at least 1.

    Returns:
        `[..., T]` without gradient, 1 where `where` is false.

    Raises:
        ValueError: the cap is below 1.
    """
    if not cap >= 1.0:
        raise ValueError(f"{cap=} must be at least 1")
    ratio = jnp.exp(log_ratios(logp_old, logp_sampler, where))
    return jax.lax.stop_gradient(jnp.minimum(ratio, cap))


def weighted(reduce: Reduction, weights: Array) -> Reduction:
    """A reduction of values times weights; its count is of tokens, not a sum of weights.

    Args:
        reduce: how the tokens are averaged.
        weights: `[..., T]`, one per token.
    """

    def reduction(values: Array, where: Array, /) -> Mean:
        return reduce(on_tokens(values, where) * on_tokens(weights, where), where)

    return reduction
