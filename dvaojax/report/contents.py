"""Reads a run directory; parts that are missing or broken become one-line notes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dvaojax import files
from dvaojax.config import migrate
from dvaojax.errors import UserError
from dvaojax.evaluation.directory import SETTINGS
from dvaojax.evaluation.history import History, read_history, read_summary
from dvaojax.evaluation.intervals import Interval
from dvaojax.run import directory as run_directory
from dvaojax.run.directory import RunDirectory

T = TypeVar("T")


class LaterEvaluation(NamedTuple):
    """An evaluation of a checkpoint, made after the run by `dvaojax evaluate`.

    Attributes:
        name: of its directory.
        settings: content of `settings.json`.
        summary: content of `summary.json`; empty if the evaluation is not finished.
    """

    name: str
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class RunContents:
    """A run, read for a report.

    Attributes:
        path: its directory; that of its copy, if it is in a bucket.
        name: the last part of its path.
        config: the resolved configuration, as JSON.
        starts: time, command, versions and devices of each start.
        history: its metrics; None before the first step.
        summary: content of `summary.json`; empty if there is none.
        samples: lines of `samples.jsonl`.
        later: evaluations of its checkpoints.
        gaps: part ("history", "summary", "samples", "later") -> why it is missing, in one line.
    """

    path: Path
    name: str
    config: Mapping[str, Any]
    starts: Sequence[Mapping[str, Any]]
    history: History | None
    summary: Mapping[str, Any]
    samples: Sequence[Mapping[str, Any]]
    later: Sequence[LaterEvaluation]
    gaps: Mapping[str, str]

    @property
    def steps_done(self) -> int:
        """Number of finished steps."""
        return 0 if self.history is None else int(self.history.steps[-1])

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the objectives: those measured, or before the first step those with weights."""
        if self.history is not None:
            return self.history.objectives
        return tuple(self.config.get("weights") or ())

    def column(self, name: str) -> np.ndarray | None:
        """`[S]` the values of a metric; None if none is finite."""
        values = None if self.history is None else self.history.columns.get(name)
        return None if values is None or not np.isfinite(values).any() else values

    def evaluated(self, when: str) -> dict[str, Interval | None]:
        """Means of the evaluation "before" or "after" training; empty if there was none."""
        means = self.summary.get(when) or {}
        return {name: interval_from_json(mean) for name, mean in means.items()}


def interval_from_json(mean: Mapping[str, float] | None) -> Interval | None:
    """A mean with its interval, from JSON; None if nothing was scored."""
    return None if mean is None else Interval(*(mean[field] for field in Interval._fields))


def read_runs(directories: Sequence[RunDirectory]) -> list[RunContents]:
    """Reads all runs of a report; runs of the same name are renamed to their paths.

    Raises:
        UserError: a directory is not a run, or is given twice.
    """
    addresses = [directory.address for directory in directories]
    resolved = [a.resolve() if isinstance(a, Path) else a for a in addresses]
    for i, address in enumerate(addresses):
        if resolved[i] in resolved[:i]:
            raise UserError(f"{address} is given twice")
    runs = [read_run(directory.path) for directory in directories]
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else dataclasses.replace(run, name=str(address))
        for run, address in zip(runs, addresses, strict=True)
    ]


def read_run(path: Path) -> RunContents:
    """Reads one run, finished or not; parts that are missing or broken become gaps.

    Raises:
        UserError: the directory is not a run.
    """
    config = migrate(run_directory.read_config(path))
    gaps: dict[str, str] = {}

    def read(part: str, reader: Callable[[Path], T], default: T) -> T:
        try:
            return reader(path)
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # includes UserError
            gaps[part] = " ".join(str(error).split()) or type(error).__name__
            return default

    return RunContents(
        path=path,
        name=path.resolve().name,
        config=config,
        starts=files.read_json(path / files.CONFIG)["starts"],
        history=read("history", _history, None),
        summary=read("summary", _summary, {}),
        samples=read("samples", _samples, []),
        later=read("later", _later, []),
        gaps=gaps,
    )


def _history(path: Path) -> History | None:
    metrics = path / files.METRICS
    if not metrics.is_file() or not metrics.stat().st_size:
        raise UserError("No step is finished yet.")
    return read_history(path)


def _summary(path: Path) -> Mapping[str, Any]:
    if not (path / files.SUMMARY).is_file():
        raise UserError(
            f"There is no {files.SUMMARY}: the run is in progress or was stopped early."
        )
    return read_summary(path / files.SUMMARY)


def _samples(path: Path) -> Sequence[Mapping[str, Any]]:
    rows = files.read_json_lines(path / files.SAMPLES) if (path / files.SAMPLES).is_file() else []
    if not rows:
        raise UserError(f"No completions were kept: {files.SAMPLES} is missing or empty.")
    return rows


def _later(path: Path) -> Sequence[LaterEvaluation]:
    if not (path / files.EVALUATIONS).is_dir():
        return []
    directories = sorted(
        child for child in (path / files.EVALUATIONS).iterdir() if (child / SETTINGS).is_file()
    )
    return [
        LaterEvaluation(
            directory.name,
            files.read_json(directory / SETTINGS),
            files.read_json(directory / files.SUMMARY)
            if (directory / files.SUMMARY).is_file()
            else {},
        )
        for directory in directories
    ]
