"""What a run directory holds, and one line for each thing that it does not."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dvaojax import files
from dvaojax.errors import UserError
from dvaojax.evaluation.history import History, read_history
from dvaojax.evaluation.intervals import Interval
from dvaojax.evaluation.directory import SETTINGS
from dvaojax.run import directory as run_directory

T = TypeVar("T")


class Later(NamedTuple):
    """An evaluation of a checkpoint, made after the run by `dvaojax evaluate`.

    Attributes:
        name: of its directory.
        settings: what was evaluated, as `settings.json` has it.
        summary: what it came to; empty where it is not finished.
    """

    name: str
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Contents:
    """A run as it is read for a report.

    Attributes:
        path: its directory.
        name: what to call it, the last part of its path.
        config: the resolved configuration, as JSON.
        starts: each start's time, command, versions and devices.
        history: what it measured; None where no step was.
        summary: the content of `summary.json`; empty where there is none.
        samples: the lines of `samples.jsonl`.
        later: evaluations of its checkpoints.
        gaps: part ("history", "summary", "samples", "later") -> why it is not there, in one line.
    """

    path: Path
    name: str
    config: Mapping[str, Any]
    starts: Sequence[Mapping[str, Any]]
    history: History | None
    summary: Mapping[str, Any]
    samples: Sequence[Mapping[str, Any]]
    later: Sequence[Later]
    gaps: Mapping[str, str]

    @property
    def steps_done(self) -> int:
        """Steps that were measured."""
        return 0 if self.history is None else int(self.history.steps[-1])

    @property
    def objectives(self) -> tuple[str, ...]:
        """Their names, as they were measured; before the first step, as they are weighted."""
        if self.history is not None:
            return self.history.objectives
        return tuple(self.config.get("weights") or ())

    def column(self, name: str) -> np.ndarray | None:
        """`[S]` the values of a metric; None where none is a number."""
        values = None if self.history is None else self.history.columns.get(name)
        return None if values is None or not np.isfinite(values).any() else values

    def evaluated(self, when: str) -> dict[str, Interval | None]:
        """What the evaluation "before" or "after" training found; empty where there was none."""
        return {name: interval(found) for name, found in (self.summary.get(when) or {}).items()}


def interval(found: Mapping[str, float] | None) -> Interval | None:
    """A mean with its interval from JSON; None where nothing was scored."""
    return None if found is None else Interval(*(found[end] for end in Interval._fields))


def read_runs(paths: Sequence[Path]) -> list[Contents]:
    """All runs of a report; runs of one name are called by their paths.

    Raises:
        UserError: a directory is not a run, or one is named twice.
    """
    places = [path.resolve() for path in paths]
    for i, path in enumerate(paths):
        if places[i] in places[:i]:
            raise UserError(f"{path} is named twice")
    runs = [read_run(path) for path in paths]
    names = [run.name for run in runs]
    return [
        run if names.count(run.name) == 1 else dataclasses.replace(run, name=str(run.path))
        for run in runs
    ]


def read_run(path: Path) -> Contents:
    """One run, finished or not; what is missing or damaged becomes a gap.

    Raises:
        UserError: there is no run.
    """
    config = run_directory.read_config(path)
    gaps: dict[str, str] = {}

    def read(part: str, how: Callable[[Path], T], otherwise: T) -> T:
        try:
            return how(path)
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # UserErrors among them
            gaps[part] = " ".join(str(error).split()) or type(error).__name__
            return otherwise

    return Contents(
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
        raise UserError("No step has been measured yet.")
    return read_history(path)


def _summary(path: Path) -> Mapping[str, Any]:
    if not (path / files.SUMMARY).is_file():
        raise UserError(
            f"There is no {files.SUMMARY}: the run goes on, or was stopped before its last step."
        )
    summary = files.read_json(path / files.SUMMARY)
    if not isinstance(summary, dict):
        raise UserError(f"{path / files.SUMMARY} was written by something else.")
    return summary


def _samples(path: Path) -> Sequence[Mapping[str, Any]]:
    rows = files.read_json_lines(path / files.SAMPLES) if (path / files.SAMPLES).is_file() else []
    if not rows:
        raise UserError(f"No completion was kept: {files.SAMPLES} is missing or empty.")
    return rows


def _later(path: Path) -> Sequence[Later]:
    if not (path / files.EVALUATIONS).is_dir():
        return []
    places = sorted(p for p in (path / files.EVALUATIONS).iterdir() if (p / SETTINGS).is_file())
    return [
        Later(
            place.name,
            files.read_json(place / SETTINGS),
            files.read_json(place / files.SUMMARY) if (place / files.SUMMARY).is_file() else {},
        )
        for place in places
    ]
