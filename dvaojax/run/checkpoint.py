"""Checkpoints: any pytree of arrays and a few plain numbers, saved while training goes on.

Orbax does the work and stays behind this file. What it stores is a flat mapping from the path of
an array to the array, so that a state of named tuples, empty tuples and Nones comes back as it
was: its structure is the template's, and only the arrays come from the disk.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from dvaojax.errors import UserError

State = TypeVar("State")

_ITEMS = ("arrays", "record")


class Checkpoints:
    """The checkpoints of one run: the newest few, and the best.

    A checkpoint counts once it is complete. A process killed while it saves leaves the earlier
    ones as they were.
    """

    def __init__(self, directory: Path, *, keep_latest: int = 2, best_metric: str | None = None):
        """Opens the directory, which is created where it does not exist.

        Args:
            directory: where the checkpoints are, one directory a step.
            keep_latest: how many of the newest are kept, at least 1.
            best_metric: name of the metric whose largest value marks the checkpoint that is kept
                besides; None keeps no best one.

        Raises:
            UserError: `keep_latest` is below 1.
        """
        if keep_latest < 1:
            raise UserError(f"keep_latest={keep_latest} must be at least 1")
        keep: list[policies.PreservationPolicy] = [policies.LatestN(keep_latest)]
        if best_metric is not None:
            # A checkpoint without a metric is one whose deletion was cut short.
            best = policies.BestN(get_metric_fn=_merit, n=1, keep_checkpoints_without_metrics=False)
            keep.append(best)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(keep),
            best_fn=None if best_metric is None else _merit,
            cleanup_tmp_directories=True,
        )
        self._open(directory, best_metric, options)

    @classmethod
    def to_read(cls, directory: Path, *, best_metric: str | None = None) -> Self:
        """Opens checkpoints to restore from, of a run that may be going on: nothing is saved,
        deleted or tidied up.

        Args:
            directory: where the checkpoints are.
            best_metric: the metric they were saved with, for `best_step`.

        Raises:
            UserError: there is no such directory.
        """
        if not directory.is_dir():
            raise UserError(f"there is no checkpoint in {directory}")
        # Orbax's own `read_only` does the same, and complains of it in the log.
        options = ocp.CheckpointManagerOptions(
            create=False, best_fn=None if best_metric is None else _merit
        )
        checkpoints = cls.__new__(cls)
        checkpoints._open(directory, best_metric, options)
        return checkpoints

    def _open(
        self, directory: Path, best_metric: str | None, options: ocp.CheckpointManagerOptions
    ) -> None:
        self._directory = directory.absolute()
        self._best_metric = best_metric
        self._manager = ocp.CheckpointManager(self._directory, options=options, item_names=_ITEMS)

    @property
    def latest_step(self) -> int | None:
        """The newest complete checkpoint's step; None where there is none."""
        self.wait()
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """The step of the checkpoint with the largest `best_metric`; None where there is none."""
        self.wait()
        return None if self._best_metric is None else self._manager.best_step()

    def save(
        self,
        step: int,
        state: Any,
        *,
        extra: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Starts saving, and returns once the arrays may be given away or donated.

        A step that is already saved is left as it is.

        Args:
            step: steps done; greater than those saved before.
            state: pytree of jax arrays of any sharding, typed random keys included.
            extra: what is not an array (data position, counters), as JSON.
            metrics: must hold `best_metric`, if one was named.

        Raises:
            TypeError: a leaf of the state is not a jax array.
            KeyError: `best_metric` is not among the metrics.
        """
        self.wait()
        if step in self._manager.all_steps():
            return
        leaves = _by_path(state)
        for path, leaf in leaves.items():
            if not isinstance(leaf, jax.Array):
                raise TypeError(f"{path} is a {type(leaf).__name__}, not a jax array; see `extra`")
        arrays = {path: _unwrap(leaf) for path, leaf in leaves.items() if leaf.size}
        record = {
            "extra": dict(extra),
            "arrays": {path: _describe(leaf) for path, leaf in leaves.items()},
        }
        merit = None
        if self._best_metric is not None:
            value = (metrics or {})[self._best_metric]
            merit = {"merit": value if math.isfinite(value) else -math.inf}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
            ),
            metrics=merit,
        )

    def restore(self, template: State, *, step: int | None = None) -> tuple[State, dict[str, Any]]:
        """A saved state, straight into the template's shardings.

        The mesh may be another one than the state was saved from.

        Args:
            template: the state's pytree with arrays or `jax.ShapeDtypeStruct`s; a leaf without a
                sharding comes to the default device.
            step: which checkpoint; None for the newest.

        Returns:
            The state, bit for bit, and the `extra` saved with it.

        Raises:
            UserError: there is no such checkpoint, it cannot be read, or it holds other arrays
                than the template; the line names the first that differs.
        """
        step, leaves = self.existing_step(step), _by_path(template)
        with self._explaining(step) as where:
            record = self._record(step)
            _check_arrays(where, record["arrays"], leaves)
            wanted = ocp.args.StandardRestore(_targets(leaves))
            arrays = self._manager.restore(step, args=ocp.args.Composite(arrays=wanted))["arrays"]
        return _filled(template, leaves, arrays, record["arrays"]), record["extra"]

    def restore_part(self, template: State, *, step: int | None = None) -> State:
        """Some arrays of a saved state, such as its parameters alone; the others are not read.

        Args:
            template: the part, with the keys that lead to it in the whole; otherwise as for
                `restore`.
            step: which checkpoint; None for the newest.

        Raises:
            UserError: as `restore`, but for arrays that the template lacks.
        """
        step, leaves = self.existing_step(step), _by_path(template)
        with self._explaining(step) as where:
            saved = self._record(step)["arrays"]
            _check_arrays(where, {path: saved[path] for path in leaves if path in saved}, leaves)
            targets = _targets(leaves)
            wanted = ocp.args.PyTreeRestore(
                targets,
                restore_args=ocp.checkpoint_utils.construct_restore_args(targets),
                partial_restore=True,
            )
            # Not by the manager, which reads an item in one way only, and wholly where it saves.
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
                arrays = reader.restore(self._directory / str(step) / _ITEMS[0], args=wanted)
        return _filled(template, leaves, arrays, saved)

    def existing_step(self, step: int | None) -> int:
        """The step, or the newest one for None, where there is a checkpoint of it.

        Raises:
            UserError: there is none.
        """
        self.wait()
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise UserError(f"there is no checkpoint in {self._directory}")
        if step is None:
            return steps[-1]
        if step not in steps:
            raise UserError(
                f"there is no checkpoint of step {step} in {self._directory}; saved: {steps}"
            )
        return step

    def wait(self) -> None:
        """Returns once everything saved so far is complete; raises what went wrong meanwhile."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and ends the threads that save."""
        self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _record(self, step: int) -> Mapping[str, Any]:
        """What is not an array, and what the arrays are."""
        record = ocp.args.Composite(record=ocp.args.JsonRestore())
        return self._manager.restore(step, args=record)["record"]

    @contextlib.contextmanager
    def _explaining(self, step: int) -> Iterator[str]:
        """Names the checkpoint, and turns what goes wrong in reading it into one line."""
        where = f"checkpoint {self._directory / str(step)}"
        try:
            yield where
        except UserError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).strip().partition("\n")[0]
            others = [other for other in self._manager.all_steps() if other != step]
            raise UserError(
                f"{where} cannot be read ({reason[:200]}); other steps saved: {others or 'none'}"
            ) from error


def _merit(metrics: Mapping[str, float]) -> float:
    return metrics["merit"]


def _by_path(tree: Any) -> dict[str, Any]:
    """The leaves of a tree under the paths to them, such as `params/layers/scale`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    if len(named) != len(leaves):
        raise ValueError("two leaves of the state have one path; a key may not contain '/'")
    return named


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _unwrap(leaf: jax.Array) -> jax.Array:
    """The array to store: random keys as the integers they consist of."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _wrap(array: jax.Array, description: Mapping[str, Any]) -> jax.Array:
    """The inverse of `_unwrap`."""
    if "key" not in description:
        return array
    return jax.random.wrap_key_data(array, impl=description["key"])


def _targets(leaves: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """What Orbax is to restore; what has no elements is not stored."""
    return {path: _target(leaf) for path, leaf in leaves.items() if leaf.size}


def _filled(
    template: State, leaves: Mapping[str, Any], arrays: Mapping[str, Any], saved: Mapping[str, Any]
) -> State:
    """The template with the arrays that were read."""
    restored = [
        _wrap(arrays[path], saved[path]) if leaf.size else _nothing(leaf)
        for path, leaf in leaves.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(template), restored)


def _nothing(leaf: Any) -> jax.Array:
    """An array without elements, which need not be stored."""
    return jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)


def _describe(leaf: Any) -> dict[str, Any]:
    """Shape and type of an array, as JSON; of random keys also how they are drawn."""
    description = {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
    if isinstance(leaf, jax.Array) and _is_key(leaf):
        description["key"] = str(jax.random.key_impl(leaf))
    return description


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
    """What Orbax is to restore: shape, type and sharding of the stored array."""
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    stored = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return jax.ShapeDtypeStruct(stored.shape, stored.dtype, sharding=sharding)


def _check_arrays(where: str, saved: Mapping[str, Any], leaves: Mapping[str, Any]) -> None:
    """Raises a UserError at the first array that the template and the checkpoint do not share."""
    for path in sorted(saved.keys() | leaves.keys()):
        if path not in saved:
            raise UserError(f"{where} lacks {path}, which this run's state has")
        if path not in leaves:
            raise UserError(f"{where} holds {path}, which this run's state has not")
        had, wanted = saved[path], _describe(leaves[path])
        for name in ("shape", "dtype"):
            if had[name] != wanted[name]:
                raise UserError(
                    f"{where} holds {path} with {name} {had[name]}; this run's state has "
                    f"{wanted[name]}"
                )
