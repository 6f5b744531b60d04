"""OPO: on-policy RL with the optimal reward baseline (Hao et al., arXiv 2505.23585)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


def opo(
    rewards: ArrayLike,
    weights: ArrayLike,
    lengths: ArrayLike,
    *,
    mask: ArrayLike | None = None,
) -> Array:
    r"""The weighted sum of the rewards minus its mean over the *tokens* of the group.

    $$ A_i = r_i - \frac{\sum_j L_j r_j}{\sum_j L_j}, \qquad r_i = \sum_k w_k r_{ik} $$

    The baseline that minimises the variance of the gradient is
    $b^* = E[\lVert g \rVert^2 r] / E[\lVert g \rVert^2]$ with the gradient $g$ of a completion's
    log-probability. If the gradients of tokens are nearly orthogonal and of equal norm, the squared
    norm of g is proportional to the length, which gives this baseline. The advantages of a group
    sum to 0 over its tokens, not over its completions. A group of one gets 0; in verl it keeps
    its reward.

    Not to be confused with: `dr_grpo`, whose baseline counts completions; the two are equal if all
    lengths are equal. Nor is this a length penalty: a long completion moves the baseline towards
    its own reward, up or down. It is optimal for a loss that sums over tokens; with a mean per
    completion the gradients of long completions are smaller, not larger.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        lengths: `[..., G]`, number of tokens of each completion. The baseline of each objective is
            over the completions that were scored on it; masked rewards count as the plain mean.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards), on the scale of the rewards; exactly 0 in
        a group where every objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    group.check_lengths(lengths, rewards)
    batch = group.prepare_batch(rewards, weights, mask)
    centred = group.statistics(batch, ddof=0).centred
    tokens = jnp.asarray(lengths).astype(centred.dtype).reshape(batch.scored.shape)
    counts = jnp.where(batch.where, tokens[..., None], 0)
    # Relative to the plain mean, so that equal rewards give exactly 0.
    offset = numerics.safe_divide(jnp.sum(counts * centred, axis=1), jnp.sum(counts, axis=1))
    baseline = group.weighted_sum(offset, batch.weights)
    advantages = group.weighted_sum(centred, batch.weights) - baseline[:, None]
    return jnp.where(batch.scored, advantages, 0).reshape(jnp.shape(rewards)[:-1])
