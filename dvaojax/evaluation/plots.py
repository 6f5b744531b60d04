"""Pictures of runs: what every objective did, and why.

A figure shows one run or lays several over each other. The measured values are drawn faintly,
their moving average over them.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
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


class _Panel(NamedTuple):
    """One metric over the steps.

    Attributes:
        column: the metric's name in `metrics.jsonl`.
        title: what stands above the panel.
        unit: what stands beside it.
    """

    column: str
    title: str
    unit: str


_SIGNAL = (
    _Panel("agreement", "agreement of the objectives", "combined / separate spread"),
    _Panel("silent_groups", "silent groups", "share of groups"),
)
_COMPLETIONS = (
    _Panel("completion_length", "completion length", "tokens"),
    _Panel("entropy", "entropy", "nats per token"),
)


def plot_run(run: Path) -> list[Path]:
    """The pictures of one run, in its own `plots/`; see `plot_runs`."""
    return plot_runs([run], run / files.PLOTS)


def plot_runs(
    runs: Sequence[Path], out: Path, *, objectives: tuple[str, str] | None = None
) -> list[Path]:
    """The pictures of several runs laid over each other.

    Args:
        runs: run directories, finished or not.
        out: directory of the pictures, created where it does not exist.
        objectives: the two that are drawn against each other; by default the first two.

    Returns:
        The files written: `objectives.png`, `effective_weights.png`, `signal.png` (agreement and
        silent groups), `completions.png` (length and entropy) and `trade_off.png` (two objectives
        against each other). A figure that no run has measured anything for is left out.

    Raises:
        UserError: a directory is not a run, or no run has the objectives asked for.
    """
    histories = _told_apart(runs)
    names = list(dict.fromkeys(name for h in histories for name in h.objectives))
    rewards = [_Panel(f"reward/{n}", n, "mean reward") for n in names]
    weights = [_Panel(f"effective_weight/{n}", n, "effective weight") for n in names]
    pair = _pair(names, objectives)
    figures = {
        "objectives": _over_steps("Objectives", rewards, histories),
        "effective_weights": _over_steps("Effective weights", weights, histories),
        "signal": _over_steps("What the groups teach", _SIGNAL, histories),
        "completions": _over_steps("Completions", _COMPLETIONS, histories),
        "trade_off": _trade_off(pair, histories),
    }
    out.mkdir(parents=True, exist_ok=True)
    written = {out / f"{name}.png": figure for name, figure in figures.items() if figure}
    for path, figure in written.items():
        figure.savefig(path, dpi=150)
    return list(written)


def _told_apart(runs: Sequence[Path]) -> list[History]:
    """The runs' histories; runs of one name are called by their paths."""
    histories = [read_history(run) for run in runs]
    names = [history.name for history in histories]
    return [
        history if names.count(history.name) == 1 else dataclasses.replace(history, name=str(run))
        for history, run in zip(histories, runs, strict=True)
    ]


def _pair(names: Sequence[str], asked: tuple[str, str] | None) -> tuple[str, str] | None:
    """The objectives to draw against each other; None where there are fewer than two."""
    for name in asked or ():
        if name not in names:
            guess = nearest(name, names)
            raise UserError(f"no run has the objective {name}: the nearest is {guess}")
    return asked or (None if len(names) < 2 else (names[0], names[1]))


def _trade_off(pair: tuple[str, str] | None, histories: Sequence[History]) -> Figure | None:
    """The figure of two objectives, if some run has both."""
    if pair is None or not any(set(pair) <= set(history.objectives) for history in histories):
        return None
    return trade_off(histories, *pair)


def _over_steps(
    title: str, panels: Sequence[_Panel], histories: Sequence[History]
) -> Figure | None:
    """One panel a metric, one line a run; metrics that no run has measured are left out."""
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
            values, style = history.columns[panel.column], drawing.line_style(run)
            ax.plot(history.steps, values, color=style["color"], alpha=0.25, linewidth=1.0)
            # A single step is no line; its point would be invisible.
            marker = "o" if len(values) == 1 else ""
            ax.plot(history.steps, smooth(values), marker=marker, **style)
    ax.set(title=panel.title, xlabel="step (thin: each, bold: smoothed)", ylabel=panel.unit)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    drawing.quieten(ax)
