"""Where a run keeps what it makes: one directory, never overwritten silently.

runs/NAME/
  config.json     the resolved configuration; versions, devices and command of every start
  metrics.jsonl   one row a step
  samples.jsonl   completions with every reward and their advantage
  tensorboard/    the same rows for TensorBoard
  checkpoints/    the newest ones and the best
  plots/          the pictures made at the end
  summary.json    the evaluation before and after
  evaluations/    one directory for each later evaluation of a checkpoint
  report.html     all of it to look at, written on demand
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
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax

import dvaojax
from dvaojax import files
from dvaojax.errors import UserError, nearest

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "chex", "numpy")
_DIRECTORIES = (files.TENSORBOARD, files.CHECKPOINTS, files.PLOTS)
_FILES = (files.CONFIG, files.METRICS, files.SAMPLES, files.SUMMARY, files.REPORT)
_LATER = (files.EVALUATIONS, files.WANDB)  # what others add


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """The places of one run; made by `create`, `resume` and `overwrite`.

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
        """One row a step, `metrics.jsonl`."""
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
        """A directory for each later evaluation."""
        return self.path / files.EVALUATIONS

    @property
    def tensorboard(self) -> Path:
        """The rows for TensorBoard."""
        return self.path / files.TENSORBOARD

    @property
    def checkpoints(self) -> Path:
        """A directory for each checkpoint."""
        return self.path / files.CHECKPOINTS

    @property
    def plots(self) -> Path:
        """Pictures of the run."""
        return self.path / files.PLOTS


def create(path: Path, config: Any) -> RunDirectory:
    """A new run directory, with `config.json` in it.

    Args:
        path: where; its parents are created.
        config: the resolved configuration, a dataclass.

    Raises:
        UserError: something stands there already.
    """
    if path.exists() and not (path.is_dir() and _is_empty(path)):
        raise UserError(f"{path} exists: --resume continues it, --overwrite deletes it first")
    description = {"config": config_to_json(config), "starts": [describe_start()]}
    path.mkdir(parents=True, exist_ok=True)
    return _furnish(path, description)


def resume(path: Path, config: Any, *, may_differ: Collection[str] = ()) -> RunDirectory:
    """The run directory of an earlier start of the same run; this start is added to its record.

    Args:
        path: where.
        config: the resolved configuration of this start.
        may_differ: dotted keys whose values may have changed; the new ones are recorded.

    Raises:
        UserError: there is no run, or its configuration was another one; the line names the key.
    """
    recorded = _read_description(path)
    asked = config_to_json(config)
    before, now = flatten(recorded["config"]), flatten(asked)
    for key in sorted(before.keys() | now.keys()):
        if key not in may_differ and before.get(key) != now.get(key):
            raise UserError(
                f"{path} was started with {key}={before.get(key)!r}, not {now.get(key)!r}: "
                "resume with the same settings, or give the run another name"
            )
    return _furnish(path, {"config": asked, "starts": [*recorded["starts"], describe_start()]})


def overwrite(path: Path, config: Any) -> RunDirectory:
    """A new run directory in the place of an old one, if there was one.

    Only what a run writes is deleted.

    Raises:
        UserError: what stands there is not a run, or holds files that no run wrote.
    """
    if not path.exists() or (path.is_dir() and _is_empty(path)):
        return create(path, config)
    _read_description(path)
    known = {*_DIRECTORIES, *_FILES, *_LATER, *(files.partial(Path(name)).name for name in _FILES)}
    strangers = sorted({entry.name for entry in path.iterdir()} - known)
    if strangers or path.is_symlink():
        what = f"holds {strangers[0]}, which no run wrote" if strangers else "is a symbolic link"
        raise UserError(f"{path} {what}: it is not deleted; choose another name")
    # Moved away in one step, so that an interrupted deletion leaves no half of a run behind.
    doomed = path.with_name(f".{path.name}.deleted")
    path.rename(doomed)
    shutil.rmtree(doomed)
    return create(path, config)


def read_config(path: Path) -> Any:
    """The configuration that a run recorded, as JSON.

    Raises:
        UserError: there is no run.
    """
    return _read_description(path)["config"]


def config_to_json(config: Any) -> dict[str, Any]:
    """A configuration as JSON, in the order of its fields.

    A nested dataclass whose class is not the declared one (such as `task: Task`) also names its
    class, as `{"class": "module:Name", ...}`. Infinite and undefined floats become the strings
    "inf", "-inf" and "nan".

    Args:
        config: a dataclass of numbers, strings, paths, enums, sequences, mappings and dataclasses.

    Raises:
        TypeError: a value is none of these.
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
        named = {} if declared is cls else {"class": f"{cls.__module__}:{cls.__qualname__}"}
        return named | config_to_json(value)
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


def _furnish(path: Path, description: dict[str, Any]) -> RunDirectory:
    """`config.json` first: a directory that has it is a run, whatever else it lacks."""
    files.write_json(path / files.CONFIG, description)
    for name in _DIRECTORIES:
        (path / name).mkdir(exist_ok=True)
    return RunDirectory(path)


def describe_start() -> dict[str, Any]:
    """When, with what, on what and by which command this process started."""
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
        raise UserError(f"{path} is not a run: its {files.CONFIG} was written by something else")
    return description


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested objects as dotted keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: leaf
        for name, item in value.items()
        for key, leaf in flatten(item, f"{prefix}.{name}" if prefix else name).items()
    }


def _is_empty(path: Path) -> bool:
    return next(path.iterdir(), None) is None
