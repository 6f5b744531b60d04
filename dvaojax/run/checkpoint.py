"""Checkpoints: a pytree of arrays and a JSON record, saved asynchronously during training.

This module wraps Orbax. It stores a flat mapping from the path of each array to the array, so that
named tuples, empty tuples and Nones are restored exactly: the structure of the state is that of the
template, and only the arrays are read from the disk.
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

Tree = TypeVar("Tree")

_ITEMS = ("arrays", "record")


class Checkpoints:
    """The checkpoints of one run: the newest few, and the best.

    A checkpoint exists only once it is complete. A process that is killed while saving leaves the
    earlier checkpoints unchanged.
    """

    def __init__(self, directory: Path, *, keep_latest: int = 2, best_metric: str | None = None):
        """Opens the directory, which is created if it does not exist.

        Args:
            directory: of the checkpoints, one subdirectory per step.
            keep_latest: number of newest checkpoints to keep, at least 1.
            best_metric: name of the metric whose largest value marks an additional checkpoint to
                keep; None keeps no such checkpoint.

        Raises:
            UserError: `keep_latest` is below 1.
        """
        if keep_latest < 1:
            raise UserError(f"keep_latest={keep_latest} must be at least 1")
        keep: list[policies.PreservationPolicy] = [policies.LatestN(keep_latest)]
        if best_metric is not None:
            # A checkpoint without a metric is one whose deletion was interrupted.
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
        """Opens the checkpoints read-only; the run may still be in progress.

        Args:
            directory: of the checkpoints.
            best_metric: the metric they were saved with, for `best_step`.

        Raises:
            UserError: there is no such directory.
        """
        if not directory.is_dir():
            raise UserError(f"there is no checkpoint in {directory}")
        # Orbax's own `read_only` does the same, but logs warnings.
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
        """Starts saving, and returns once the arrays may be donated.

        A step that is already saved is not saved again.

        Args:
            step: steps done; greater than those saved before.
            state: pytree of jax arrays of any sharding, typed random keys included.
            extra: everything that is not an array (data position, counters), as JSON.
            metrics: must contain `best_metric`, if there is one.

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

    def restore(self, template: Tree, *, step: int | None = None) -> tuple[Tree, dict[str, Any]]:
        """Restores a state directly into the shardings of the template.

        The mesh may differ from the one the state was saved on.

        Args:
            template: the state's pytree with arrays or `jax.ShapeDtypeStruct`s; a leaf without a
                sharding is placed on the default device.
            step: of the checkpoint; None for the newest.

        Returns:
            The state, exactly as saved, and the `extra` saved with it.

        Raises:
            UserError: there is no such checkpoint, it cannot be read, or its arrays differ from
                the template; the message names the first difference.
        """
        step, leaves = self.existing_step(step), _by_path(template)
        with self._read_errors(step) as name:
            record = self._record(step)
            _check_arrays(name, record["arrays"], leaves)
            item = ocp.args.StandardRestore(_targets(leaves))
            arrays = self._manager.restore(step, args=ocp.args.Composite(arrays=item))["arrays"]
        return _filled(template, leaves, arrays, record["arrays"]), record["extra"]

    def restore_part(self, template: Tree, *, step: int | None = None) -> Tree:
        """Restores some arrays of a state, such as the parameters; the others are not read.

        Args:
            template: the part, nested under the same keys as in the state; otherwise as for
                `restore`.
            step: of the checkpoint; None for the newest.

        Raises:
            UserError: as in `restore`, except that the checkpoint may have additional arrays.
        """
        step, leaves = self.existing_step(step), _by_path(template)
        with self._read_errors(step) as name:
            saved = self._record(step)["arrays"]
            _check_arrays(name, {path: saved[path] for path in leaves if path in saved}, leaves)
            targets = _targets(leaves)
            item = ocp.args.PyTreeRestore(
                targets,
                restore_args=ocp.checkpoint_utils.construct_restore_args(targets),
                partial_restore=True,
            )
            # The manager cannot read a part of an item that it may also save.
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
                arrays = reader.restore(self._directory / str(step) / _ITEMS[0], args=item)
        return _filled(template, leaves, arrays, saved)

    def existing_step(self, step: int | None) -> int:
        """The step, or the newest step for None, after checking that it was saved.

        Raises:
            UserError: there is no such checkpoint.
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
        """Waits until everything saved so far is complete; raises errors of the saving threads."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for unfinished saves, and ends the saving threads."""
        self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _record(self, step: int) -> Mapping[str, Any]:
        """The `extra` of a checkpoint, and the descriptions of its arrays."""
        record = ocp.args.Composite(record=ocp.args.JsonRestore())
        return self._manager.restore(step, args=record)["record"]

    @contextlib.contextmanager
    def _read_errors(self, step: int) -> Iterator[str]:
        """Yields the name of the checkpoint, and turns read errors into a UserError of one line."""
        name = f"checkpoint {self._directory / str(step)}"
        try:
            yield name
        except UserError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).strip().partition("\n")[0]
            others = [other for other in self._manager.all_steps() if other != step]
            raise UserError(
                f"{name} cannot be read ({reason[:200]}); other steps saved: {others or 'none'}"
            ) from error


def _merit(metrics: Mapping[str, float]) -> float:
    return metrics["merit"]


def _by_path(tree: Any) -> dict[str, Any]:
    """Path -> leaf of a tree; a path looks like `params/layers/scale`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    if len(named) != len(leaves):
        raise ValueError("two leaves of the state have the same path: keys must not contain '/'")
    return named


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _unwrap(leaf: jax.Array) -> jax.Array:
    """The array to store; random keys are stored as their integer data."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _wrap(array: jax.Array, description: Mapping[str, Any]) -> jax.Array:
    """The inverse of `_unwrap`."""
    if "key" not in description:
        return array
    return jax.random.wrap_key_data(array, impl=description["key"])


def _targets(leaves: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """The arrays that Orbax restores; arrays without elements are not stored."""
    return {path: _target(leaf) for path, leaf in leaves.items() if leaf.size}


def _filled(
    template: Tree, leaves: Mapping[str, Any], arrays: Mapping[str, Any], saved: Mapping[str, Any]
) -> Tree:
    """The template filled with the arrays that were read."""
    restored = [
        _wrap(arrays[path], saved[path]) if leaf.size else _empty(leaf)
        for path, leaf in leaves.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(template), restored)


def _empty(leaf: Any) -> jax.Array:
    """An array without elements, which is not stored."""
    return jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)


def _describe(leaf: Any) -> dict[str, Any]:
    """Shape and dtype of an array, as JSON; for random keys also their implementation."""
    description = {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
    if isinstance(leaf, jax.Array) and _is_key(leaf):
        description["key"] = str(jax.random.key_impl(leaf))
    return description


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape, dtype and sharding of a stored array, for Orbax."""
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    stored = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return jax.ShapeDtypeStruct(stored.shape, stored.dtype, sharding=sharding)


def _check_arrays(name: str, saved: Mapping[str, Any], leaves: Mapping[str, Any]) -> None:
    """Raises a UserError for the first difference between the checkpoint and the template."""
    for path in sorted(saved.keys() | leaves.keys()):
        if path not in saved:
            raise UserError(f"{name} lacks {path}, which this run's state has")
        if path not in leaves:
            raise UserError(f"{name} holds {path}, which this run's state does not have")
        actual, expected = saved[path], _describe(leaves[path])
        for field in ("shape", "dtype"):
            if actual[field] != expected[field]:
                raise UserError(
                    f"{name} holds {path} with {field} {actual[field]}; this run's state has "
                    f"{expected[field]}"
                )
