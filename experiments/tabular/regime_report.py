"""Comparisons of DVAO with the other methods in all regimes, corrected for their number."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from tabular.axes import AXES, Point, Regime, points
from tabular.regime_cells import AGAINST, METHODS, Design, Outcome
from tabular.report import Report, commit

from dvaojax import files
from dvaojax.evaluation.comparisons import holm, paired_p_value

STEPS = ("equal", "tuned")
LEVEL = 0.05  # of the adjusted p-values
OTHERS = tuple(name for name in METHODS if name != AGAINST)


def summarise(
    outcomes: Mapping[tuple[str, Regime], Outcome], design: Design, *, command: str
) -> Report:
    """All numbers of the experiment.

    Args:
        outcomes: of every method in every regime.
        design: of the outcomes.
        command: the command line that was used.

    Returns:
        The content of `regimes.json`: for each regime and step the progress of DVAO; and the
        advantage of DVAO over each other method, in points, as `[mean, half-width, adjusted p]`.
    """
    regimes = list(dict.fromkeys(point.regime for point in points()))
    keys = [(regime, step, name) for regime in regimes for step in STEPS for name in OTHERS]
    gained = {
        (regime, step, name): 100
        * (getattr(outcomes[AGAINST, regime], step) - getattr(outcomes[name, regime], step))
        for regime, step, name in keys
    }
    adjusted = holm([paired_p_value(gained[key]) for key in keys])
    compared = {key: _compared(gained[key], p) for key, p in zip(keys, adjusted, strict=True)}
    rows = [
        {
            **regime._asdict(),
            "step": step,
            "progress": round(100 * float(getattr(outcomes[AGAINST, regime], step).mean()), 2),
            "rate": float(outcomes[AGAINST, regime].rate),
            "ahead_of": {name: compared[regime, step, name] for name in OTHERS},
        }
        for regime in regimes
        for step in STEPS
    ]
    settings = json.loads(json.dumps(vars(design)))
    return {"command": command, "commit": commit(), "settings": settings, "cells": rows}


def _compared(gained: np.ndarray, adjusted: float) -> list[float]:
    """Mean, half-width of the 95 % interval, and the adjusted p-value."""
    error = gained.std(ddof=1) / np.sqrt(gained.size)
    half = float(stats.t.ppf(0.975, gained.size - 1) * error)
    return [round(float(gained.mean()), 2), round(half, 2), float(f"{adjusted:.2g}")]


def rows_of(report: Report) -> dict[tuple[Regime, str], dict[str, Any]]:
    """The entries by regime and step."""
    return {
        (Regime(*(row[field] for field in Regime._fields)), row["step"]): row
        for row in report["cells"]
    }


def verdict(entry: Sequence[float]) -> int:
    """1 if DVAO is ahead, -1 if it is behind, 0 if the adjusted p-value does not say."""
    return int(np.sign(entry[0])) if entry[2] < LEVEL else 0


def write(report: Report, directory: Path) -> None:
    """Writes `regimes.json`, one entry per line, and `regimes.md`."""
    head = {key: value for key, value in report.items() if key != "cells"}
    lines = [json.dumps(row, separators=(",", ":")) for row in report["cells"]]
    entries = [f'"{key}": {json.dumps(value)}' for key, value in head.items()]
    text = ",\n".join([*entries, '"cells": [\n' + ",\n".join(lines) + "\n]"])
    files.write_bytes(directory / "regimes.json", f"{{\n{text}\n}}\n".encode())
    files.write_bytes(directory / "regimes.md", document(report).encode())


def document(report: Report) -> str:
    """`regimes.md`: the summary, and a table for each axis, line and step."""
    text = (
        f"Written by `{report['command']}` at {report['commit']}: "
        f"{report['settings']['num_seeds']} seeds per regime. Entries are the progress of "
        f"`{AGAINST}` minus that of the method, in points of a hundred. A star: `{AGAINST}` is "
        f"ahead, a circle: behind, by Holm's correction over all "
        f"{len(report['cells']) * len(OTHERS)} comparisons at {LEVEL:.0%}.\n\n"
        f"## In how many regimes\n\n{summary(report)}"
    )
    for step in STEPS:
        for axis in AXES:
            text += f"\n## {axis.capitalize()}, {step} step\n\n{table(report, axis, step)}"
    return text


def summary(report: Report) -> str:
    """For each method, in how many regimes DVAO is ahead of it, behind, or neither."""
    lines = []
    for name in OTHERS:
        entries = [f"`{name}`"]
        for step in STEPS:
            rows = [row["ahead_of"][name] for row in report["cells"] if row["step"] == step]
            signs = [verdict(row) for row in rows]
            means = [row[0] for row in rows]
            counts = " / ".join(str(signs.count(sign)) for sign in (1, 0, -1))
            entries.append(f"{counts} ({min(means):+.1f} to {max(means):+.1f})")
        lines.append(entries)
    heads = [f"{step} step: ahead / no difference / behind" for step in STEPS]
    return _table([f"`{AGAINST}` against", *heads], lines)


def table(report: Report, axis: str, step: str) -> str:
    """DVAO's progress and its advantage over each method at the points of an axis."""
    rows = rows_of(report)
    lines = []
    for point in points():
        if point.axis == axis:
            row = rows[point.regime, step]
            entries = [_entry(row["ahead_of"][name]) for name in OTHERS]
            lines.append([_label(point), f"{row['progress']:.1f}", *entries])
    return _table([axis, f"`{AGAINST}`", *(f"`{name}`" for name in OTHERS)], lines)


def _label(point: Point) -> str:
    line = f"K = {point.line}" if point.axis == "correlation" else f"correlation {point.line:g}"
    return f"{point.value:.2g}, {line}"


def _entry(entry: Sequence[float]) -> str:
    mark = {1: "\\*", 0: "", -1: "°"}[verdict(entry)]
    return f"{entry[0]:+.1f} ± {entry[1]:.1f}{mark}"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
