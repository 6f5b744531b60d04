"""SA-MRPO: smaller weights for saturated objectives (Wang et al., arXiv 2608.16072)."""

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
    r"""GDPO with weights that decrease with the saturation of each objective.

    $$ \hat A = \operatorname{whiten}\Bigl(\sum_k w_k (1 - s_k)^\gamma
                \frac{r_{ik} - \mu_k}{\sigma_k + \epsilon}\Bigr), \qquad
       s_k = \frac{\operatorname{mean}_{batch}(r_k) - \mathrm{lower}}
                  {\mathrm{upper} - \mathrm{lower}} $$

    with the saturation $s_k$ clipped to [0, 1]. Deviations are the population's, as in the paper,
    which recommends a gamma of 0.5, uses 0.25 for two objectives, and states no epsilon. With gamma
    0, or if all objectives are equally saturated, this is `gdpo` with `ddof=0`.

    Not to be confused with: `focal_reward`, which uses the mean of the *group* and weighs raw
    rewards; and `saw_gdpo`, whose weights depend on the variation of an objective, not only on its
    mean.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        lower: the least possible reward, `[]` or `[K]`.
        upper: the largest possible reward, `[]` or `[K]`, above `lower`.
        gamma: exponent of the headroom `1 - s`; not negative.
        ddof: 0 for the population's standard deviations, 1 for the sample's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight or gamma is
            negative; or `upper` is not above `lower`.
    """
    numerics.require_range(least=0, gamma=gamma)
    batch = group.prepare_batch(rewards, weights, mask)
    adapted = weights_by_saturation(batch, lower=lower, upper=upper, gamma=gamma)
    if not np.all(np.subtract(upper, lower) > 0):
        raise ValueError(f"every upper={upper} must exceed its lower={lower}")
    advantages = whitening.whitened_sum(batch._replace(weights=adapted), ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def weights_by_saturation(
    batch: group.GroupedRewards, *, lower: PerObjective, upper: PerObjective, gamma: ArrayLike
) -> Array:
    """Weights `[B, K]` times `(1 - saturation) ** gamma`."""
    mean = batches.statistics(group.statistics(batch, ddof=0), ddof=0).mean
    least, largest = per_objective(lower, mean), per_objective(upper, mean)
    headroom = jnp.clip((largest - mean) / (largest - least), 0, 1)
    return batch.group_weights * numerics.safe_power(headroom, gamma)[None, :]
