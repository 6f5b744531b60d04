"""OPO: on-policy RL with the optimal reward baseline (Hao et al., arXiv 2505.23585)."""

import chex
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

    The baseline that leaves the gradient the least variance is
    $b^* = E[\lVert g \rVert^2 r] / E[\lVert g \rVert^2]$ with the gradient $g$ of a completion's
    log-probability; if the gradients of tokens are about orthogonal and of one size, its squared
    norm grows with the length, and the baseline is this one. The advantages of a group sum to 0
    over its tokens, not over its completions.

    What it is confused with. `dr_grpo`, whose baseline counts completions, and which this is where
    all lengths are equal. A length penalty: a long completion pulls the baseline to itself, up or
    down. The optimality is that of a loss that sums over tokens; under a mean per completion the
    gradients of long ones are smaller, not larger.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        lengths: `[..., G]`, tokens of each completion. Each objective's baseline is over the
            completions that were scored on it; the others count as their plain mean.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards), on the scale of the rewards; exactly 0 in
        a group where every objective is constant.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is not finite, or a weight is negative.
    """
    chex.assert_shape(lengths, jnp.shape(rewards)[:-1])
    batch = group.open_batch(rewards, weights, mask)
    centred = group.statistics(batch, ddof=0).centred
    tokens = jnp.asarray(lengths).astype(centred.dtype).reshape(batch.scored.shape)
    counts = jnp.where(batch.where, tokens[..., None], 0)
    # From the plain mean, so that equal rewards stay exactly 0.
    offset = numerics.safe_divide(jnp.sum(counts * centred, axis=1), jnp.sum(counts, axis=1))
    baseline = group.weighted_sum(offset, batch.weights)
    advantages = group.weighted_sum(centred, batch.weights) - baseline[:, None]
    return jnp.where(batch.scored, advantages, 0).reshape(jnp.shape(rewards)[:-1])
