"""The directory of a run, which is never overwritten without `--overwrite`.

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

import dataclasses
import datetime
import enum
import importlib.metadata
import math
import platform
import shutil
import sys
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import jax

import dvaojax
from dvaojax import files
from dvaojax.errors import UserError, nearest

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "chex", "numpy")
_DIRECTORIES = (files.TENSORBOARD, files.CHECKPOINTS, files.PLOTS)
_FILES = (files.CONFIG, files.METRICS, files.SAMPLES, files.SUMMARY, files.REPORT, files.ERRORS)
_LATER = (files.EVALUATIONS, files.WANDB)  # added by evaluations and wandb


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """Paths of the files of one run; see `create`, `resume` and `overwrite`.

    Attributes:
        path: the directory itself, `runs/NAME`.
    """

    path: Path

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
    def checkpoints(self) -> Path:
        """One directory for each checkpoint."""
        return self.path / files.CHECKPOINTS

    @property
    def plots(self) -> Path:
        """Plots of the run."""
        return self.path / files.PLOTS


def create(path: Path, config: Any) -> RunDirectory:
    """Creates a run directory with `config.json`.

    Args:
        path: of the directory; its parents are created.
        config: the resolved configuration, a dataclass.

    Raises:
        UserError: the path exists.
    """
    if path.exists() and not (path.is_dir() and _is_empty(path)):
        raise UserError(
            f"{path} exists: --resume continues it, --overwrite deletes it first, --name takes "
            "another name"
        )
    description = {"config": config_to_json(config), "starts": [describe_start()]}
    path.mkdir(parents=True, exist_ok=True)
    return _write_directory(path, description)


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
    recorded = _read_description(path)
    current = config_to_json(config)
    different = first_difference(migrate(recorded["config"]), current, ignore=may_differ)
    if different is not None:
        key, before, now = different
        raise UserError(
            f"{path} was started with {key}={before!r}, not {now!r}: "
            "resume with the same settings, or choose another name"
        )
    return _write_directory(
        path, {"config": current, "starts": [*recorded["starts"], describe_start()]}
    )


def overwrite(path: Path, config: Any) -> RunDirectory:
    """Creates a run directory, after deleting an existing one.

    A directory is only deleted if a run wrote everything in it.

    Raises:
        UserError: the path is not a run, or contains files that no run wrote.
    """
    if not path.exists() or (path.is_dir() and _is_empty(path)):
        return create(path, config)
    _read_description(path)
    known = {
        *_DIRECTORIES,
        *_FILES,
        *_LATER,
        *(files.partial_path(Path(name)).name for name in _FILES),
    }
    unknown = sorted({entry.name for entry in path.iterdir()} - known)
    if unknown or path.is_symlink():
        reason = f"contains {unknown[0]}, which no run wrote" if unknown else "is a symbolic link"
        raise UserError(f"{path} {reason}: it is not deleted; choose another name")
    # Renamed first, so that an interrupted deletion does not leave an incomplete run.
    old = path.with_name(f".{path.name}.deleted")
    path.rename(old)
    shutil.rmtree(old)
    return create(path, config)


def read_config(path: Path) -> Any:
    """The recorded configuration of a run, as JSON.

    Raises:
        UserError: there is no run.
    """
    return _read_description(path)["config"]


def config_to_json(config: Any) -> dict[str, Any]:
    """A configuration as JSON, in the order of its fields.

    A nested dataclass whose class is not the declared one (such as `task: Task`) also contains its
    class, as `{"class": "module:Name", ...}`. Infinite and undefined floats become the strings
    "inf", "-inf" and "nan".

    Args:
        config: a dataclass of numbers, strings, paths, enums, sequences, mappings and dataclasses.

    Raises:
        TypeError: a value has another type.
    """
    hints = typing.get_type_hints(type(config))
    return {
        field.name: _to_json(getattr(config, field.name), hints[field.name])
        for field in dataclasses.fields(config)
        if field.init
    }


def _to_json(value: Any, declared: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        cls = type(value)
        class_entry = {} if declared is cls else {"class": f"{cls.__module__}:{cls.__qualname__}"}
        return class_entry | config_to_json(value)
    if isinstance(value, Mapping):
        return {str(key): _to_json(item, None) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item, None) for item in value]
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"a configuration cannot hold {value!r} ({type(value).__name__})")


def _write_directory(path: Path, description: dict[str, Any]) -> RunDirectory:
    """Writes `config.json` first, because a directory with this file counts as a run."""
    files.write_json(path / files.CONFIG, description)
    for name in _DIRECTORIES:
        (path / name).mkdir(exist_ok=True)
    return RunDirectory(path)


def describe_start() -> dict[str, Any]:
    """Time, command, versions and devices of this process."""
    devices = jax.devices()
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "argv": sys.argv,
        "versions": {
            "dvaojax": dvaojax.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        "devices": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
            "processes": jax.process_count(),
        },
    }


def _read_description(path: Path) -> dict[str, Any]:
    """The content of an existing run's `config.json`."""
    if not path.is_dir():
        siblings = path.parent.iterdir() if path.parent.is_dir() else ()
        runs = [entry.name for entry in siblings if (entry / files.CONFIG).is_file()]
        guess = nearest(path.name, runs)
        raise UserError(f"there is no run {path}" + (f"; the nearest is {guess}" if guess else ""))
    if not (path / files.CONFIG).is_file():
        raise UserError(f"{path} is not a run: it has no {files.CONFIG}")
    description = files.read_json(path / files.CONFIG)
    if not isinstance(description, dict) or description.keys() != {"config", "starts"}:
        raise UserError(f"{path} is not a run: its {files.CONFIG} was not written by dvaojax")
    return description


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: leaf
        for name, item in value.items()
        for key, leaf in flatten(item, f"{prefix}.{name}" if prefix else name).items()
    }


def first_difference(
    before: Any, now: Any, *, ignore: Collection[str] = ()
) -> tuple[str, Any, Any] | None:
    """The first dotted key at which two JSON values differ, with both values; None if equal.

    Args:
        before: nested mappings.
        now: likewise; a key that one of them lacks counts as None.
        ignore: dotted keys that may differ.
    """
    old, new = flatten(before), flatten(now)
    keys = sorted((old.keys() | new.keys()) - set(ignore))
    return next(
        ((key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)), None
    )


def _is_empty(path: Path) -> bool:
    return next(path.iterdir(), None) is None
