"""SA-MRPO: weights that fade as an objective saturates (Wang et al., arXiv 2608.16072)."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import batch as batches
from dvaojax.aggregators._core import group, whitening
from dvaojax.aggregators._core.aggregator import PerObjective, per_objective


def sa_mrpo(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    lower: PerObjective = 0.0,
    upper: PerObjective = 1.0,
    gamma: float = 0.5,
    ddof: int = 0,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""GDPO with weights that follow what is left to be gained on each objective.

    $$ \hat A = \operatorname{whiten}\Bigl(\sum_k w_k (1 - s_k)^\gamma
                \frac{r_{ik} - \mu_k}{\sigma_k + \epsilon}\Bigr), \qquad
       s_k = \frac{\operatorname{mean}_{batch}(r_k) - \mathrm{lower}}
                  {\mathrm{upper} - \mathrm{lower}} $$

    with the saturation $s_k$ held in [0, 1]. Population deviations, as in the paper; it recommends
    a gamma of 0.5 on average and uses 0.25 for two objectives, and states no epsilon.

    What it is confused with. With gamma 0, or where all objectives are equally saturated, it is
    `gdpo` (of `ddof=0`). `focal_reward` fades by the mean of the *group* and weighs raw rewards.
    `saw_gdpo` asks how much an objective varies, this one how far it has come.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        lower: the least possible reward, `[]` or `[K]`.
        upper: the largest possible reward, `[]` or `[K]`, above `lower`.
        gamma: how fast the weight fades; not negative.
        ddof: 0 for the population's standard deviations, 1 for the sample's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is not finite, or a weight or gamma is
            negative; or an upper end is not above its lower one.
    """
    numerics.require_range(least=0, gamma=gamma)
    batch = group.open_batch(rewards, weights, mask)
    adapted = weights_by_saturation(batch, lower=lower, upper=upper, gamma=gamma)
    if not np.all(np.subtract(upper, lower) > 0):
        raise ValueError(f"every upper={upper} must exceed its lower={lower}")
    advantages = whitening.whitened_sum(batch._replace(weights=adapted), ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def weights_by_saturation(
    batch: group.Batch, *, lower: PerObjective, upper: PerObjective, gamma: ArrayLike
) -> Array:
    """`[B, K]` the weights times `(1 - saturation) ** gamma`."""
    mean = batches.statistics(group.statistics(batch, ddof=0), ddof=0).mean
    least, largest = per_objective(lower, mean), per_objective(upper, mean)
    headroom = jnp.clip((largest - mean) / (largest - least), 0, 1)
    return batch.group_weights * numerics.safe_power(headroom, gamma)[None, :]
