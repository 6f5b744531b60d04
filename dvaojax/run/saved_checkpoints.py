"""Reading of the checkpoints of a run, which may still be in progress.

A checkpoint is a directory with the name of its step: a flat mapping from the path of each array to
the array, written by Orbax, a JSON record, and the checksums of both. Named tuples, empty tuples
and Nones are restored exactly: the structure of the state is that of the template, and only the
arrays are read from the disk.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from etils import epath

from dvaojax import hub
from dvaojax.errors import ServiceError, UserError, first_line, root_cause
from dvaojax.run import bucket
from dvaojax.run.arrays import by_path, check_arrays, filled, targets_of
from dvaojax.run.checksums import SUMS, find_damage
from dvaojax.run.orbax_output import hide_abandoned_work

Tree = TypeVar("Tree")

ARRAYS, RECORD, METRICS = "arrays", "record", "metrics"
"""Names of the items of a checkpoint, which are directories."""

COMMITTED = "commit_success.txt"
"""Orbax's file in a complete checkpoint in a bucket."""

METADATA = "_CHECKPOINT_METADATA"
"""Orbax's file about a checkpoint, which it completes last."""

MERIT = "merit"
"""Name under which the value of the best metric is saved."""

_SMALL = 1 << 20  # bytes
_DAMAGED, _DISCARDED = "{}.damaged", "{}.discarded"
_METADATA_TYPES: Mapping[str, Any] = {
    "item_handlers": (dict, str, type(None)),
    "metrics": dict,
    "performance_metrics": dict,
    "init_timestamp_nsecs": (int, type(None)),
    "commit_timestamp_nsecs": (int, type(None)),
    "custom_metadata": dict,
}


class DamagedCheckpoint(UserError):
    """A checkpoint differs from what was saved, or cannot be read.

    Attributes:
        reason: the damage, without the checkpoint's name.
    """

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


class SavedCheckpoints:
    """The complete checkpoints in a directory.

    Nothing is restored from a checkpoint before its files were compared with their checksums; with
    several processes the first one does so. Checkpoints of versions that wrote no checksums are
    restored without.
    """

    def __init__(self, directory: Path | epath.Path, *, best_metric: str | None = None):
        """Opens the checkpoints; nothing is written.

        Args:
            directory: of the checkpoints.
            best_metric: the metric they were saved with, for `best_step`.

        Raises:
            UserError: there is no such directory.
        """
        if isinstance(directory, Path) and not directory.is_dir():
            raise UserError(f"there is no checkpoint in {directory}")
        self._directory, self._best_metric = bucket.absolute(directory), best_metric
        self._whole: set[int] = set()

    @property
    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, ascending."""
        with self._requests():
            if not self._is_local and not self._directory.exists():
                return []  # a bucket has no empty directories
            names = [path.name for path in self._directory.iterdir() if self._is_complete(path)]
        return sorted(map(int, names))

    @property
    def latest_step(self) -> int | None:
        """The newest complete checkpoint's step; None where there is none."""
        return max(self.steps, default=None)

    @property
    def best_step(self) -> int | None:
        """The step of the checkpoint with the largest `best_metric`; None where there is none.

        Raises:
            DamagedCheckpoint: the metric of a checkpoint cannot be read.
        """
        if self._best_metric is None:
            return None
        merits = []
        for step in self.steps:
            damage = self.find_small_damage(step)
            if damage is not None:
                raise self._damaged(step, damage)
            if (merit := self._merit(step)) is not None:
                merits.append((merit, step))
        return max(merits, default=(None, None))[1]

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
            DamagedCheckpoint: the checkpoint is damaged or cannot be read.
            UserError: there is no such checkpoint, or its arrays differ from the template; the
                message names the first difference.
        """
        step, leaves = self.existing_step(step), by_path(template)
        with self._read_errors(step) as name:
            record = self._record(step)
            saved, extra = record["arrays"], dict(record["extra"])
            check_arrays(name, saved, leaves)
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
                item = ocp.args.StandardRestore(targets_of(leaves))
                arrays = reader.restore(self._path(step) / ARRAYS, args=item)
            return filled(template, leaves, arrays, saved), extra

    def restore_part(self, template: Tree, *, step: int | None = None) -> Tree:
        """Restores some arrays of a state, such as the parameters; the others are not read.

        Args:
            template: the part, nested under the same keys as in the state; otherwise as for
                `restore`.
            step: of the checkpoint; None for the newest.

        Raises:
            UserError: as in `restore`, except that the checkpoint may have additional arrays.
        """
        step, leaves = self.existing_step(step), by_path(template)
        with self._read_errors(step) as name:
            saved = self._record(step)["arrays"]
            check_arrays(name, {path: saved[path] for path in leaves if path in saved}, leaves)
            targets = targets_of(leaves)
            item = ocp.args.PyTreeRestore(
                targets,
                restore_args=ocp.checkpoint_utils.construct_restore_args(targets),
                partial_restore=True,
            )
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
                arrays = reader.restore(self._path(step) / ARRAYS, args=item)
            return filled(template, leaves, arrays, saved)

    def existing_step(self, step: int | None) -> int:
        """The step, or the newest step for None, after checking that it was saved.

        Raises:
            UserError: there is no such checkpoint.
        """
        steps = self.steps
        if not steps:
            raise UserError(f"there is no checkpoint in {self._directory}")
        if step is None:
            return steps[-1]
        if step not in steps:
            raise UserError(
                f"there is no checkpoint of step {step} in {self._directory}; saved: {steps}"
            )
        return step

    def find_damage(self, step: int) -> str | None:
        """The damage to a checkpoint's files; None if there is none.

        A checkpoint without checksums is not compared, but damaged if an earlier one has them.

        Reads all its files.
        """
        if step in self._whole:
            return None
        path, damage = self._path(step), self.find_small_damage(step)
        if damage is None and isinstance(path, Path):
            damage = find_damage(path)
        if damage is None:
            self._whole.add(step)
        return damage

    def find_small_damage(self, step: int) -> str | None:
        """Like `find_damage`, without reading files of more than 1 MiB."""
        path = self._path(step)
        with self._requests():
            if not _is_metadata(path / METADATA):
                return f"{METADATA} is damaged"
        if not isinstance(path, Path):
            return None
        # Once a version writes checksums, all later checkpoints have them: see `Checkpoints`.
        earlier = (self._path(other) for other in self.steps if other < step)
        if not (path / SUMS).exists() and any((other / SUMS).exists() for other in earlier):
            return f"{SUMS} is missing"
        damage = find_damage(path, largest=_SMALL)
        if damage is None:
            try:
                self._merit(step)
            except (OSError, ValueError, KeyError, TypeError):
                return f"{METRICS} cannot be read"
        return damage

    def set_aside(self, step: int) -> Path | epath.Path:
        """Renames a damaged checkpoint, so that it does not count as one, and returns its path."""
        aside = self._directory / _DAMAGED.format(step)
        if aside.exists():
            _delete(aside)
        return self._path(step).rename(aside)

    def discard_after(self, step: int) -> None:
        """Deletes later checkpoints, the newest first: after a kill there are no gaps."""
        for path in self._directory.glob(_DISCARDED.format("*")):  # left by a kill
            _delete(path)
        for later in sorted(self.steps, reverse=True):
            if later > step:
                _delete(self._discarded(later))

    def _discarded(self, step: int) -> Path | epath.Path:
        """Makes a directory of a checkpoint no checkpoint any more, as one step, and returns it."""
        path = self._path(step)
        if self._is_local:
            return path.rename(self._directory / _DISCARDED.format(step))
        (path / COMMITTED).unlink()
        return path

    def _is_complete(self, path: Path | epath.Path) -> bool:
        """Whether a path is that of a complete checkpoint.

        In a bucket, where nothing is renamed, Orbax marks them with a file.
        """
        name = path.name
        if not name.isdecimal() or name != str(int(name)):
            return False
        return path.is_dir() if self._is_local else (path / COMMITTED).exists()

    @property
    def _is_local(self) -> bool:
        return isinstance(self._directory, Path)

    def _path(self, step: int) -> Path | epath.Path:
        return self._directory / str(step)

    def _merit(self, step: int) -> float | None:
        """The best metric of a checkpoint; None if it was saved without."""
        try:
            text = (self._path(step) / METRICS / METRICS).read_bytes()
        except FileNotFoundError:
            return None
        return float(json.loads(text)[MERIT])

    def _record(self, step: int) -> Mapping[str, Any]:
        """The `extra` of a checkpoint, and the descriptions of its arrays."""
        if jax.process_index() == 0 and (damage := self.find_damage(step)) is not None:
            raise self._damaged(step, damage)
        return json.loads((self._path(step) / RECORD / "metadata").read_bytes())

    def _damaged(self, step: int, damage: str) -> DamagedCheckpoint:
        others = [other for other in self.steps if other != step]
        return DamagedCheckpoint(
            f"checkpoint {self._path(step)} is damaged ({damage}); "
            f"other steps saved: {others or 'none'}",
            damage,
        )

    @contextlib.contextmanager
    def _requests(self) -> Iterator[None]:
        """Turns errors of requests to a bucket into one line; those of a disk stay as they are."""
        try:
            yield
        except Exception as error:
            if isinstance(self._directory, Path):
                raise
            raise hub.failure(self._directory, error) from error

    @contextlib.contextmanager
    def _read_errors(self, step: int) -> Iterator[str]:
        """Yields the checkpoint's name, and turns read errors into one of one line."""
        try:
            yield f"checkpoint {self._path(step)}"
        except (UserError, ServiceError):
            raise
        except Exception as error:  # Orbax raises exceptions of any class
            hide_abandoned_work()
            if not isinstance(self._directory, Path) and not bucket.is_damage(error):
                raise hub.failure(self._directory, error) from error
            reason = first_line(root_cause(error))
            raise self._damaged(step, f"it cannot be read: {reason}") from error


def _delete(directory: Path | epath.Path) -> None:
    """Deletes a directory with everything in it."""
    if isinstance(directory, Path):
        shutil.rmtree(directory)
    else:
        directory.rmtree()


def _is_metadata(path: Path | epath.Path) -> bool:
    """Whether Orbax can read its file about a checkpoint; it may be missing."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return True
    except OSError:
        if isinstance(path, Path):
            return False
        raise  # of the request
    except (ValueError, RecursionError):
        return False
    if not isinstance(content, dict):
        return False
    known = {name: content[name] for name in _METADATA_TYPES.keys() & content.keys()}
    return all(
        isinstance(value, _METADATA_TYPES[name])
        and not (isinstance(value, int) and not 0 <= value < 1 << 62)
        for name, value in known.items()
    )
