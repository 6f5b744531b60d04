"""Checkpoints: a pytree of arrays and a JSON record, saved asynchronously during training.

This module wraps Orbax, which writes the arrays and renames a checkpoint once it is complete. The
checksums of its files are written before that, in the same thread.
"""

import math
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as policies
from orbax.checkpoint import multihost

from dvaojax.errors import UserError
from dvaojax.run import bucket
from dvaojax.run.arrays import by_path, describe, unwrap
from dvaojax.run.checksums import write_checksums
from dvaojax.run.saved_checkpoints import (
    ARRAYS,
    COMMITTED,
    MERIT,
    METADATA,
    RECORD,
    SavedCheckpoints,
)


class Checkpoints(SavedCheckpoints):
    """The checkpoints of one run: the newest few, and the best.

    A checkpoint exists only once it is complete. A process that is killed while saving leaves the
    earlier checkpoints unchanged.
    """

    def __init__(
        self,
        directory: Path | epath.Path,
        *,
        keep_latest: int = 2,
        best_metric: str | None = None,
        on_failure: Callable[[BaseException], None] = lambda error: None,
    ):
        """Opens the directory, which is created if it does not exist.

        Args:
            directory: of the checkpoints, one subdirectory per step.
            keep_latest: number of newest checkpoints to keep, at least 1.
            best_metric: name of the metric whose largest value marks an additional checkpoint to
                keep; None keeps no such checkpoint.
            on_failure: called in a saving thread of one of several processes in which saving fails
                while the others wait for it.

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
            # Called in the saving thread after the files were written, and before the renaming.
            async_options=ocp.AsyncOptions(
                post_finalization_callback=self._write_checksums,
                barrier_sync_fn=self._meet_others if jax.process_count() > 1 else None,
            ),
        )
        self._on_failure = on_failure
        self._saving: int | None = None
        self._directory = bucket.absolute(directory)
        with self._requests():
            self._manager = ocp.CheckpointManager(
                self._directory, options=options, item_names=(ARRAYS, RECORD)
            )
        super().__init__(directory, best_metric=best_metric)

    @property
    def steps(self) -> list[int]:
        """The steps saved, ascending; waits for an unfinished save."""
        self.wait()
        return super().steps

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
        leaves = by_path(state)
        for path, leaf in leaves.items():
            if not isinstance(leaf, jax.Array):
                raise TypeError(f"{path} is a {type(leaf).__name__}, not a jax array; see `extra`")
        arrays = {path: unwrap(leaf) for path, leaf in leaves.items() if leaf.size}
        record = {
            "extra": dict(extra),
            "arrays": {path: describe(leaf) for path, leaf in leaves.items()},
        }
        merit = None
        if self._best_metric is not None:
            value = (metrics or {})[self._best_metric]
            merit = {MERIT: value if math.isfinite(value) else -math.inf}
        self._saving = step
        with self._requests():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
                ),
                metrics=merit,
            )

    def wait(self) -> None:
        """Waits until everything saved so far is complete; raises errors of the saving threads."""
        with self._requests():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for unfinished saves, and ends the saving threads."""
        with self._requests():
            self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _meet_others(self, *, key: str, timeout_ms: int) -> None:
        """Waits for the other processes, except where saving has failed in this one.

        Orbax's thread comes here after an error too. The others are then at another barrier, and
        all would wait until both have timed out.
        """
        error = sys.exception()
        if error is not None and threading.current_thread() is not threading.main_thread():
            self._on_failure(error)
            raise error
        multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)

    def _write_checksums(self) -> None:
        """Writes the checksums of the checkpoint being saved; the first process does so.

        A bucket has its own checksum of every object, which is compared whenever one is read.
        """
        if isinstance(self._directory, Path) and jax.process_index() == 0:
            name = f"{self._saving}.orbax-checkpoint-tmp*"
            (unfinished,) = self._directory.glob(name)
            write_checksums(unfinished, leave_out=[METADATA, COMMITTED])


def _merit(metrics: Mapping[str, float]) -> float:
    return metrics[MERIT]
