"""The rows of each micro-batch: by their index in the batch, or in the part that a device holds.

An index into an array that is split over devices says nothing of where its row is, so that all
devices exchange their rows. Where the composition of a micro-batch does not matter, each takes
the next rows of every device, and nothing is exchanged.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax import sharding


def take_rows(batch: Any, rows: Array) -> Any:
    """Rows of every leaf along its first axis; `rows` is `[R]` int."""
    return jax.tree.map(lambda a: a[rows], batch)


def own_rows(num_rows: int, *, micro_batches: int, lengths: Array | None = None) -> Array:
    """The rows of micro-batches that take equally many rows of every device.

    On one device they are consecutive rows.

    Args:
        num_rows: `B`, which the devices times the micro-batches divide.
        micro_batches: number of micro-batches.
        lengths: `[B]`, which each device's rows are sorted by, ascending; None to keep their order.

    Returns:
        `[micro_batches, B / micro_batches]` int32 for `take_own_rows`: indices among the rows of a
        device, split over the devices along the second axis.
    """
    parts = sharding.num_shards("group")
    if lengths is None:
        order = jnp.broadcast_to(jnp.arange(num_rows // parts)[None], (parts, num_rows // parts))
    else:
        by_part = sharding.constrain(lengths.reshape(parts, -1), "group", None)
        order = jnp.argsort(by_part, axis=1, stable=True)
    rows = order.reshape(parts, micro_batches, -1).swapaxes(0, 1).reshape(micro_batches, -1)
    return sharding.constrain(rows, None, "group")


def take_own_rows(batch: Any, rows: Array) -> Any:
    """Rows of every leaf along its first axis, each from the device that has the index.

    Args:
        batch: a pytree whose leaves are split over the devices along their first axis.
        rows: `[R]` int, one micro-batch of `own_rows`.
    """
    leaves, structure = jax.tree.flatten(batch)

    def take(rows: Array, *leaves: Array) -> tuple[Array, ...]:
        return tuple(leaf[rows] for leaf in leaves)

    groups = (("group",),) * len(leaves)
    on_devices = sharding.on_every_device(take, (("group",), *groups), groups)
    return jax.tree.unflatten(structure, on_devices(rows, *leaves))


def put_back(values: Array, rows: Array) -> Array:
    """The inverse of `take_rows` for all micro-batches: `values[i, j]` is row `rows[i, j]`.

    Args:
        values: `[micro_batches, R, ...]`.
        rows: `[micro_batches, R]` int, each row of the batch once.

    Returns:
        `[B, ...]`.
    """
    return jnp.zeros((rows.size, *values.shape[2:]), values.dtype).at[rows].set(values)


def put_own_back(values: Array, rows: Array) -> Array:
    """The inverse of `take_own_rows` for all micro-batches.

    Args:
        values: `[micro_batches, R, ...]`.
        rows: `[micro_batches, R]` int, from `own_rows`.

    Returns:
        `[B, ...]`.
    """
    by_device = (None, "group")
    return sharding.on_every_device(put_back, (by_device, by_device), ("group",))(values, rows)


class Access(NamedTuple):
    """How the rows of micro-batches are read and written.

    Attributes:
        take: (batch, rows of a micro-batch) -> the micro-batch.
        put: (values of all micro-batches, their rows) -> the values in the order of the batch.
    """

    take: Callable[[Any, Array], Any]
    put: Callable[[Array, Array], Array]


BY_INDEX = Access(take_rows, put_back)
BY_DEVICE = Access(take_own_rows, put_own_back)  # for rows from `own_rows`
