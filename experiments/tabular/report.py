"""Reports of the cells for the repository: numbers with intervals, and tables in Markdown."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tabular import measures
from tabular.cells import STEPS, Cell, Settings
from tabular.learning import Size
from tabular.problem import OBJECTIVES, variants

from dvaojax import files
from dvaojax.errors import UserError

AGAINST = "dvao"  # every method is compared with it, seed by seed

Cells = Mapping[tuple[str, str, str], Cell]  # by method, variant and step
Report = dict[str, Any]


class CellScores(NamedTuple):
    """The measures of a cell for each seed.

    Attributes:
        progress: `[S]` mean over the weightings, see `measures.progress`.
        hypervolume: `[S]` see `measures.hypervolumes`.
    """

    progress: np.ndarray
    hypervolume: np.ndarray


def summarise(cells: Cells, settings: Settings, *, command: str) -> Report:
    """All numbers of the experiment.

    Args:
        cells: all computed cells.
        settings: of the cells.
        command: the command line that was used.

    Returns:
        The content of `bandit.json`: for each cell the intervals `[mean, low, high]` of progress
        and hypervolume, and of their differences from `AGAINST` at the same step; the objectives
        `[W, K]` in thousandths, with the larger half-width of their intervals; the mean square of
        the advantages, and the alignment of the first step.
    """
    drawn = measures.resampling(settings.num_seeds)
    situations, rows = {}, []
    for name, variant in variants().items():
        ends = measures.ends(variant, settings.seeds, settings.weights)
        situations[name] = {
            "untrained": _rounded(ends.untrained.mean(axis=0), 3),
            "best": _rounded(ends.best.mean(axis=0), 3),
        }
        here = {key: cell for key, cell in cells.items() if key[1] == name}
        scores = {
            key: CellScores(
                measures.progress(cell.values, settings.weights, ends).mean(axis=1),
                measures.hypervolumes(cell.values, ends),
            )
            for key, cell in here.items()
        }
        for (method, _, step), cell in here.items():
            own, other = scores[method, name, step], scores.get((AGAINST, name, step))
            rows.append(_row(method, name, step, cell, own, other, drawn))
    return {
        "command": command,
        "commit": commit(),
        "objectives": list(OBJECTIVES),
        "reference_point": measures.REFERENCE.tolist(),
        "settings": {**vars(settings), "size": settings.size._asdict()},
        "variants": situations,
        "cells": rows,
    }


def _row(
    method: str,
    variant: str,
    step: str,
    cell: Cell,
    scores: CellScores,
    against: CellScores | None,
    drawn: np.ndarray,
) -> dict[str, Any]:
    """The entry of one cell."""
    row = {"method": method, "variant": variant, "step": step, "rate": round(float(cell.rate), 4)}
    for measure, values in scores._asdict().items():
        row[measure] = _rounded(measures.intervals(values, drawn), 4)
        if against is not None and method != AGAINST:
            gained = values - getattr(against, measure)
            row[f"{measure}_beyond_{AGAINST}"] = _rounded(measures.intervals(gained, drawn), 4)
    mean, low, high = np.moveaxis(measures.intervals(cell.values, drawn), -1, 0)
    return {
        **row,
        "mean_square": float(f"{cell.mean_square.mean():.3g}"),
        "alignment": round(float(cell.alignment.mean()), 3),
        "per_mille": np.rint(1000 * mean).astype(int).tolist(),
        "within": np.ceil(1000 * np.maximum(mean - low, high - mean)).astype(int).tolist(),
    }


def _rounded(values: np.ndarray, digits: int) -> Any:
    return np.round(values, digits).tolist()


def commit() -> str:
    """The commit of the checkout, with a "+" if there are uncommitted changes."""
    try:
        command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def read(directory: Path, settings: Settings) -> Report:
    """The report in a directory, of the same settings.

    Raises:
        UserError: there is none, or it has other settings.
    """
    path = directory / "bandit.json"
    if not path.exists():
        raise UserError(f"{directory} has no bandit.json to add to: run without --add")
    report = json.loads(path.read_text())
    if settings_of(report) != settings:
        raise UserError(f"{path} has other settings: run without --add")
    return report


def settings_of(report: Report) -> Settings:
    """The settings of a report, with the defaults of those that were added later."""
    kept: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in report["settings"].items()
    }
    return Settings(**{**kept, "size": Size(**kept["size"])})


def merged(before: Report, added: Report) -> Report:
    """A report with the methods of another one in addition, whose rows replace older ones.

    The rows of `AGAINST`, which the other report has for the comparison, are not replaced.
    """
    cells = {(row["variant"], row["method"], row["step"]): row for row in before["cells"]}
    new = [row for row in added["cells"] if row["method"] != AGAINST]
    cells |= {(row["variant"], row["method"], row["step"]): row for row in new}
    order = list(before["variants"])

    def place(key: tuple[str, str, str]) -> tuple[int, str, int]:
        return order.index(key[0]), key[1], STEPS.index(key[2])

    addition = {
        "methods": sorted({row["method"] for row in new}),
        "command": added["command"],
        "commit": added["commit"],
    }
    additions = [*before.get("additions", []), addition]
    rows = [cells[key] for key in sorted(cells, key=place)]
    return {**before, "additions": additions, "cells": rows}


def write(report: Report, directory: Path) -> None:
    """Writes `bandit.json`, one cell per line, and `bandit.md`, the tables."""
    head = {key: value for key, value in report.items() if key != "cells"}
    lines = [json.dumps(row, separators=(",", ":")) for row in report["cells"]]
    entries = [f'"{key}": {json.dumps(value)}' for key, value in head.items()]
    text = ",\n".join([*entries, '"cells": [\n' + ",\n".join(lines) + "\n]"])
    for name, content in {"bandit.json": f"{{\n{text}\n}}\n", "bandit.md": tables(report)}.items():
        temporary = files.partial_path(directory / name)
        temporary.write_text(content)
        temporary.replace(directory / name)


def tables(report: Report) -> str:
    """The measures as tables of methods and variants, in Markdown."""
    methods = sorted({row["method"] for row in report["cells"]})
    text = (
        f"Written by `{report['command']}` at {report['commit']}: "
        f"{report['settings']['num_seeds']} seeds, each with its own table. Each entry is for the "
        f"steps {' / '.join(STEPS)}.\n"
    )
    for addition in report.get("additions", []):
        names = ", ".join(f"`{name}`" for name in addition["methods"])
        text += f"Added by `{addition['command']}` at {addition['commit']}: {names}.\n"
    for measure, description in (
        ("progress", "Percent of the way from the untrained policy to the best completion"),
        ("hypervolume", "Percent of the hypervolume of the best completions"),
    ):
        width = max(row[measure][2] - row[measure][1] for row in report["cells"])
        text += (
            f"\n## {measure.capitalize()}\n\n{description}; the widest of the 95 % intervals is "
            f"± {50 * width:.1f}. A star: the interval of the difference from `{AGAINST}`, "
            "seed by seed, lies above 0; a circle: below. With so many comparisons, a few are "
            "chance.\n\n"
        )
        text += measured(report, measure, methods)
    text += "\n## Advantages\n\nTheir mean square over a run at the step common, and the cosine of "
    text += "the first step with the exact gradient of the weighted sum.\n\n"
    rows, situations = _by_cell(report), list(report["variants"])
    entries = [
        [
            f"{row['mean_square']:.2g}, {row['alignment']:.2f}" if row else "-"
            for row in (rows.get((m, v, "common")) for v in situations)
        ]
        for m in methods
    ]
    return text + _table(["method", *situations], methods, entries)


def measured(report: Report, measure: str, methods: Sequence[str]) -> str:
    """One measure of these methods in all variants, "common / equal / own", in Markdown."""
    rows, situations = _by_cell(report), list(report["variants"])
    entries = [
        [" / ".join(_entry(rows.get((m, v, s)), measure) for s in STEPS) for v in situations]
        for m in methods
    ]
    return _table(["method", *situations], methods, entries)


def _by_cell(report: Report) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(row["method"], row["variant"], row["step"]): row for row in report["cells"]}


def _entry(row: Mapping[str, Any] | None, measure: str) -> str:
    if row is None:
        return "-"
    _, low, high = row.get(f"{measure}_beyond_{AGAINST}", (0, 0, 0))
    sign = "*" if low > 0 else "°" if high < 0 else ""
    return f"{100 * row[measure][0]:.1f}{sign}".replace("*", "\\*")


def _table(heads: Sequence[str], names: Sequence[str], entries: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, with names in its first column."""
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, row in zip(names, entries, strict=True):
        lines.append(f"| `{name}` | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"
