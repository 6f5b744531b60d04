"""Metrics of a run, read from its directory: one column per metric, and the summary."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dvaojax import files
from dvaojax.errors import UserError
from dvaojax.evaluation.intervals import Interval
from dvaojax.run.rows import read_rows


@dataclasses.dataclass(frozen=True)
class History:
    """The recorded metrics of a run.

    Attributes:
        name: the last component of the run's path.
        steps: `[S]` the recorded steps.
        columns: metric -> `[S]` values, NaN where the metric was not recorded.
        summary: content of `summary.json`; empty until the run is finished.
    """

    name: str
    steps: np.ndarray
    columns: Mapping[str, np.ndarray]
    summary: Mapping[str, Any]

    def measured(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The steps and the values of a metric that is plotted.

        Args:
            name: of the metric; `evaluation/*` and `evaluation_seconds` are only measured at some
                steps, and the others are left out.

        Returns:
            `[S]` and `[S]`; NaN where another metric was not recorded.
        """
        values = self.columns[name]
        kept = np.isfinite(values) if name.startswith("evaluation") else slice(None)
        return self.steps[kept], values[kept]

    @property
    def objectives(self) -> tuple[str, ...]:
        """The objectives' names, in the order of the reward vector."""
        prefix = "reward/"
        return tuple(n.removeprefix(prefix) for n in self.columns if n.startswith(prefix))


def read_history(directory: Path) -> History:
    """Reads a run directory, finished or not.

    Raises:
        UserError: it is not a run, has not recorded a step yet, or has a damaged file.
    """
    path = directory / files.METRICS
    if not path.is_file():
        raise UserError(f"{directory} is not a run: it has no {files.METRICS}")
    rows = read_rows(path)
    if not rows:
        raise UserError(f"{directory} has nothing to plot yet: its {files.METRICS} is empty")
    names = list(dict.fromkeys(name for row in rows for name in row if name != "step"))
    summary = directory / files.SUMMARY
    return History(
        name=directory.resolve().name,
        steps=np.array([row["step"] for row in rows]),
        columns={name: _column(path, rows, name) for name in names},
        summary=read_summary(summary) if summary.is_file() else {},
    )


def smooth(values: np.ndarray) -> np.ndarray:
    """Centred moving average over about a tenth of the values, without lag.

    Args:
        values: `[S]`; NaN values are skipped.

    Returns:
        `[S]`; towards both ends the window shrinks and stays centred, so that the first and the
        last value are themselves. NaN where all values of the window are NaN.
    """
    widest = len(values) // 20
    result = np.full(len(values), np.nan)
    for i in range(len(values)):
        reach = min(widest, i, len(values) - 1 - i)
        window = values[i - reach : i + reach + 1]
        measured = window[np.isfinite(window)]
        if measured.size:
            result[i] = measured.mean()
    return result


def read_summary(path: Path) -> Mapping[str, Any]:
    """Reads a `summary.json`.

    Raises:
        UserError: it cannot be read, or its evaluations are not means with intervals.
    """
    summary = files.read_json(path)
    if not isinstance(summary, dict):
        raise UserError(f"{path} is not a summary of a run: it is no JSON object")
    for when in ("before", "after"):
        means = summary.get(when) or {}
        if not isinstance(means, dict):
            raise UserError(f"{path}: {when!r} is not an evaluation")
        for name, mean in means.items():
            if mean is not None and not _is_interval(mean):
                raise UserError(f"{path}: {name!r} of {when!r} is not a mean with its interval")
    return summary


def _is_interval(mean: Any) -> bool:
    """Whether a JSON value holds the numbers of an `Interval`."""
    return isinstance(mean, dict) and all(
        isinstance(mean.get(field), int | float) for field in Interval._fields
    )


def _column(path: Path, rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """The values of a metric; NaN where it was not recorded.

    Raises:
        UserError: a value is not a number.
    """
    for row in rows:
        if not isinstance(row.get(name), int | float | None):
            raise UserError(f"{path}: {name} of step {row['step']} is {row[name]!r}, not a number")
    values = (row.get(name) for row in rows)
    return np.array([np.nan if value is None else value for value in values], np.float64)
