"""Plots of the metrics of one or several runs over the steps.

The recorded values are drawn in light colour, with their moving average on top.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dvaojax import files
from dvaojax.errors import UserError, nearest
from dvaojax.evaluation import drawing
from dvaojax.evaluation.history import History, read_history, smooth
from dvaojax.evaluation.trade_off import trade_off
from dvaojax.run import directory as run_directory
from dvaojax.run.directory import RunDirectory


class _Panel(NamedTuple):
    """One metric over the steps.

    Attributes:
        column: the metric's name in `metrics.jsonl`.
        title: title of the panel.
        unit: label of the vertical axis.
    """

    column: str
    title: str
    unit: str


_SIGNAL = (
    _Panel("agreement", "agreement of the objectives", "combined / separate spread"),
    _Panel("zero_variance_groups", "zero-variance groups", "share of groups"),
)
_COMPLETIONS = (
    _Panel("completion_length", "completion length", "tokens"),
    _Panel("entropy", "entropy", "nats per token"),
)


def plot_run(run: Path) -> list[Path | epath.Path]:
    """Writes the plots of one run into its `plots/`; see `plot_runs`."""
    return plot_runs([run], run / files.PLOTS)


def plot_runs(
    runs: Sequence[Path | epath.Path],
    out: Path | epath.Path,
    *,
    objectives: tuple[str, str] | None = None,
) -> list[Path | epath.Path]:
    """Writes plots in which several runs are overlaid.

    Args:
        runs: run directories, finished or not; they may be in buckets.
        out: output directory, created if it does not exist; it may be in a bucket.
        objectives: the two objectives of the trade-off plot; by default the first two.

    Returns:
        The files written: `objectives.png`, `held_out.png` (the evaluations during training),
        `effective_weights.png`, `signal.png` (agreement and
        zero-variance groups), `completions.png` (length and entropy) and `trade_off.png` (two
        objectives against each other). Figures without recorded data are left out.

    Raises:
        UserError: a directory is not a run, no run has the given objectives, or the plots cannot
            be written.
    """
    with run_directory.read(runs) as directories:
        histories = _histories(directories)
    figures = _figures(histories, objectives)
    with run_directory.at(out) as folder:
        with files.creating(folder.path):
            for name, figure in figures.items():
                drawing.save(figure, folder.path / name, dpi=150)
        folder.store()
    return [out / name for name in figures]


def _figures(histories: Sequence[History], objectives: tuple[str, str] | None) -> dict[str, Figure]:
    """The figures with recorded data, by the names of their files."""
    names = list(dict.fromkeys(name for h in histories for name in h.objectives))
    rewards = [_Panel(f"reward/{n}", n, "mean reward") for n in names]
    held_out = [_Panel(f"evaluation/{n}", n, "mean reward") for n in names]
    weights = [_Panel(f"effective_weight/{n}", n, "effective weight") for n in names]
    pair = _pair(names, objectives)
    figures = {
        "objectives": _over_steps("Objectives", rewards, histories),
        "held_out": _over_steps("Held-out problems during training", held_out, histories),
        "effective_weights": _over_steps("Effective weights", weights, histories),
        "signal": _over_steps("Learning signal of the groups", _SIGNAL, histories),
        "completions": _over_steps("Completions", _COMPLETIONS, histories),
        "trade_off": _trade_off(pair, histories),
    }
    return {f"{name}.png": figure for name, figure in figures.items() if figure}


def _histories(runs: Sequence[RunDirectory]) -> list[History]:
    """The runs' histories; runs with the same name are named by their paths."""
    histories = [read_history(run.path) for run in runs]
    names = [history.name for history in histories]
    return [
        history
        if names.count(history.name) == 1
        else dataclasses.replace(history, name=str(run.address))
        for history, run in zip(histories, runs, strict=True)
    ]


def _pair(names: Sequence[str], objectives: tuple[str, str] | None) -> tuple[str, str] | None:
    """The objectives of the trade-off plot; None if there are fewer than two."""
    for name in objectives or ():
        if name not in names:
            guess = nearest(name, names)
            raise UserError(f"no run has the objective {name}: the nearest is {guess}")
    return objectives or (None if len(names) < 2 else (names[0], names[1]))


def _trade_off(pair: tuple[str, str] | None, histories: Sequence[History]) -> Figure | None:
    """The figure of two objectives; None if no run has both."""
    if pair is None or not any(set(pair) <= set(history.objectives) for history in histories):
        return None
    return trade_off(histories, *pair)


def _over_steps(
    title: str, panels: Sequence[_Panel], histories: Sequence[History]
) -> Figure | None:
    """One panel per metric, one line per run; metrics without recorded values are left out."""
    panels = [panel for panel in panels if any(_has(h, panel.column) for h in histories)]
    if not panels:
        return None
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(
        figsize=(0.6 + 3.9 * columns, 1.2 + 3.0 * rows), layout=ConstrainedLayoutEngine(w_pad=0.1)
    )
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, panel in zip(axes, panels, strict=False):
        _draw_panel(ax, panel, histories)
    for ax in axes[len(panels) :]:
        ax.remove()
    names = [history.name for history in histories]
    figure.suptitle(drawing.title(title, names))
    if len(names) > 1:
        lines = [Line2D([], [], **drawing.line_style(run)) for run in range(len(names))]
        drawing.legend_below(figure, lines, names)
    return figure


def _has(history: History, column: str) -> bool:
    return bool(np.isfinite(history.columns.get(column, np.nan)).any())


def _draw_panel(ax: Axes, panel: _Panel, histories: Sequence[History]) -> None:
    for run, history in enumerate(histories):
        if _has(history, panel.column):
            (steps, values), style = history.measured(panel.column), drawing.line_style(run)
            ax.plot(steps, values, color=style["color"], alpha=0.25, linewidth=1.0)
            # A line through a single point is invisible, so draw a marker.
            marker = "o" if len(values) == 1 else ""
            ax.plot(steps, smooth(values), marker=marker, **style)
    ax.set(title=panel.title, xlabel="step (thin: each, bold: smoothed)", ylabel=panel.unit)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    drawing.quieten(ax)
