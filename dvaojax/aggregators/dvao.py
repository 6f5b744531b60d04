"""DVAO: dynamic variance-adaptive advantage optimisation (Jiang et al., arXiv 2605.25604)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


def dvao(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ddof: int = 0,
    epsilon: float = 0.0,
) -> Array:
    r"""Z-scores of the objectives, each weighted by its standard deviation in the group.

    $$ A_i = \sum_k \tilde w_k \frac{r_{ik} - \mu_k}{\sigma_k}
           = \frac{\sum_k w_k (r_{ik} - \mu_k)}{\sum_k w_k \sigma_k}, \qquad
       \tilde w_k = \frac{w_k \sigma_k}{\sum_l w_l \sigma_l} $$

    The second form is the one computed: it does not divide by the deviation of a single objective,
    which may be nearly 0. The paper scales every reward to [0, 1] first; here the caller does.

    Not to be confused with: inverse-variance weighting. DVAO is *reward combination times one
    number per group*, the agreement `sigma_sum / sum_k w_k sigma_k` in [0, 1]: it ranks the
    completions of a group in the same order and only reduces the advantages of groups whose
    objectives disagree. Unlike `advantage_combination` and `gdpo` it is not invariant to the scale
    of a single objective: `dvao(r * c, w) = dvao(r, w * c)`.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        ddof: 0 for the population's standard deviation, which the paper's propositions need; 1
            scales all advantages by `sqrt((G - 1) / G)`, without a mask and epsilon.
        epsilon: added to the denominator. The paper has none; `|dvao| <= |reward_combination|`
            also holds with the same epsilon for both.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    batch = group.prepare_batch(rewards, weights, mask)
    objectives = group.statistics(batch, ddof=ddof)
    total = group.weighted_sum(objectives.centred, batch.weights)
    scale = group.weighted_sum(objectives.deviation, batch.weights)
    advantages = numerics.safe_divide(total, (scale + epsilon)[:, None])
    return advantages.reshape(jnp.shape(rewards)[:-1])
