"""RLOO: REINFORCE with a leave-one-out baseline (Ahmadian et al., arXiv 2402.14740)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


def rloo(rewards: ArrayLike, weights: ArrayLike, *, mask: ArrayLike | None = None) -> Array:
    r"""The weighted sum of the rewards minus the mean of the *other* completions' sums.

    $$ A_i = r_i - \frac{1}{G - 1} \sum_{j \ne i} r_j
           = \frac{G}{G - 1} \bigl(r_i - \operatorname{mean}(r)\bigr), \qquad
       r_i = \sum_k w_k r_{ik} $$

    The baseline does not depend on the completion's own reward, so the gradient is unbiased.
    Dividing by a deviation, which depends on it, would add a bias, so there is no such option. With
    a mask, G is counted for each objective, over the completions that were scored on it. If there
    are no others, as in a group of one, the advantage is 0.

    Not to be confused with: `dr_grpo`, whose baseline includes the completion itself; it is the
    same vector times `(G - 1) / G`.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    batch = group.prepare_batch(rewards, weights, mask)
    objectives = group.statistics(batch, ddof=0)
    leaves_one_out = numerics.safe_divide(objectives.count, objectives.count - 1)
    weights = jnp.broadcast_to(batch.weights, leaves_one_out.shape) * leaves_one_out
    advantages = group.weighted_sum(objectives.centred, weights)
    return advantages.reshape(jnp.shape(rewards)[:-1])
