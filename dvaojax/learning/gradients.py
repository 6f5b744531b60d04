"""Gradients summed over micro-batches and divided once; updates that skip non-finite gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from dvaojax.learning import gradient_noise
from dvaojax.learning.micro_batches import BY_INDEX, Access
from dvaojax.models import Params
from dvaojax.numerics import Mean, safe_divide

# Name -> sum and count.
StepMetrics = dict[str, Mean]

# (params, batch) -> a sum, and metrics whose "loss" contains that sum and its count. Some losses
# take further keywords.
LossFunction = Callable[..., tuple[Array, StepMetrics]]
# (params, batch) -> the gradient of that sum, and the metrics.
GradientFunction = Callable[[Params, Any], tuple[Params, StepMetrics]]


class Preparation(NamedTuple):
    """How parameters become what the passes of a step read: once, not for every micro-batch.

    Attributes:
        join: a linear function of the parameters, which keeps their dtype, for passes over a batch
            of the form of its second argument.
        cast: elementwise, to the dtypes of the passes.
    """

    join: Callable[[Params, Any], Any]
    cast: Callable[[Any], Any]

    def __call__(self, params: Params, batch: Any) -> Any:
        """The parameters prepared for passes over the batch."""
        return self.cast(self.join(params, batch))


UNPREPARED = Preparation(join=lambda params, _: params, cast=lambda params: params)


class Learner(NamedTuple):
    """The state that an update changes.

    Attributes:
        params: the decoder's parameters.
        optimizer_state: state of the optax transformation.
        skipped: scalar int32, updates skipped so far because loss or gradient was not finite.
        skipped_in_a_row: scalar int32, skipped updates since the last update that was applied.
    """

    params: Params
    optimizer_state: optax.OptState
    skipped: Array
    skipped_in_a_row: Array


def init_learner(params: Params, optimizer: optax.GradientTransformation) -> Learner:
    """The learner before its first update."""
    # Two arrays instead of one used twice: a buffer can only be donated once.
    zeros = [jnp.zeros((), jnp.int32) for _ in range(2)]
    return Learner(params, optimizer.init(params), *zeros)


def gradient_of(loss: LossFunction) -> GradientFunction:
    """The gradient of a loss with respect to the parameters."""

    def gradient(params: Params, batch: Any) -> tuple[Params, StepMetrics]:
        gradients, metrics = jax.grad(loss, has_aux=True)(params, batch)
        return gradients, metrics

    return gradient


def accumulate(
    gradient: GradientFunction,
    params: Params,
    batch: Any,
    rows: Array,
    *,
    access: Access = BY_INDEX,
    constrain: Callable[[Any], Any] = lambda piece: piece,
    prepare: Preparation = UNPREPARED,
    observe: Callable[[Params], StepMetrics] | None = None,
) -> tuple[Params, StepMetrics]:
    """The mean gradient of a mini-batch, independent of its micro-batches.

    Sums are added over the micro-batches, in the dtype of the parameters, and divided by the count
    of the whole mini-batch, so the result does not depend on the number of micro-batches, their
    lengths or their devices.

    Args:
        gradient: from prepared parameters and a batch to the gradient of a sum, and metrics.
        params: the decoder's parameters.
        batch: a pytree whose leaves share their leading axis.
        rows: `[micro_batches, rows]` int, the rows of each micro-batch along that axis.
        access: `BY_DEVICE` if the rows are those of `micro_batches.own_rows`.
        constrain: applied to every micro-batch, for sharding constraints on its rows.
        prepare: applied to the parameters.
        observe: further metrics from the gradient of each micro-batch, a sum by the parameters;
            None for none.
    """
    joined, transpose = jax.vjp(lambda params: prepare.join(params, batch), params)
    prepared = prepare.cast(joined)

    def piece(rows: Array) -> tuple[Any, StepMetrics]:
        gradients, metrics = gradient(prepared, constrain(access.take(batch, rows)))
        if observe is not None:
            (by_params,) = transpose(
                jax.tree.map(lambda g, p: g.astype(p.dtype), gradients, joined)
            )
            metrics = metrics | observe(by_params)
        return gradients, metrics

    def add(total: tuple[Any, StepMetrics], rows: Array):
        return jax.tree.map(lambda t, x: t + x.astype(t.dtype), total, piece(rows)), None

    metric_shapes = jax.eval_shape(piece, rows[0])[1]
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), (joined, metric_shapes))
    (total, metrics), _ = lax.scan(add, zeros, rows)
    count = metrics["loss"].count
    (total,) = transpose(total)
    return jax.tree.map(lambda g: safe_divide(g, count.astype(g.dtype)), total), metrics


def update(
    learner: Learner,
    gradient: Params,
    metrics: StepMetrics,
    optimizer: optax.GradientTransformation,
) -> tuple[Learner, StepMetrics]:
    """One optimiser update; skipped and counted if loss or gradient is not finite.

    Args:
        learner: the learner before the update.
        gradient: the mean gradient of `accumulate`.
        metrics: those of `accumulate`. If it observed `gradient_noise.squared_norm`, the optimiser
            gets `signal` and `noise` of the gradient in addition.
        optimizer: the gradient transformation.

    Returns:
        The next learner, and the metrics with `grad_norm` (before clipping; 0 if skipped),
        `skipped_updates` and, if observed, `gradient_signal`, `gradient_noise`, and `signal_share`
        of their running means.
    """
    norm = optax.tree.norm(gradient)
    is_finite = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"].total)
    metrics, noise = dict(metrics), {}
    if gradient_noise.SQUARES in metrics:
        squares = metrics.pop(gradient_noise.SQUARES)
        noise = gradient_noise.measured_noise(gradient, squares, metrics["loss"].count)
    # optax relies on NumPy's type promotion, which the caller may have disabled.
    with jax.numpy_dtype_promotion("standard"):
        updates, optimizer_state = optax.with_extra_args_support(optimizer).update(
            gradient, learner.optimizer_state, learner.params, **noise
        )
    # Skip the whole update if the gradient is not finite: no part of it enters the state.
    updated = (optax.apply_updates(learner.params, updates), optimizer_state)
    kept = (learner.params, learner.optimizer_state)
    params, optimizer_state = jax.tree.map(
        lambda new, old: jnp.where(is_finite, new, old), updated, kept
    )
    skip = (~is_finite).astype(jnp.int32)
    after = Learner(
        params, optimizer_state, learner.skipped + skip, (learner.skipped_in_a_row + skip) * skip
    )
    one = jnp.ones((), jnp.float32)
    if noise:
        running = [optax.tree.get(optimizer_state, name) for name in noise]
        metrics |= {f"gradient_{name}": Mean(value, one) for name, value in noise.items()}
        metrics["signal_share"] = Mean(gradient_noise.signal_share(*running), one)
    finite_norm = jnp.where(is_finite, norm, 0.0).astype(jnp.float32)
    metrics = {name: _zero_unless(is_finite, mean) for name, mean in metrics.items()}
    metrics["grad_norm"] = Mean(finite_norm, is_finite.astype(jnp.float32))
    metrics["skipped_updates"] = Mean(skip.astype(jnp.float32), one)
    return after, metrics


def _zero_unless(condition: Array, mean: Mean) -> Mean:
    """The mean, or one with count 0: a skipped update reports no loss."""
    return jax.tree.map(lambda a: jnp.where(condition, a, jnp.zeros_like(a)), mean)
