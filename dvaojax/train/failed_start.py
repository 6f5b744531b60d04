"""Removes the directory of a run that fails before anything was trained."""

import contextlib
from collections.abc import Iterator

from dvaojax.errors import UserError, memory_failure, storage_failure
from dvaojax.rewards import RewardError
from dvaojax.run.directory import RunDirectory
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.train import hosts
from dvaojax.train.failures import TrainingError

_EXPECTED = (UserError, RewardError, TrainingError, KeyboardInterrupt)


@contextlib.contextmanager
def removing_failed_start(directory: RunDirectory) -> Iterator[None]:
    """Removes the directory of a new run that failed before anything was trained.

    That is without a checkpoint; or, when memory did not suffice, without a step, because other
    settings are needed then. The same command can be given again after a mistake was corrected.
    An unexpected failure keeps the directory: its traceback is written there.
    """
    try:
        yield
    except BaseException as error:
        is_out_of_memory = memory_failure(error) is not None
        is_expected = is_out_of_memory or storage_failure(error) or isinstance(error, _EXPECTED)
        worth_keeping = _has_steps if is_out_of_memory else _has_checkpoint
        if is_expected and hosts.is_first() and not worth_keeping(directory):
            directory.delete()
        raise


def _has_checkpoint(directory: RunDirectory) -> bool:
    """Whether a checkpoint is complete."""
    saved = directory.checkpoints
    return saved.is_dir() and bool(SavedCheckpoints(saved).steps)


def _has_steps(directory: RunDirectory) -> bool:
    return directory.metrics.is_file() and directory.metrics.stat().st_size > 0
