"""SC-PPO: the combination of z-scores of least norm that does not conflict with any objective.

The source is an estimator for verl whose functions are called `scppo`; a paper was not found.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group, whitening
from dvaojax.aggregators._core.aggregator import PerObjective, per_objective
from dvaojax.aggregators._core.least_squares import least_quadratic

MIN_COVERAGE = 0.05  # objectives that vary in a smaller share of groups are not identifiable
MIN_NORM = 0.05  # nor are objectives with a smaller norm, relative to the largest
RIDGE = 0.01  # relative to the largest product; makes the solution unique and continuous


def sc_ppo(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    target: PerObjective = 1.0,
    priority_floor: float = 0.05,
    priority_power: float = 0.5,
    saturation: float = 0.05,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""GDPO with coefficients for which the sum conflicts with the scores of no objective.

    $$ \hat A = \operatorname{whiten}\Bigl(\sum_k c_k A_k\Bigr), \qquad
       \alpha = \arg\min_{\alpha \in \Delta} \sum_{kl} \alpha_k \alpha_l \frac{Q_{kl}}{p_k p_l},
       \qquad c = \frac{\alpha}{p} + \lambda, \qquad (Q c)_k \ge 0 $$

    with Q the mean products of the objectives' z-scores, and priorities
    $p_k = w_k \max(h_k, \mathrm{floor})^{\mathrm{power}}$ of the headroom
    $h_k = \operatorname{clip}(\mathrm{target}_k - \operatorname{mean}(r_k), 0, 1)$. The minimum is
    over the objectives that are identifiable (they vary in at least 5 % of the groups and have at
    least 5 % of the largest norm) and not saturated (their headroom exceeds `saturation`). The
    smallest $\lambda \ge 0$ that satisfies $(Q c)_k \ge 0$ is added; then the coefficients are
    normalised to sum 1.

    Cross-fitting: the coefficients of a group are estimated on the groups of the other fold. The
    official code assigns prompts to folds by a hash of their identity; here the fold is the parity
    of the group's index in the batch, which is equally arbitrary and needs no identity. A single
    group is its own fold.

    Further differences from the code: $\lambda$ is that of the exact projection, where the code
    alternates a fixed number of times; a ridge of 1 % makes the solutions unique; if all objectives
    are saturated the minimum is over all of them, not over one; products count completions, not
    tokens; the weights, which the code does not have, multiply the priorities.

    Not to be confused with: MGDA, which solves this problem for gradients of the parameters; here
    products of scores replace those of gradients. Despite the name only the advantage differs from
    GDPO, not the loss. The result depends on the order of the groups in the batch, and on splitting
    an objective in two.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative. If they differ between groups, the priorities
            use their mean, and the coefficients of a group are multiplied by its weights divided by
            the mean.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        target: the mean reward at which the headroom of an objective is 0, `[]` or `[K]`.
        priority_floor: lower bound of the headroom in a priority.
        priority_power: exponent of the headroom in a priority.
        saturation: objectives with no more headroom than this are saturated.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: there are more than ten objectives; the power is negative, or the floor or the
            saturation not in [0, 1]; outside jit, an unmasked reward is not finite, or a weight
            is negative.
    """
    numerics.require_range(least=0, priority_power=priority_power)
    numerics.require_range(least=0, most=1, priority_floor=priority_floor, saturation=saturation)
    batch = group.prepare_batch(rewards, weights, mask)
    adapted = cross_fitted_weights(
        batch,
        target=target,
        priority_floor=priority_floor,
        priority_power=priority_power,
        saturation=saturation,
        ddof=ddof,
        epsilon=epsilon,
    )
    advantages = whitening.whitened_sum(batch._replace(weights=adapted), ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


class Estimates(NamedTuple):
    """Statistics of the objectives over the groups of one fold.

    Attributes:
        products: `[K, K]`, Q, over the completions that were scored.
        mean: `[K]`, mean rewards.
        coverage: `[K]`, the share of groups in which each objective varies.
    """

    products: Array
    mean: Array
    coverage: Array


def cross_fitted_weights(
    batch: group.GroupedRewards,
    *,
    target: PerObjective,
    priority_floor: float,
    priority_power: float,
    saturation: float,
    ddof: int,
    epsilon: float,
) -> Array:
    """Coefficients `[B, K]` of each group, estimated on the other fold; knobs as in `sc_ppo`."""
    num_groups = len(batch.rewards)
    weights = batch.group_weights
    mean_weights = jnp.sum(weights, axis=0) / max(num_groups, 1)

    def coefficients(estimates: Estimates) -> Array:
        headroom = jnp.clip(per_objective(target, mean_weights) - estimates.mean, 0, 1)
        return combine(
            estimates.products,
            mean_weights * jnp.maximum(headroom, priority_floor) ** priority_power,
            is_identifiable(estimates) & (mean_weights > 0),
            headroom > saturation,
        )

    per_fold = jax.vmap(coefficients)(_estimates(batch, ddof=ddof, epsilon=epsilon))
    relative = numerics.safe_divide(weights, jnp.broadcast_to(mean_weights, weights.shape))
    return relative * per_fold[np.arange(num_groups) % 2]


def is_identifiable(estimates: Estimates) -> Array:
    """`[K]` bool, the objectives with a signal that is large enough to be estimated."""
    norm = numerics.safe_sqrt(jnp.diagonal(estimates.products))
    is_large = norm >= MIN_NORM * jnp.max(norm)
    return (norm > 0) & is_large & (estimates.coverage >= MIN_COVERAGE)


def combine(products: Array, priorities: Array, is_usable: Array, has_headroom: Array) -> Array:
    """Non-negative coefficients `[K]` with sum 1 that conflict with no objective; proportional to
    the priorities if no objective is identifiable.

    Args:
        products: `[K, K]`, Q.
        priorities: `[K]`, p, positive where an objective has a weight.
        is_usable: `[K]` bool, the objectives that are identifiable and have a weight.
        has_headroom: `[K]` bool, the objectives that are not saturated.
    """
    is_active = is_usable & has_headroom
    is_active = jnp.where(jnp.any(is_active), is_active, is_usable)
    identity = jnp.eye(len(priorities), dtype=products.dtype)
    largest = jnp.max(jnp.diagonal(products))
    products = products + jnp.where(largest > 0, RIDGE * largest, 1) * identity
    # The c = alpha / p of least norm with p' c = 1 has the direction of this minimum, whose matrix
    # is better conditioned than Q / (p p').
    minimise = functools.partial(
        numerics.with_automatic_axes, least_quadratic, products, axes=slice(1)
    )
    shortest = minimise(priorities, is_active)
    shortest = numerics.safe_divide(shortest, jnp.sum(shortest))
    margins = jnp.matmul(products, shortest, precision=jax.lax.Precision.HIGHEST)
    corrected = shortest + minimise(-margins, priorities > 0)
    chosen = jnp.where(jnp.any(is_active), corrected, priorities)
    return numerics.safe_divide(chosen, jnp.sum(chosen))


def _estimates(batch: group.GroupedRewards, *, ddof: int, epsilon: float) -> Estimates:
    """Estimates `[2, ...]` for each of the two folds, from the groups outside it."""
    objectives = group.statistics(batch, ddof=ddof)
    scores = group.standard_scores(batch, ddof=ddof, epsilon=epsilon).values
    exact = jax.lax.Precision.HIGHEST
    fold = np.arange(len(scores)) % 2
    is_outside = fold[None, :] != np.arange(2)[:, None]
    outside = jnp.asarray(is_outside | (len(scores) == 1), scores.dtype)

    def over_groups(values: Array) -> Array:
        return jnp.tensordot(outside, values, axes=1, precision=exact)

    products = over_groups(jnp.einsum("bgk,bgl->bkl", scores, scores, precision=exact))
    completions = over_groups(jnp.sum(batch.scored, axis=-1, dtype=scores.dtype))
    count = over_groups(objectives.count)
    total = over_groups(objectives.count * objectives.mean)
    varies = over_groups((objectives.deviation > 0).astype(scores.dtype))
    return Estimates(
        products=numerics.safe_divide(products, completions[:, None, None]),
        mean=numerics.safe_divide(total, count),
        coverage=numerics.safe_divide(varies, jnp.sum(outside, axis=1, keepdims=True)),
    )
