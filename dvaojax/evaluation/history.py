"""A run as it is read back from its directory: columns of numbers over steps, and its summary."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dvaojax import files
from dvaojax.errors import UserError


@dataclasses.dataclass(frozen=True)
class History:
    """What a run measured.

    Attributes:
        name: what to call it, the last part of its path.
        steps: `[S]` the steps that were measured.
        columns: metric -> `[S]` its values, NaN where nothing was measured.
        summary: the content of `summary.json`; empty while the run goes on.
    """

    name: str
    steps: np.ndarray
    columns: Mapping[str, np.ndarray]
    summary: Mapping[str, Any]

    @property
    def objectives(self) -> tuple[str, ...]:
        """The objectives' names, in the order of the reward vector."""
        prefix = "reward/"
        return tuple(n.removeprefix(prefix) for n in self.columns if n.startswith(prefix))


def read_history(directory: Path) -> History:
    """Reads a run directory, finished or not.

    Raises:
        UserError: it is not a run, has measured no step yet, or holds a damaged file.
    """
    path = directory / files.METRICS
    if not path.is_file():
        raise UserError(f"{directory} is not a run: it has no {files.METRICS}")
    rows = files.read_json_lines(path)
    if not rows:
        raise UserError(f"{directory} has nothing to plot yet: its {files.METRICS} is empty")
    names = list(dict.fromkeys(name for row in rows for name in row if name != "step"))
    summary = directory / files.SUMMARY
    return History(
        name=directory.resolve().name,
        steps=np.array([row["step"] for row in rows]),
        columns={name: _column(rows, name) for name in names},
        summary=files.read_json(summary) if summary.is_file() else {},
    )


def smooth(values: np.ndarray) -> np.ndarray:
    """Centred moving average over about a tenth of the values; it does not lag behind them.

    Args:
        values: `[S]`; NaN counts as not measured.

    Returns:
        `[S]`, near both ends over the neighbours there are; NaN where none was measured.
    """
    reach = len(values) // 20
    result = np.full(len(values), np.nan)
    for i in range(len(values)):
        window = values[max(i - reach, 0) : i + reach + 1]
        measured = window[np.isfinite(window)]
        if measured.size:
            result[i] = measured.mean()
    return result


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    values = (row.get(name) for row in rows)
    return np.array([np.nan if value is None else value for value in values], np.float64)
