"""SC-PPO: the combination of least norm that no objective loses by.

From code alone, an estimator for verl whose functions are called `scppo`; a paper was not found.
"""

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

MIN_COVERAGE = 0.05  # an objective that varies in a smaller share of groups is not identifiable
MIN_NORM = 0.05  # nor is one whose norm is a smaller part of the largest
RIDGE = 0.01  # of the largest product, so that the solution is unique and continuous


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
    r"""GDPO with coefficients for which no objective's own scores point against their sum.

    $$ \hat A = \operatorname{whiten}\Bigl(\sum_k c_k A_k\Bigr), \qquad
       \alpha = \arg\min_{\alpha \in \Delta} \sum_{kl} \alpha_k \alpha_l \frac{Q_{kl}}{p_k p_l},
       \qquad c = \frac{\alpha}{p} + \lambda, \qquad (Q c)_k \ge 0 $$

    with Q the mean products of the objectives' z-scores, and priorities
    $p_k = w_k \max(h_k, \mathrm{floor})^{\mathrm{power}}$ of the headroom
    $h_k = \operatorname{clip}(\mathrm{target}_k - \operatorname{mean}(r_k), 0, 1)$. The minimum is
    over the objectives that are identifiable (they vary in 5 % of the groups and have 5 % of the
    largest norm) and not saturated (their headroom exceeds `saturation`). The least
    $\lambda \ge 0$ gives back what any objective would lose; then the coefficients sum to 1.

    Cross-fitting: a group's coefficients are estimated on the groups of the other fold. The code
    ranks prompts by a hash of their identity; here the fold is the parity of the group's index in
    the batch, as arbitrary and needing no identity. A single group is its own fold.

    Further departures: the $\lambda$ are those of the exact projection, where the code alternates a
    number of times; a ridge of 1 % makes the solutions unique; where all objectives are saturated
    all lead, not one; products count completions, not tokens; the weights, which it lacks, multiply
    the priorities.

    What it is confused with. MGDA solves this problem on gradients of the parameters; here products
    of scores stand for theirs. It is no PPO: only the advantage differs. The order of the groups in
    the batch matters, and so does splitting an objective in two.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative. Where groups have their own, the priorities take
            the mean, and the coefficients of a group are multiplied by its weights over the mean.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        target: the mean at which an objective is done, `[]` or `[K]`.
        priority_floor: the least headroom that a priority is made of.
        priority_power: the exponent of the headroom in it.
        saturation: the headroom up to which an objective does not lead.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: there are more than ten objectives; the power is negative, or the floor or the
            saturation not in [0, 1]; outside jit, a reward that counts is not finite, or a weight
            is negative.
    """
    numerics.require_range(least=0, priority_power=priority_power)
    numerics.require_range(least=0, most=1, priority_floor=priority_floor, saturation=saturation)
    batch = group.open_batch(rewards, weights, mask)
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
    """What is known of the objectives from the groups of one fold.

    Attributes:
        products: `[K, K]` Q, over the completions that were scored.
        mean: `[K]` mean rewards.
        coverage: `[K]` the share of groups in which each varies.
    """

    products: Array
    mean: Array
    coverage: Array


def cross_fitted_weights(
    batch: group.Batch,
    *,
    target: PerObjective,
    priority_floor: float,
    priority_power: float,
    saturation: float,
    ddof: int,
    epsilon: float,
) -> Array:
    """`[B, K]` each group's coefficients, estimated on the other fold; the knobs of `sc_ppo`."""
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

    of_the_fold = jax.vmap(coefficients)(_estimates(batch, ddof=ddof, epsilon=epsilon))
    own = numerics.safe_divide(weights, jnp.broadcast_to(mean_weights, weights.shape))
    return own * of_the_fold[np.arange(num_groups) % 2]


def is_identifiable(estimates: Estimates) -> Array:
    """`[K]` bool, which objectives carry a signal that can be estimated."""
    norm = numerics.safe_sqrt(jnp.diagonal(estimates.products))
    is_large = norm >= MIN_NORM * jnp.max(norm)
    return (norm > 0) & is_large & (estimates.coverage >= MIN_COVERAGE)


def combine(products: Array, priorities: Array, carries: Array, has_headroom: Array) -> Array:
    """`[K]` coefficients with sum 1, none negative, that no objective loses by; the priorities in
    proportion where no objective carries a signal.

    Args:
        products: `[K, K]` Q.
        priorities: `[K]` p, positive where an objective has a weight.
        carries: `[K]` bool, the objectives that are identifiable and have a weight.
        has_headroom: `[K]` bool, those that are not saturated.
    """
    leads = carries & has_headroom
    leads = jnp.where(jnp.any(leads), leads, carries)
    identity = jnp.eye(len(priorities), dtype=products.dtype)
    largest = jnp.max(jnp.diagonal(products))
    products = products + jnp.where(largest > 0, RIDGE * largest, 1) * identity
    # The c = alpha / p of least norm with p' c = 1 has the direction of this minimum, whose matrix
    # is better conditioned than Q / (p p').
    leading = least_quadratic(products, priorities, leads)
    leading = numerics.safe_divide(leading, jnp.sum(leading))
    margins = jnp.matmul(products, leading, precision=jax.lax.Precision.HIGHEST)
    guarded = leading + least_quadratic(products, -margins, priorities > 0)
    chosen = jnp.where(jnp.any(leads), guarded, priorities)
    return numerics.safe_divide(chosen, jnp.sum(chosen))


def _estimates(batch: group.Batch, *, ddof: int, epsilon: float) -> Estimates:
    """For each of the two folds `[2, ...]`, what the groups outside it say."""
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
