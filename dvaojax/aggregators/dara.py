"""DARA: weights against the rarity of an objective's signal (Zheng et al., arXiv 2610.00574)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group, whitening


def dara_symmetric(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    cap: float = 5.0,
    ddof: int = 1,
    epsilon: float = numerics.TRL_EPSILON,
) -> Array:
    r"""GDPO with a weight that makes up for the groups in which an objective is constant.

    $$ \hat A = \operatorname{whiten}\Bigl(\sum_k w_k d_k \frac{r_{ik} - \mu_k}
                {\sigma_k + \epsilon}\Bigr), \qquad
       d_k = \min\Bigl(\mathrm{cap}, \sqrt{\pi_{\max} / \pi_k}\Bigr) $$

    where $\pi_k$ is the share of groups in which objective k varies and has a weight. The squares
    of an objective's z-scores sum to G - 1 in each such group and to 0 in the others, so that a
    rare objective has little energy in the batch; with these factors, as long as they are below the
    cap, all have the same. The defaults beside the cap are those of `gdpo`; the paper has no
    weights.

    What it is confused with. `saw_gdpo` looks at the values of a reward, this only at where it
    varies. An objective that never varies has the factor `cap` and no advantage to go with it.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        cap: the largest factor.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is not finite, or a weight is negative; or the
            cap is below 1.
    """
    numerics.require_range(least=1, cap=cap)
    batch = group.open_batch(rewards, weights, mask)
    adapted = batch.group_weights * factors(batch, cap=cap)[None, :]
    advantages = whitening.whitened_sum(batch._replace(weights=adapted), ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def dara_asymmetric(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    cap: float = 5.0,
    ddof: int = 1,
    epsilon: float = numerics.TRL_EPSILON,
) -> Array:
    r"""GDPO with the factors of `dara_symmetric` on the positive part of each z-score alone.

    $$ \hat A = \operatorname{whiten}\Bigl(\sum_k w_k
                \bigl(A_k + (d_k - 1) [A_k]_+\bigr)\Bigr) $$

    A rare success is reinforced; the failures that are common beside it are not punished more. The
    groups' sums are no longer 0 before the whitening, nor after it.

    What it is confused with. `dara_symmetric`: the two are the same where no factor exceeds 1.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        cap: the largest factor.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is not finite, or a weight is negative; or the
            cap is below 1.
    """
    numerics.require_range(least=1, cap=cap)
    batch = group.open_batch(rewards, weights, mask)
    scores = group.standard_scores(batch, ddof=ddof, epsilon=epsilon)
    stretched = stretch(scores.values, factors(batch, cap=cap))
    whitened = whitening.whiten(
        group.weighted_sum(stretched, batch.weights),
        group.weighted_sum(jnp.abs(stretched), batch.weights),
        batch.scored.astype(stretched.dtype),
        ddof=ddof,
        epsilon=epsilon,
    )
    advantages = jnp.where(batch.scored & scores.is_alive[:, None], whitened, 0)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def factors(batch: group.Batch, *, cap: ArrayLike) -> Array:
    """`[K]` by how much the signal of each objective is rarer than that of the densest."""
    varies = group.statistics(batch, ddof=0).deviation > 0
    counts = varies & (batch.group_weights > 0)
    density = jnp.sum(counts, axis=0, dtype=batch.rewards.dtype)
    rarity = numerics.safe_sqrt(numerics.safe_divide(jnp.max(density), density))
    return jnp.where(density > 0, jnp.minimum(rarity, cap), cap)


def stretch(scores: Array, factors: Array) -> Array:
    """Z-scores `[B, G, K]` with their positive parts times the factors `[K]`."""
    return jnp.where(scores > 0, scores * factors[None, None, :], scores)
