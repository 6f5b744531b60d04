"""Cosines between the gradients of the objectives of a step: which pull apart, which together.

Each objective has its own policy gradient: that of the run's loss, without its KL penalty, with
GRPO's advantages of this objective alone, at the parameters before the first update. The advantages
do not depend on the run's aggregator, so that runs of different methods can be compared. A cosine
of 1 means that a step for one objective is a step for the other, 0 that they do not touch each
other, and a negative one that they conflict.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from dvaojax import aggregators
from dvaojax.learning.gradients import (
    UNPREPARED,
    GradientFunction,
    LossFunction,
    Preparation,
    StepMetrics,
    accumulate,
)
from dvaojax.learning.micro_batches import BY_INDEX, Access
from dvaojax.learning.policy_loss import PolicyBatch
from dvaojax.models import Params
from dvaojax.numerics import Mean, require_shape, safe_divide


class GradientCosines(NamedTuple):
    """Settings of the cosines that a train step measures.

    Attributes:
        objectives: the names of the columns of the rewards.
        every: steps between two readings.
        loss: of a step, without its penalty; a function of prepared parameters and a `PolicyBatch`.
    """

    objectives: Sequence[str]
    every: int
    loss: LossFunction


def objective_advantages(rewards: Array, mask: Array) -> Array:
    """The advantages that GRPO computes from each objective alone.

    Args:
        rewards: `[B, G, K]`.
        mask: `[B, G, K]` bool, false where an objective does not apply or was not scored.

    Returns:
        `[K, B, G]`.

    Raises:
        AssertionError: the shapes do not match.
    """
    require_shape("mask", mask, rewards.shape, axes="[B, G, K]", like="rewards")

    def alone(values: Array, where: Array) -> Array:
        return aggregators.grpo(values[..., None], jnp.ones(1), mask=where[..., None])

    return jax.vmap(alone, in_axes=-1)(rewards, mask)


def gradient_cosines(
    gradient: GradientFunction,
    params: Params,
    batch: PolicyBatch,
    rows: Array,
    *,
    access: Access = BY_INDEX,
    constrain: Callable[[Any], Any] = lambda piece: piece,
    prepare: Preparation = UNPREPARED,
) -> tuple[Array, Array]:
    """Cosines between the gradients of the objectives, exact up to rounding.

    It takes one forward and backward pass for each objective, and holds `K` gradients at once.

    Args:
        gradient: from prepared parameters and a batch to the gradient of a sum, and metrics.
        params: the decoder's parameters.
        batch: the step's data; its advantages are ignored.
        rows: `[micro_batches, rows]` int, the groups of each micro-batch.
        access: as in `accumulate`.
        constrain: applied to every micro-batch, for sharding constraints on its groups.
        prepare: applied to the parameters.

    Returns:
        `[K, K]` float32 in [-1, 1], 0 where a gradient is 0 or not finite; and `[K, K]` bool,
        whether both gradients are finite and not 0.
    """

    def one(advantages: Array) -> Params:
        own = batch._replace(advantages=advantages)
        gradients, _ = accumulate(
            gradient, params, own, rows, access=access, constrain=constrain, prepare=prepare
        )
        return gradients

    experience = batch.experience
    gradients = lax.map(one, objective_advantages(experience.rewards, experience.reward_mask))
    products = sum(_inner_products(leaf) for leaf in jax.tree.leaves(gradients))
    norms = jnp.sqrt(jnp.diagonal(jnp.asarray(products)))
    scale = norms[:, None] * norms[None]
    is_defined = jnp.isfinite(products) & (scale > 0)
    cosines = jnp.where(is_defined, safe_divide(jnp.asarray(products), scale), 0)
    return jnp.clip(cosines, -1, 1), is_defined


def cosine_metrics(
    settings: GradientCosines,
    step: Array,
    params: Params,
    batch: PolicyBatch,
    rows: Array,
    *,
    gradient: GradientFunction,
    access: Access,
    constrain: Callable[[Any], Any],
    prepare: Preparation,
) -> StepMetrics:
    """`gradient_cosine/A/B` of every pair of objectives, with count 0 in steps without a reading.

    Args:
        settings: the objectives, and how often there is a reading.
        step: scalar int, number of the step, from 1.
        params: before the first update.
        batch: the step's data.
        rows: `[micro_batches, rows]` int.
        gradient: of `settings.loss`.
        access: as in `gradient_cosines`.
        constrain: as in `gradient_cosines`.
        prepare: as in `gradient_cosines`.
    """
    number = len(settings.objectives)

    def measured() -> tuple[Array, Array]:
        cosines, is_defined = gradient_cosines(
            gradient,
            params,
            batch,
            rows,
            access=access,
            constrain=constrain,
            prepare=prepare,
        )
        return cosines, is_defined.astype(jnp.float32)

    def skipped() -> tuple[Array, Array]:
        return jnp.zeros((number, number)), jnp.zeros((number, number))

    cosines, count = lax.cond(step % settings.every == 0, measured, skipped)
    pairs = itertools.combinations(enumerate(settings.objectives), 2)
    return {
        f"gradient_cosine/{a}/{b}": Mean(cosines[i, j], count[i, j]) for (i, a), (j, b) in pairs
    }


def _inner_products(leaf: Array) -> Array:
    """`[K, K]` float32, the inner products of `K` arrays, stacked along the first axis."""
    leaf, axes = leaf.astype(jnp.float32), tuple(range(1, leaf.ndim))
    return jnp.tensordot(leaf, leaf, (axes, axes), precision=lax.Precision.HIGHEST)
