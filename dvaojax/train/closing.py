"""The last lines of a run: the result next to its starting point, and what to do next."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from dvaojax import files
from dvaojax.run.directory import RunDirectory
from dvaojax.run.rows import read_rows
from dvaojax.train import hosts
from dvaojax.train.session import Session

_PACKAGE = "dvaojax"
_NOTHING = "-"
_FEW = 0.1  # share of the steps


def closing(
    session: Session, summary: Mapping[str, Any], plots: Sequence[Path | epath.Path]
) -> list[str]:
    """The lines after the last step.

    Args:
        session: of the run.
        summary: content of `summary.json`.
        plots: files of the plots.
    """
    directory = session.directory
    return [
        *_stopped_early(session, summary),
        *_not_scored(summary),
        *_taught_nothing(directory),
        f"{summary['wall_seconds']:.0f} s; {directory.address / files.SUMMARY} and {len(plots)} "
        f"plots in {directory.address / files.PLOTS}",
        "",
        f"{summary['problems']} held-out problems, {summary['samples']} completion(s) each, with "
        "95 % intervals:",
        *result_lines(summary["before"], summary["after"]),
        "",
        *next_commands(directory, task=type(session.config.task)),
    ]


def _stopped_early(session: Session, summary: Mapping[str, Any]) -> list[str]:
    """Says that the run ended early, and how it continues."""
    if not summary.get("stopped_early"):
        return []
    best = summary["best"]
    return [
        f"stopped early after step {summary['steps']} of {session.config.num_steps}: "
        f"{best['waited']} evaluations since the best one, after step {best['step']}; "
        "--resume --set early_stop=0 continues"
    ]


def _not_scored(summary: Mapping[str, Any]) -> list[str]:
    """Says which rewards could not be scored, and how many."""
    missing = [f"{name} {count}" for name, count in summary.get("unscored", {}).items() if count]
    if not missing:
        return []
    return ["rewards that could not be scored in training: " + ", ".join(missing)]


def _taught_nothing(directory: RunDirectory) -> list[str]:
    """Says in how many steps no group had rewards that differ, if there were many."""
    rows = read_rows(directory.metrics) if hosts.is_first() else []
    count = sum(
        row.get("zero_variance_groups") == 1.0 and not row.get("advantage_mean_square")
        for row in rows
    )
    if count <= _FEW * len(rows):
        return []
    return [
        f"{count} of {len(rows)} steps taught nothing: in each of their groups all completions had "
        "equal rewards"
    ]


def result_lines(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line for each measure, with a heading: before training, after training, difference.

    Args:
        before: measure -> mean and interval, or None where it was not measured.
        after: the same after training.
    """
    rows = [("", "before", "after", "change")]
    for name, later in after.items():
        earlier = before.get(name)
        change = later["mean"] - earlier["mean"] if later and earlier else None
        shown = _NOTHING if change is None else f"{change:+.3f}"
        rows.append((name, _interval(earlier), _interval(later), shown))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def next_commands(directory: RunDirectory, *, task: type) -> list[str]:
    """The commands that continue from a finished run.

    Args:
        directory: of the run.
        task: class of the run's task; its file must be named if it is not part of this package.
    """
    is_ours = task.__module__.partition(".")[0] == _PACKAGE
    experiment = "" if is_ours else " --experiment EXPERIMENT.py"
    return [
        "next:",
        f"  dvaojax report {directory.address}",
        f"  dvaojax evaluate {directory.address} --samples 8{experiment}",
    ]


def in_one_line(evaluation: Mapping[str, Any]) -> str:
    """An evaluation as in `summary.json`: every measure with its mean and interval."""
    return "  ".join(f"{name} {_interval(measured)}" for name, measured in evaluation.items())


def _interval(measured: Mapping[str, float] | None) -> str:
    if measured is None:
        return _NOTHING
    return f"{measured['mean']:.3f} [{measured['low']:.3f}, {measured['high']:.3f}]"
