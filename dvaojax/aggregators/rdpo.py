"""RDPO: rewards decorrelated before they are summed (Bai et al., arXiv 2605.13641).

This is a reconstruction: according to the paper each reward goes through a quantile normalisation
that preserves magnitudes, then through a Mahalanobis whitening of the active rewards. We could not
find its formulas.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group, whitening

_ITERATIONS = 24  # each more than doubles the smallest eigenvalue; enough for a shrinkage of 1e-4
_EXACT = jax.lax.Precision.HIGHEST


def rdpo(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    shrinkage: float = 0.01,
) -> Array:
    r"""The weighted sum of soft ranks within the group, decorrelated over the batch.

    $$ q_{ik} = \frac{1}{n_k} \sum_j \operatorname{clip}\Bigl(\frac{r_{ik} - r_{jk}}{s_k}, -1, 1
                \Bigr), \qquad
       A_i = \sum_k w_k \Bigl[\bigl((1 - \lambda) C + \lambda I\bigr)^{-1/2}
                              \frac{q_i}{\tau}\Bigr]_k $$

    with $s_k$ the deviation of objective k within its groups, pooled over the batch, $\tau_k$ the
    root mean square of $q_k$ over the batch and C the correlations of the q. Differences beyond
    $s_k$ count as in a rank, smaller ones by their magnitude. After the inverse root all objectives
    that vary in the batch have unit variance and, up to the shrinkage $\lambda$, no correlation, so
    that two rewards that measure the same do not count twice. Both steps, s and the shrinkage are
    reconstructed, see the module's docstring.

    Not to be confused with: `advantage_combination`, which scales the objectives but keeps their
    correlations; and the whitening of `gdpo`, which is over completions, not between objectives.
    Because correlated parts are removed, a completion that is better on every objective can get a
    lower advantage.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        shrinkage: lambda, in (0, 1], the shrinkage of the correlations towards 0. The common part
            of two objectives that nearly cancel is amplified by at most `lambda ** -0.5`.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative; or the
            shrinkage is not in (0, 1].
    """
    if not 0 < shrinkage <= 1:
        raise ValueError(f"shrinkage={shrinkage} must lie in (0, 1]")
    batch = group.prepare_batch(rewards, weights, mask)
    objectives = group.statistics(batch, ddof=0)
    over_batch = jax.vmap(whitening.root_mean_square, in_axes=-1)
    spread = over_batch(objectives.deviation, objectives.count)
    ranks = numerics.safe_divide(_sums_of_steps(batch, spread), objectives.count[:, None, :])
    flat = ranks.reshape(-1, ranks.shape[-1])
    tau = over_batch(flat, batch.where.reshape(flat.shape).astype(flat.dtype))
    scaled = numerics.safe_divide(ranks, tau[None, None, :])
    whitened = jnp.einsum("bgk,kl->bgl", scaled, _decorrelation(flat, shrinkage), precision=_EXACT)
    advantages = group.weighted_sum(whitened, batch.weights)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def _sums_of_steps(batch: group.GroupedRewards, spread: Array) -> Array:
    """Differences to all completions of the group, clipped to the spread, summed: `[B, G, K]`."""
    values = jnp.where(batch.where, batch.rewards, 0)
    steps = numerics.safe_divide(
        values[:, :, None] - values[:, None, :], spread[None, None, None, :]
    )
    are_scored = batch.where[:, :, None] & batch.where[:, None, :]
    return jnp.sum(jnp.where(are_scored, jnp.clip(steps, -1, 1), 0), axis=2)


def _decorrelation(ranks: Array, shrinkage: ArrayLike) -> Array:
    """Inverse root `[K, K]` of the shrunk correlations of `ranks` `[N, K]`.

    The coupled Newton-Schulz iteration (Higham, Functions of Matrices, 2008, 6.35) uses only matrix
    products, and unlike an eigendecomposition it has a gradient where eigenvalues coincide.
    """
    norm = jnp.sqrt(jnp.sum(jnp.square(ranks), axis=0))
    unit = numerics.safe_divide(ranks, norm[None, :])
    identity = jnp.eye(len(norm), dtype=ranks.dtype)
    # A sum, because a matrix product has an ambiguous output sharding if the batch is sharded.
    correlations = jnp.sum(unit[:, :, None] * unit[:, None, :], axis=0)
    # The diagonal is 1, also for an objective that never varies.
    shrunk = (1 - shrinkage) * jnp.where(identity > 0, 1, correlations) + shrinkage * identity

    def improve(_: int, roots: tuple[Array, Array]) -> tuple[Array, Array]:
        root, inverse = roots
        step = 1.5 * identity - 0.5 * jnp.matmul(inverse, root, precision=_EXACT)
        better = jnp.matmul(root, step, precision=_EXACT)
        return better, jnp.matmul(step, inverse, precision=_EXACT)

    start = shrunk / len(norm), identity  # no eigenvalue exceeds 1
    _, inverse = jax.lax.fori_loop(0, _ITERATIONS, improve, start)
    return inverse / len(norm) ** 0.5
