"""The directory of a run, which is never overwritten without `--overwrite`.

The process of a run holds the lock of its directory (`run.lock`) before it calls `create`, `resume`
or `overwrite`, and as long as it writes. Overwriting is one atomic step: writing `.new-config.json`
makes everything else in the directory that of a deleted run. If a kill interrupts the deletion, the
next start finishes it.

runs/NAME/
  config.json     the resolved configuration; versions, devices and command of every start
  metrics.jsonl   one row per step
  samples.jsonl   completions with their rewards and advantage
  tensorboard/    the same rows for TensorBoard
  checkpoints/    the newest checkpoints and the best one
  plots/          plots made at the end
  summary.json    the evaluation before and after
  evaluations/    one directory for each later evaluation of a checkpoint
  report.html     report of the run, written on demand
  error.log       tracebacks of unexpected errors
"""

import contextlib
import dataclasses
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from etils import epath

from dvaojax import files
from dvaojax.errors import ServiceError, UserError, nearest, writing
from dvaojax.run import lease, lock
from dvaojax.run.bucket import Bucket
from dvaojax.run.description import config_to_json, describe_start, first_difference, with_defaults
from dvaojax.run.working_copy import WorkingCopy

_DIRECTORIES = (files.TENSORBOARD, files.CHECKPOINTS, files.PLOTS)
_NEW_CONFIG = ".new-config.json"
_STORING_SECONDS = 30.0
_FILES = (
    *(files.CONFIG, files.METRICS, files.SAMPLES, files.SUMMARY, files.REPORT, files.ERRORS),
    _NEW_CONFIG,
)
_LATER = (files.EVALUATIONS, files.WANDB)  # added by evaluations and wandb
_KNOWN = frozenset(
    {*_DIRECTORIES, *_FILES, *_LATER, *(files.partial_path(Path(name)).name for name in _FILES)}
)
# A start that was killed before it wrote `config.json` may leave these.
_UNUSED = frozenset({*lock.FILES, files.partial_path(Path(files.CONFIG)).name})


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """Paths of the files of one run; see `create`, `resume` and `overwrite`.

    Attributes:
        path: the directory itself, `runs/NAME`, or a local copy of one in a bucket.
        copy: of which `path` is the path; None where the directory is not in a bucket.
    """

    path: Path
    copy: WorkingCopy | None = None

    @property
    def address(self) -> Path | epath.Path:
        """The directory as the user names it: its path, or its address in a bucket."""
        return self.path if self.copy is None else self.copy.bucket.address

    @property
    def config(self) -> Path:
        """The resolved configuration and every start, `config.json`."""
        return self.path / files.CONFIG

    @property
    def metrics(self) -> Path:
        """One row per step, `metrics.jsonl`."""
        return self.path / files.METRICS

    @property
    def samples(self) -> Path:
        """Completions with their rewards, `samples.jsonl`."""
        return self.path / files.SAMPLES

    @property
    def summary(self) -> Path:
        """The evaluation before and after, `summary.json`."""
        return self.path / files.SUMMARY

    @property
    def evaluations(self) -> Path:
        """One directory for each later evaluation."""
        return self.path / files.EVALUATIONS

    @property
    def tensorboard(self) -> Path:
        """The rows for TensorBoard."""
        return self.path / files.TENSORBOARD

    @property
    def checkpoints(self) -> Path | epath.Path:
        """One directory for each checkpoint; in the bucket, if the run is in one."""
        return self.address / files.CHECKPOINTS

    @property
    def plots(self) -> Path:
        """Plots of the run."""
        return self.path / files.PLOTS

    def fetch(self) -> None:
        """Makes the local copy equal to the bucket; nothing to do where there is no copy."""
        if self.copy is not None:
            self.copy.fetch()

    def store(self) -> None:
        """Makes the bucket equal to the local copy; nothing to do where there is no copy."""
        if self.copy is not None:
            self.copy.store()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """The lock of the directory while the body runs.

        What the body writes to the copy of a bucket is stored every half minute, and at the end.

        Raises:
            UserError: another process uses the directory, or took it; or it cannot be written.
        """
        if self.copy is None:
            with lock.hold(self.path):
                yield
            return
        with lease.hold(self.copy.bucket) as held:
            self.fetch()
            with self._storing_regularly(held):
                yield

    @contextlib.contextmanager
    def _storing_regularly(self, held: lock.DirectoryLock) -> Iterator[None]:
        ended = threading.Event()

        def store_regularly() -> None:
            while not ended.wait(_STORING_SECONDS):
                with contextlib.suppress(ServiceError, UserError):  # attempted again
                    self._store_if(held)

        thread = threading.Thread(target=store_regularly, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._store_if(held)

    def _store_if(self, held: lock.DirectoryLock) -> None:
        if not held.is_held():
            raise UserError(f"another process may have taken {self.address}: nothing was stored")
        self.store()

    def take(self) -> lock.DirectoryLock:
        """The lock of the directory.

        Raises:
            UserError: another process uses the directory, or it cannot be written.
        """
        return lock.take(self.path) if self.copy is None else lease.take(self.copy.bucket)

    def delete_elsewhere(self) -> None:
        """Deletes what the run that is being overwritten has in the bucket; see `overwrite`."""
        if self.copy is not None:
            lease.check_unused(self.copy.bucket, files.EVALUATIONS)
            self.copy.store()
            self.copy.delete_in_bucket(but=[_NEW_CONFIG])

    def delete(self) -> None:
        """Deletes the directory."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.copy is not None:
            self.copy.delete_in_bucket()


@contextlib.contextmanager
def at(path: Path | epath.Path) -> Iterator[RunDirectory]:
    """The directory of a run; if it is in a bucket, with an empty local copy, removed on leaving.

    Errors of the body name the directory in the bucket instead of the copy.

    Args:
        path: of the directory, or its address, such as `gs://bucket/runs/NAME`.

    Raises:
        UserError: the bucket cannot be used.
    """
    if isinstance(path, Path):
        yield RunDirectory(path)
        return
    bucket = Bucket(path)
    with tempfile.TemporaryDirectory(prefix="dvaojax-", ignore_cleanup_errors=True) as folder:
        local = Path(folder) / path.name
        try:
            yield RunDirectory(local, WorkingCopy(local, bucket))
        except UserError as error:
            error.args = tuple(str(part).replace(str(local), str(path)) for part in error.args)
            raise


@contextlib.contextmanager
def read(paths: Sequence[Path | epath.Path]) -> Iterator[list[RunDirectory]]:
    """The directories of runs that are read, each as in `at`, with the content of its bucket.

    Of a directory that is not a run, such as one of weights, nothing is copied.
    """
    with contextlib.ExitStack() as stack:
        directories = [stack.enter_context(at(path)) for path in paths]
        for directory in directories:
            if directory.copy is not None and directory.copy.bucket.read(files.CONFIG) is not None:
                directory.fetch()
        yield directories


def check_start(path: Path, start: Literal["create", "resume", "overwrite"]) -> None:
    """Checks what can be checked before the lock is taken, which may create the directory.

    Raises:
        UserError: the path exists and is to be created; there is no run that could be resumed; or
            the path is something else than a run.
    """
    if start == "create":
        _check_unused(path)
    elif start == "resume" or not is_unused(path):
        _check_run(path)


def create(path: Path, config: Any) -> RunDirectory:
    """Creates a run directory with `config.json`.

    Args:
        path: of the directory; its parents are created.
        config: the resolved configuration, a dataclass.

    Raises:
        UserError: the path exists, or cannot be written.
    """
    _check_unused(path)
    description = {"config": config_to_json(config), "starts": [describe_start()]}
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        try:
            return _write_directory(path, description)
        except BaseException:
            for name in _KNOWN:
                _delete(path / name)
            raise


def resume(
    path: Path,
    config: Any,
    *,
    may_differ: Collection[str] = (),
    migrate: Callable[[Any], Any] = lambda recorded: recorded,
) -> RunDirectory:
    """Opens the directory of an earlier start of the same run, and records this start in it.

    Args:
        path: of the directory.
        config: the resolved configuration of this start.
        may_differ: dotted keys whose values may have changed; the new values are recorded.
        migrate: converts the configuration that an earlier version recorded to this version's form.

    Raises:
        UserError: there is no run, or its configuration was different; the message names the key.
    """
    current = config_to_json(config)
    recorded = check_resumable(path, config, may_differ=may_differ, migrate=migrate)
    with writing(path):
        return _write_directory(
            path, {"config": current, "starts": [*recorded["starts"], describe_start()]}
        )


def check_resumable(
    path: Path,
    config: Any,
    *,
    may_differ: Collection[str] = (),
    migrate: Callable[[Any], Any] = lambda recorded: recorded,
    delete_elsewhere: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Checks what `resume` checks, and returns the content of `config.json`.

    If the run is being overwritten and a kill ended that, it is completed.

    Args:
        path: as for `resume`.
        config: as for `resume`.
        may_differ: as for `resume`.
        migrate: as for `resume`.
        delete_elsewhere: as for `overwrite`.

    Raises:
        UserError: as for `resume`.
    """
    _check_run(path)
    with writing(path):
        _finish_overwriting(path, delete_elsewhere)
    recorded, current = _read_description(path), config_to_json(config)
    before = with_defaults(migrate(recorded["config"]), config)
    different = first_difference(before, current, ignore=may_differ)
    if different is not None:
        key, before, now = different
        raise UserError(
            f"{path} was started with {key}={before!r}, not {now!r}: "
            "resume with the same settings, or choose another name"
        )
    return recorded


def overwrite(
    path: Path, config: Any, *, delete_elsewhere: Callable[[], None] = lambda: None
) -> RunDirectory:
    """Makes the directory of an existing run that of a new one.

    A run is only deleted if a run wrote everything in its directory. After a kill at any moment,
    the directory is either that of the old run or that of the new one.

    Args:
        path: of the directory.
        config: the resolved configuration of the new run.
        delete_elsewhere: deletes what the directory has in a bucket. It is called before anything
            is deleted here, and again by the next start if a kill interrupts it.

    Raises:
        UserError: the path is not a run, or contains files that no run wrote.
    """
    if is_unused(path):
        return create(path, config)
    _check_run(path)
    description = {"config": config_to_json(config), "starts": [describe_start()]}
    with writing(path):
        _finish_overwriting(path, delete_elsewhere)
        _check_deletable(path)
        files.write_json(path / _NEW_CONFIG, description)
        _finish_overwriting(path, delete_elsewhere)
    return RunDirectory(path)


def _check_deletable(path: Path) -> None:
    """Raises a UserError unless a run wrote everything in a directory, and no process does."""
    _read_description(path)
    unknown = sorted({entry.name for entry in path.iterdir()} - _KNOWN - lock.FILES)
    if unknown or path.is_symlink():
        reason = f"contains {unknown[0]}, which no run wrote" if unknown else "is a symbolic link"
        raise UserError(f"{path} {reason}: it is not deleted; choose another name")
    for locked in sorted(path.glob(f"{files.EVALUATIONS}/*/{lock.LOCK}*")):
        lock.take(locked.parent).release()


def _finish_overwriting(path: Path, delete_elsewhere: Callable[[], None]) -> None:
    """Deletes the run that an earlier version of `config.json` describes, if there is a new one."""
    earlier = path.with_name(f".{path.name}.deleted")  # of a version that renamed the directory
    if earlier.is_dir() and not {entry.name for entry in earlier.iterdir()} - _KNOWN:
        shutil.rmtree(earlier)
    if not (path / _NEW_CONFIG).is_file():
        return
    delete_elsewhere()
    # Without a `config.json` the directory is not taken for the old run any more.
    for name in (files.CONFIG, *sorted(_KNOWN - {files.CONFIG, _NEW_CONFIG})):
        _delete(path / name)
    for name in _DIRECTORIES:
        (path / name).mkdir()
    (path / _NEW_CONFIG).replace(path / files.CONFIG)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_unused(path: Path) -> None:
    if not is_unused(path):
        raise UserError(
            f"{path} exists: --resume continues it, --overwrite deletes it first, --name takes "
            "another name"
        )


def is_unused(path: Path) -> bool:
    """Whether a path has nothing, or only what a start that was killed at once left."""
    if not os.path.isdir(path):  # unlike the method of `Path`, this raises no error
        return not os.path.lexists(path)
    return {entry.name for entry in path.iterdir()} <= _UNUSED


def _check_run(path: Path) -> None:
    """Raises a UserError unless the path is that of a run, or of one that is being overwritten."""
    if not (path / _NEW_CONFIG).is_file():
        _read_description(path)


def read_config(path: Path) -> Any:
    """The recorded configuration of a run, as JSON.

    Raises:
        UserError: there is no run.
    """
    return _read_description(path)["config"]


def _write_directory(path: Path, description: dict[str, Any]) -> RunDirectory:
    """Writes `config.json` first, because a directory with this file counts as a run."""
    files.write_json(path / files.CONFIG, description)
    for name in _DIRECTORIES:
        (path / name).mkdir(exist_ok=True)
    return RunDirectory(path)


def _read_description(path: Path) -> dict[str, Any]:
    """The content of an existing run's `config.json`."""
    if not path.is_dir():
        siblings = path.parent.iterdir() if path.parent.is_dir() else ()
        runs = [entry.name for entry in siblings if (entry / files.CONFIG).is_file()]
        guess = nearest(path.name, runs)
        raise UserError(f"there is no run {path}" + (f"; the nearest is {guess}" if guess else ""))
    if (path / _NEW_CONFIG).is_file():
        raise UserError(f"{path} is being overwritten; if a kill ended that, --resume completes it")
    if not (path / files.CONFIG).is_file():
        raise UserError(f"{path} is not a run: it has no {files.CONFIG}")
    description = files.read_json(path / files.CONFIG)
    if not (
        isinstance(description, dict)
        and description.keys() == {"config", "starts"}
        and isinstance(description["config"], dict)
        and isinstance(description["starts"], list)
    ):
        raise UserError(f"{path} is not a run: its {files.CONFIG} was not written by dvaojax")
    return description
