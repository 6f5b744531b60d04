"""Exchange between the processes of one run, usually one process per host.

Every process executes the same calls on the same global arrays, in the same order, and holds only
the shards on its own devices. Everything the processes must agree on is exchanged by `gather`; no
process decides anything else alone. Processes are identified by JAX's own process index, which
also orders their devices, never by the rank of a scheduler.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from dvaojax.errors import printable
from dvaojax.train.failures import TrainingError

T = TypeVar("T")


class Share(NamedTuple):
    """The groups of a step that this process handles.

    Attributes:
        held: `[H]` int, indices of the groups on its devices, ascending.
        scored: `[S]` int, those of them whose completions it scores; every group is scored by
            exactly one process.
    """

    held: np.ndarray
    scored: np.ndarray


def share(sharding: Sharding, num_groups: int) -> Share:
    """This process's part of arrays whose leading axis is split by `sharding`.

    A group that several processes hold is scored by the one with the lowest index.
    """
    holder = np.full(num_groups, jax.process_count())
    held = np.zeros(num_groups, bool)
    for device, index in sharding.devices_indices_map((num_groups,)).items():
        rows = index[0] if index else slice(None)
        holder[rows] = np.minimum(holder[rows], device.process_index)
        held[rows] |= device.process_index == jax.process_index()
    return Share(np.flatnonzero(held), np.flatnonzero(holder == jax.process_index()))


def is_first() -> bool:
    """Whether this is the process that writes files and output for the whole run."""
    return jax.process_index() == 0


def say(line: str) -> None:
    """Prints a line, with control characters escaped; the first process does so."""
    if is_first():
        print(printable(line))


def place(tree: Any, sharding: Sharding) -> Any:
    """Host arrays as global arrays; a process reads only the parts for its own devices."""

    def to_devices(array: np.ndarray) -> Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(to_devices, tree)


def rows(tree: Any, indices: np.ndarray) -> Any:
    """Rows of global arrays that are on this process's devices, as host arrays."""

    def to_host(array: Array) -> np.ndarray:
        result = np.zeros((len(indices), *array.shape[1:]), array.dtype)
        position = {int(index): i for i, index in enumerate(indices)}
        for shard in array.addressable_shards:
            first = shard.index[0].start or 0
            for row, values in enumerate(np.asarray(shard.data), start=first):
                if row in position:
                    result[position[row]] = values
        return result

    return jax.tree.map(to_host, tree)


def whole(tree: Any) -> Any:
    """Global arrays as host arrays, complete in every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def gather(tree: Any) -> Any:
    """The host arrays of all processes, stacked in the order of the process indices.

    A collective: all processes must make the same calls in the same order.
    """
    if jax.process_count() == 1:
        return jax.tree.map(lambda a: np.asarray(a)[None], tree)
    return multihost_utils.process_allgather(tree)


def assemble(tree: Any, indices: np.ndarray, count: int) -> Any:
    """Complete host arrays from rows that are distributed over the processes.

    Args:
        tree: host arrays, one row for each index.
        indices: `[R]` int, the positions of the rows; every row belongs to exactly one process.
        count: total number of rows.
    """

    def spread(array: np.ndarray) -> np.ndarray:
        placed = np.zeros((count, *array.shape[1:]), array.dtype)
        placed[indices] = array
        return placed

    # For each row, all processes but one contribute zeros.
    gathered = gather(jax.tree.map(spread, tree))
    return jax.tree.map(lambda a: a.sum(axis=0, dtype=a.dtype), gathered)


def together(what: str, work: Callable[[], T]) -> T:
    """Runs `work` in every process, and returns its result once all of them have succeeded.

    Args:
        what: name of the work, for an error.
        work: may do different things in different processes.

    Raises:
        Exception: the exception that `work` raised in this process.
        TrainingError: it failed in another process, whose output gives the reason.
    """
    result, failure = None, None
    try:
        result = work()
    except Exception as error:
        failure = error
    failed = np.flatnonzero(gather(np.int32(failure is not None)))
    if failure is not None:
        raise failure
    if failed.size:
        raise TrainingError(f"{what} failed in process {failed[0]}; see the output of that process")
    return result  # pyright: ignore[reportReturnType]
