"""Gradients added up over micro-batches and divided once, and updates that survive a bad one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from dvaojax.models import Params
from dvaojax.numerics import Mean, safe_divide

Metrics = dict[str, Mean]

# Parameters and a batch to a sum, and metrics whose "loss" holds that sum and its divisor.
Loss = Callable[[Params, Any], tuple[Array, Metrics]]
# Parameters and a batch to the gradient of such a sum, and the metrics.
Gradient = Callable[[Params, Any], tuple[Params, Metrics]]


class Learner(NamedTuple):
    """What an update changes.

    Attributes:
        params: the decoder's parameters.
        optimizer_state: optax's.
        skipped: scalar int32, updates skipped so far because loss or gradient was not finite.
        skipped_in_a_row: scalar int32, how many of them came last, with none that counted between.
    """

    params: Params
    optimizer_state: optax.OptState
    skipped: Array
    skipped_in_a_row: Array


def init_learner(params: Params, optimizer: optax.GradientTransformation) -> Learner:
    """A learner before its first update."""
    # Two zeros, not one twice: a buffer can be donated once.
    zeros = [jnp.zeros((), jnp.int32) for _ in range(2)]
    return Learner(params, optimizer.init(params), *zeros)


def gradient_of(loss: Loss) -> Gradient:
    """The gradient of a loss with respect to the parameters."""

    def gradient(params: Params, batch: Any) -> tuple[Params, Metrics]:
        found, metrics = jax.grad(loss, has_aux=True)(params, batch)
        return found, metrics

    return gradient


def taken(batch: Any, rows: Array) -> Any:
    """The rows `[R]` int of every leaf, along its first axis."""
    return jax.tree.map(lambda a: a[rows], batch)


def accumulate(
    gradient: Gradient,
    params: Params,
    batch: Any,
    rows: Array,
    *,
    constrain: Callable[[Any], Any] = lambda piece: piece,
) -> tuple[Params, Metrics]:
    """The mean of a mini-batch's gradient, however it is cut.

    Sums are added over the micro-batches and divided by the count of the whole mini-batch, so the
    number of pieces, their raggedness and the devices they lie on cannot change the result.

    Args:
        gradient: of a sum, and metrics, from parameters and a batch.
        params: the decoder's parameters.
        batch: a pytree whose leaves share their leading axis.
        rows: `[micro_batches, rows]` int, what each micro-batch takes along that axis.
        constrain: applied to every micro-batch, to say over which devices its rows are split.
    """

    def piece(rows: Array) -> tuple[Params, Metrics]:
        return gradient(params, constrain(taken(batch, rows)))

    def add(total: tuple[Params, Metrics], rows: Array):
        return jax.tree.map(jnp.add, total, piece(rows)), None

    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(piece, rows[0]))
    (total, metrics), _ = lax.scan(add, zeros, rows)
    count = metrics["loss"].count
    return jax.tree.map(lambda g: safe_divide(g, count.astype(g.dtype)), total), metrics


def update(
    learner: Learner,
    gradient: Params,
    metrics: Metrics,
    optimizer: optax.GradientTransformation,
) -> tuple[Learner, Metrics]:
    """One optimiser update, skipped and counted when loss or gradient is not finite.

    Returns:
        The learner after it, and the metrics with `grad_norm` (before any clipping; 0 when
        skipped) and `skipped_updates`.
    """
    norm = optax.tree.norm(gradient)
    is_finite = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"].total)
    # optax counts on NumPy's promotion of types, which a caller may have forbidden.
    with jax.numpy_dtype_promotion("standard"):
        updates, optimizer_state = optimizer.update(
            gradient, learner.optimizer_state, learner.params
        )
    # What a bad gradient has made is chosen against as a whole: nothing of it enters the state.
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
    finite_norm = jnp.where(is_finite, norm, 0.0).astype(jnp.float32)
    metrics = {name: _zero_unless(is_finite, mean) for name, mean in metrics.items()}
    metrics["grad_norm"] = Mean(finite_norm, is_finite.astype(jnp.float32))
    metrics["skipped_updates"] = Mean(skip.astype(jnp.float32), one)
    return after, metrics


def _zero_unless(condition: Array, mean: Mean) -> Mean:
    """The mean, or one that counts nothing: a skipped update reports no loss."""
    return jax.tree.map(lambda a: jnp.where(condition, a, jnp.zeros_like(a)), mean)
