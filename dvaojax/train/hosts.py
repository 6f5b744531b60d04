"""Several processes that run one program, usually one on each host of a machine.

Every process executes the same calls on the same global arrays, in the same order, and holds only
the parts of them that lie on its own devices. Whatever they must agree on is exchanged in one
place a step, by `gather`; nothing else is decided by one of them alone. Where a process is told
apart from the others, it is by JAX's own index, which orders their devices too, and by nothing that
a scheduler calls a rank.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from dvaojax.train.failures import TrainingError

Result = TypeVar("Result")


class Share(NamedTuple):
    """Which of a step's groups are this process's affair.

    Attributes:
        held: `[H]` int, indices of the groups that lie on its devices, ascending.
        scored: `[S]` int, those of them whose completions it scores; every group has one process
            that does.
    """

    held: np.ndarray
    scored: np.ndarray


def share(sharding: Sharding, num_groups: int) -> Share:
    """This process's part of arrays whose leading axis is split as `sharding` says.

    Where several processes hold a group, that of the lowest index scores it.
    """
    holder = np.full(num_groups, jax.process_count())
    held = np.zeros(num_groups, bool)
    for device, index in sharding.devices_indices_map((num_groups,)).items():
        rows = index[0] if index else slice(None)
        holder[rows] = np.minimum(holder[rows], device.process_index)
        held[rows] |= device.process_index == jax.process_index()
    return Share(np.flatnonzero(held), np.flatnonzero(holder == jax.process_index()))


def is_first() -> bool:
    """Whether this is the process that writes and shows what belongs to the whole run."""
    return jax.process_index() == 0


def place(tree: Any, sharding: Sharding) -> Any:
    """Arrays of the host as global ones; of each, a process reads what lies on its devices."""

    def lay(array: np.ndarray) -> Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(lay, tree)


def rows(tree: Any, indices: np.ndarray) -> Any:
    """Rows of global arrays that lie on this process's devices, as arrays of the host."""

    def take(array: Array) -> np.ndarray:
        taken = np.zeros((len(indices), *array.shape[1:]), array.dtype)
        place_of = {int(index): place for place, index in enumerate(indices)}
        for shard in array.addressable_shards:
            first = shard.index[0].start or 0
            for row, values in enumerate(np.asarray(shard.data), start=first):
                if row in place_of:
                    taken[place_of[row]] = values
        return taken

    return jax.tree.map(take, tree)


def whole(tree: Any) -> Any:
    """Global arrays as arrays of the host, all of them in every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def gather(tree: Any) -> Any:
    """Arrays of the host, those of every process stacked in the order of their indices.

    All processes have to come here, and to the same calls in the same order.
    """
    if jax.process_count() == 1:
        return jax.tree.map(lambda a: np.asarray(a)[None], tree)
    return multihost_utils.process_allgather(tree)


def assemble(tree: Any, indices: np.ndarray, count: int) -> Any:
    """Arrays whose rows the processes have between them, whole in every one.

    Args:
        tree: arrays of the host, one row for each index.
        indices: `[R]` int, which rows they are; every row belongs to exactly one process.
        count: rows in all.
    """

    def spread(array: np.ndarray) -> np.ndarray:
        placed = np.zeros((count, *array.shape[1:]), array.dtype)
        placed[indices] = array
        return placed

    # One process has a number where the others have zero.
    gathered = gather(jax.tree.map(spread, tree))
    return jax.tree.map(lambda a: a.sum(axis=0, dtype=a.dtype), gathered)


def together(what: str, work: Callable[[], Result]) -> Result:
    """What the work returns, once it has succeeded in every process.

    Args:
        what: is done, for an error.
        work: need not do the same in all of them.

    Raises:
        Exception: whatever the work raised here.
        TrainingError: it failed in another process, which says why.
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
        raise TrainingError(f"{what} failed in process {failed[0]}; its own output says why")
    return result  # pyright: ignore[reportReturnType]
