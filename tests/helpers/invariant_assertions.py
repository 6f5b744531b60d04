"""Assertions of propositions that compare two batches, or two methods on one batch.

Each takes aggregators as `aggregate(rewards, weights) -> advantages`, with their knobs bound, and
raises through `checkify.check`, as `invariants.check` does. The numbers are those of
`invariants.PROPOSITIONS`. Docstrings say where a proposition needs `ddof = 0` or an epsilon of 0.
Everywhere `rewards` and `scores` are `[B, G, K]`, `weights` is `[K]`, `shares` is `[B, K]`, and an
order of groups, completions or objectives is `[B]`, `[G]` or `[K]` int.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from dvaojax import numerics
from dvaojax.aggregators._core.group import mask_nonfinite, statistics
from dvaojax.aggregators.invariants.propositions import TOLERANCE, assert_small
from dvaojax.aggregators.rvpo import soft_minimum

Aggregate = Callable[[Array, Array], Array]  # rewards [B, G, K], weights [K] to advantages [B, G]


def assert_same(left: Array, right: Array, statement: str) -> None:
    """Asserts that two `[B, ...]` are equal up to rounding error, relative where they exceed 1."""
    size = jnp.maximum(1, jnp.maximum(jnp.abs(left), jnp.abs(right)))
    assert_small(jnp.abs(left - right) / size, statement, TOLERANCE[left.dtype])


# One aggregator on two batches.


def assert_own_reward_never_hurts(
    aggregate: Aggregate, rewards: Array, weights: Array, *, at: tuple[int, int, int], step: float
) -> None:
    """16: raising one reward of a completion never lowers its own advantage.

    Holds for RC, AC, DVAO; `at` is the group, the completion and the objective.
    """
    raised = aggregate(rewards.at[at].add(abs(step)), weights)
    loss = aggregate(rewards, weights)[at[:2]] - raised[at[:2]]
    assert_small(loss, "16 (a better reward is not punished)", TOLERANCE[raised.dtype])


def assert_constant_objective_is_ignored(
    aggregate: Aggregate, rewards: Array, weights: Array, *, constant: float, weight: float
) -> None:
    """24: a constant objective has no effect; RC, DVAO, Dr.GRPO, RLOO, and AC without normalised
    weights."""
    column = jnp.full_like(rewards[..., :1], constant)
    more = aggregate(
        jnp.concatenate([rewards, column], -1),
        jnp.append(weights, jnp.asarray(weight, weights.dtype)),
    )
    assert_same(more, aggregate(rewards, weights), "24 (a constant objective is ignored)")


def assert_split_invariant(
    aggregate: Aggregate, rewards: Array, weights: Array, *, objective: int
) -> None:
    """25: splitting an objective into two copies of half the weight has no effect.

    Holds for RC, AC, DVAO and most other methods; not for RVPO and GDPO without weights.
    """
    halved = weights.at[objective].divide(2)
    split = aggregate(
        jnp.concatenate([rewards, rewards[..., objective, None]], -1),
        jnp.append(halved, halved[objective]),
    )
    assert_same(split, aggregate(rewards, weights), "25 (an objective may be split)")


def assert_duplication_invariant(aggregate: Aggregate, rewards: Array, weights: Array) -> None:
    """26: listing every completion twice has no effect; RC, AC, DVAO with `ddof = 0`."""
    twice = aggregate(jnp.concatenate([rewards, rewards], axis=1), weights)
    once = aggregate(rewards, weights)
    assert_same(twice, jnp.concatenate([once, once], axis=1), "26 (completions may be doubled)")


def assert_permutation_equivariant(
    aggregate: Aggregate,
    rewards: Array,
    weights: Array,
    *,
    groups: Array,
    completions: Array,
    objectives: Array,
) -> None:
    """27: reordering groups or completions reorders the advantages; reordering objectives with
    their weights has no effect."""
    shuffled = rewards[groups][:, completions][:, :, objectives]
    assert_same(
        aggregate(shuffled, weights[objectives]),
        aggregate(rewards, weights)[groups][:, completions],
        "27 (order does not matter)",
    )


def assert_shift_invariant(
    aggregate: Aggregate, rewards: Array, weights: Array, *, shift: Array
) -> None:
    """28: adding a constant `[K]` to each objective has no effect."""
    shifted = aggregate(rewards + shift[None, None, :], weights)
    assert_same(shifted, aggregate(rewards, weights), "28 (a shift of the rewards is ignored)")


def assert_joint_scale(
    aggregate: Aggregate, rewards: Array, weights: Array, *, scale: float, power: int
) -> None:
    """29: scaling all rewards scales the advantages by `scale**power`: 0 for methods that divide by
    a deviation (with an epsilon of 0), 1 for Dr.GRPO and RLOO."""
    scaled = aggregate(rewards * scale, weights)
    assert_same(
        scaled, aggregate(rewards, weights) * scale**power, "29 (all rewards may be scaled)"
    )


def assert_objective_scale_invariant(
    aggregate: Aggregate, rewards: Array, weights: Array, *, scales: Array
) -> None:
    """30: positive scales `[K]` of the objectives have no effect; AC, GDPO, RVPO, epsilon 0."""
    scaled = aggregate(rewards * scales[None, None, :], weights)
    assert_same(scaled, aggregate(rewards, weights), "30 (an objective may be scaled)")


def assert_objective_scale_is_a_weight(
    aggregate: Aggregate, rewards: Array, weights: Array, *, scales: Array
) -> None:
    """30: scales `[K]` of rewards act as scales of weights; RC, DVAO and others of their family."""
    assert_same(
        aggregate(rewards * scales[None, None, :], weights),
        aggregate(rewards, weights * scales),
        "30 (a scale is a weight)",
    )


def assert_weight_scale(
    aggregate: Aggregate, rewards: Array, weights: Array, *, scale: float, power: int
) -> None:
    """31: scaling all weights scales the advantages by `scale**power`: 0 for RC, DVAO, GDPO and
    RVPO (with an epsilon of 0), 1 for AC, Dr.GRPO and RLOO."""
    scaled = aggregate(rewards, weights * scale)
    assert_same(
        scaled, aggregate(rewards, weights) * scale**power, "31 (all weights may be scaled)"
    )


def assert_odd(aggregate: Aggregate, rewards: Array, weights: Array) -> None:
    """32: negating all rewards negates the advantages; RC, AC, DVAO, GDPO, not RVPO."""
    assert_same(aggregate(-rewards, weights), -aggregate(rewards, weights), "32 (odd)")


def assert_group_affine_invariant(
    aggregate: Aggregate, rewards: Array, weights: Array, *, scales: Array, shifts: Array
) -> None:
    """40: positive scales and shifts `[B, K]` that differ between groups have no effect; AC, GDPO
    and RVPO with an epsilon of 0."""
    moved = aggregate(rewards * scales[:, None, :] + shifts[:, None, :], weights)
    assert_same(moved, aggregate(rewards, weights), "40 (each group may have its own scale)")


# Two aggregators on one batch.


def assert_within(
    dvao: Aggregate, reward_combination: Aggregate, rewards: Array, weights: Array
) -> None:
    """1 and 33: `|DVAO| <= |RC|` for each completion, if both have the same ddof and epsilon.

    Not asserted where RC is 0, because its objectives cancel there (23).
    """
    outer = jnp.abs(reward_combination(rewards, weights))
    excess = jnp.where(outer > 0, jnp.abs(dvao(rewards, weights)) - outer, 0)
    size = jnp.maximum(1, outer)
    assert_small(excess / size, "1 (DVAO is within RC)", TOLERANCE[outer.dtype])


def assert_mean_square(aggregate: Aggregate, rewards: Array, weights: Array, value: float) -> None:
    """7: the mean square of every group is `value`: for K uncorrelated objectives of equal
    deviation and weights 1 / K, that is 1 / K for DVAO and AC, 1 for RC; `ddof = 0`."""
    mean_square = jnp.mean(aggregate(rewards, weights) ** 2, axis=-1)
    assert_same(mean_square, jnp.full_like(mean_square, value), "7 (uncorrelated objectives)")


def assert_agree(
    left: Aggregate, right: Aggregate, rewards: Array, weights: Array, statement: str
) -> None:
    """Two methods coincide on rewards of a special kind, with weights that sum to 1:

    18: objectives correlated perfectly: DVAO = RC = AC. 19: one objective: DVAO = AC = RC = GRPO.
    20: equal deviations: DVAO = AC. 22: a single objective varies: DVAO = RC. 35: in groups of two,
    RC and DVAO are the same for (0, 1) and (0, 2). 39: equal group sizes and epsilon 0: GDPO with
    population's and sample's group deviations. 56: RVPO with sharpness 0 = GDPO.
    """
    assert_same(left(rewards, weights), right(rewards, weights), statement)


def assert_weights_undo_deviations(
    dvao: Aggregate, advantage_combination: Aggregate, rewards: Array, weights: Array, *, ddof: int
) -> None:
    """21: DVAO with weights `w / sigma` is AC over the sum of the weights.

    Holds for groups where every objective varies; elsewhere the weight would be infinite.
    """
    deviation = statistics(mask_nonfinite(rewards, weights, None), ddof=ddof).deviation
    own = numerics.safe_divide(jnp.broadcast_to(weights, deviation.shape), deviation)
    left = dvao(rewards, own)
    right = advantage_combination(rewards, weights) / jnp.sum(weights)
    varies = jnp.all(deviation > 0, axis=-1, keepdims=True)
    assert_same(
        jnp.where(varies, left, 0), jnp.where(varies, right, 0), "21 (w / sigma undoes the weights)"
    )


def assert_cancels(aggregate: Aggregate, rewards: Array, weights: Array) -> None:
    """23: if the weighted rewards of each group sum to a constant, the advantages of DVAO and all
    methods of its family are 0, not rounding error divided by rounding error."""
    advantages = aggregate(rewards, weights)
    assert_same(advantages, jnp.zeros_like(advantages), "23 (objectives that cancel give 0)")


# The soft minimum of RVPO, `[B, G, K]` scores with shares `[B, K]` that sum to 1.


def assert_soft_minimum(scores: Array, shares: Array, *, low: float, high: float) -> None:
    """50 and 51: the soft minimum decreases from the mean to the minimum as the sharpness grows
    from `low` to `high`, and exceeds the minimum by at most `-ln(share) / sharpness`."""
    tolerance = TOLERANCE[scores.dtype]
    mild = soft_minimum(scores, shares, sharpness=low)
    sharp = soft_minimum(scores, shares, sharpness=high)
    assert_small(sharp - mild, "50 (it decreases with the sharpness)", tolerance)
    mean = soft_minimum(scores, shares, sharpness=0.0)
    assert_small(mild - mean, "51 (it is at most the mean)", tolerance)
    slack = -jnp.log(shares) / high
    for k in range(scores.shape[-1]):
        cap = scores[..., k] + slack[:, None, k]
        assert_small(sharp - cap, "51 (it is near the minimum)", tolerance)
    lowest = jnp.min(scores, axis=-1)
    assert_small(lowest - sharp, "51 (it is at least the minimum)", tolerance)


def assert_soft_minimum_expansion(scores: Array, shares: Array, *, sharpness: float) -> None:
    """52: `mean - (k / 2) variance + (k^2 / 6) third cumulant + O(k^3)`, the population's."""
    mean = jnp.einsum("bgk,bk->bg", scores, shares)
    centred = scores - mean[..., None]
    variance = jnp.einsum("bgk,bk->bg", centred**2, shares)
    third = jnp.einsum("bgk,bk->bg", centred**3, shares)
    expected = mean - sharpness / 2 * variance + sharpness**2 / 6 * third
    actual = soft_minimum(scores, shares, sharpness=sharpness)
    size = jnp.max(jnp.abs(centred), axis=-1)
    excess = jnp.abs(actual - expected) - sharpness**3 * size**4  # the fourth cumulant over 24
    assert_small(excess, "52 (its expansion)", TOLERANCE[scores.dtype])


def assert_soft_minimum_is_a_mean(
    scores: Array, others: Array, shares: Array, *, sharpness: float, shift: float, scale: float
) -> None:
    """53: shift equivariance, `A_k(c Z) = c A_ck(Z)`, concave, 1-Lipschitz in the maximum norm."""
    tolerance = TOLERANCE[scores.dtype]

    def value(z: Array, k: float = sharpness) -> Array:
        return soft_minimum(z, shares, sharpness=k)

    assert_same(value(scores + shift), value(scores) + shift, "53 (shift)")
    assert_same(value(scale * scores), scale * value(scores, scale * sharpness), "53 (scale)")
    chord = (value(scores) + value(others)) / 2
    assert_small(chord - value((scores + others) / 2), "53 (concave)", tolerance)
    largest = jnp.max(jnp.abs(scores - others), axis=-1)
    assert_small(jnp.abs(value(scores) - value(others)) - largest, "53 (1-Lipschitz)", tolerance)


# Sensitivities: `jacobian[b, j, i, k]` is dA_j / dr_ik.


def assert_sensitivities(
    jacobian: Array, advantages: Array, scores: Array, leading: Array, *, ddof: int
) -> None:
    """13 to 15: the closed forms of `dA_j / dr_ik`, own (i = j) and cross, for epsilon 0.

    `dA_j / dr_ik = leading_k (delta_ij - 1/G - A_j B_ik / (G - ddof))`, and columns sum to 0, with

    - AC, per objective: `leading_k = w_k / sigma_k`, and `A_k[j]` in place of `A_j`, `B = A_k`;
    - DVAO: `leading_k = w_k / S`, `B = A_k`;
    - RC: `leading_k = w_k / sigma_sum`, `B = A`.

    Args:
        jacobian: `[B, G, G, K]`.
        advantages: `[B, G, K]`, `A_j` for each objective.
        scores: `[B, G, K]`, `B`.
        leading: `[B, K]`.
        ddof: 0 or 1.
    """
    group_size = jacobian.shape[1]
    own = jnp.eye(group_size, dtype=jacobian.dtype)[None, :, :, None] - 1 / group_size
    products = advantages[:, :, None, :] * scores[:, None, :, :] / (group_size - ddof)
    expected = leading[:, None, None, :] * (own - products)
    assert_same(jacobian, expected, "13 to 15 (sensitivities)")
    columns = jnp.sum(jacobian, axis=1)
    assert_same(columns, jnp.zeros_like(columns), "15 (the columns sum to 0)")
