"""The directory of a run that fails: removed if nothing was trained, otherwise kept."""

import pytest

from dvaojax.config import Config
from dvaojax.errors import UserError
from dvaojax.rewards import RewardError
from dvaojax.run import directory as run_directory
from dvaojax.train import TrainingError
from dvaojax.train.failed_start import removing_failed_start

MEMORY = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 448491975176 bytes.")
DISK = ValueError("RESOURCE_EXHAUSTED: writing 0: No space left on device [os_error_code='28']")
EXPECTED = (UserError("x"), RewardError("x"), TrainingError("x"), KeyboardInterrupt(), DISK)


def is_kept(directory, error, *, checkpoints=(), rows=""):
    """Whether the directory of a run with these files is there after the error."""
    run = run_directory.create(directory, Config(name="run"))
    for name in checkpoints:
        (run.checkpoints / name).mkdir()
    run.metrics.write_text(rows)
    with pytest.raises(type(error)), removing_failed_start(run):
        raise error
    return directory.exists()


@pytest.mark.parametrize("error", [*EXPECTED, MEMORY], ids=lambda error: type(error).__name__)
def test_run_that_trained_nothing_leaves_no_directory(tmp_path, error):
    assert not is_kept(tmp_path / "a", error)
    assert not is_kept(tmp_path / "b", error, checkpoints=["0.orbax-checkpoint-tmp"])


@pytest.mark.parametrize("error", EXPECTED, ids=lambda error: type(error).__name__)
def test_run_with_a_checkpoint_is_kept(tmp_path, error):
    assert is_kept(tmp_path / "run", error, checkpoints=["0"])


def test_memory_that_does_not_suffice_for_the_first_step_needs_a_new_run(tmp_path):
    assert not is_kept(tmp_path / "a", MEMORY, checkpoints=["0"])
    assert is_kept(tmp_path / "b", MEMORY, checkpoints=["0"], rows='{"step": 1}\n')


def test_unexpected_error_keeps_the_directory_for_its_traceback(tmp_path):
    assert is_kept(tmp_path / "run", KeyError("x"))
