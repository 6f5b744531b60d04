"""Trade-off plot: two objectives before and after training, and the Pareto front."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dvaojax.evaluation import drawing
from dvaojax.evaluation.history import History, smooth
from dvaojax.evaluation.intervals import Interval
from dvaojax.evaluation.pareto import non_dominated

_FRONT: dict[str, Any] = {
    "color": drawing.GREY,
    "linestyle": "--",
    "linewidth": 1.2,
    "zorder": 2.0,
}


def trade_off(histories: Sequence[History], x: str, y: str) -> Figure:
    """Plots objective `y` against objective `x`; larger is better on both.

    For each run, a hollow point is the evaluation before training and a filled point the one after,
    with their intervals; a light line shows the training means between them. A step line is the
    Pareto front of the evaluations after training: everything below and left of it is dominated.
    """
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    ax = figure.subplots()
    final_points = []
    shown = {run: h for run, h in enumerate(histories) if {x, y} <= set(h.objectives)}
    for run, history in shown.items():
        style = drawing.marker_style(run)
        trail = [smooth(history.columns[f"reward/{name}"]) for name in (x, y)]
        ax.plot(*trail, color=style["color"], alpha=0.4, linewidth=1.2, zorder=1.5)
        for when, face in (("before", "white"), ("after", style["color"])):
            evaluated = _evaluation(history, when, x, y)
            if evaluated is not None:
                _draw_point(ax, *evaluated, style | {"markerfacecolor": face})
                if when == "after":
                    final_points.append([interval.mean for interval in evaluated])
    if final_points:
        _draw_front(ax, np.array(final_points))
    ax.set(xlabel=f"{x} (mean reward)", ylabel=f"{y} (mean reward)")
    ax.margins(0.08)
    drawing.quieten(ax)
    _explain(figure, shown)
    return figure


def _evaluation(history: History, when: str, x: str, y: str) -> tuple[Interval, Interval] | None:
    """The intervals of both objectives in `summary.json`; None if one has no reward."""
    results = history.summary.get(when) or {}
    if not results.get(x) or not results.get(y):  # nothing was scored on the objective
        return None
    in_x, in_y = (Interval(*(results[name][end] for end in Interval._fields)) for name in (x, y))
    return in_x, in_y


def _draw_point(ax: Axes, x: Interval, y: Interval, style: dict[str, Any]) -> None:
    ax.errorbar(
        x.mean,
        y.mean,
        xerr=[[x.mean - x.low], [x.high - x.mean]],
        yerr=[[y.mean - y.low], [y.high - y.mean]],
        elinewidth=1.0,
        zorder=3.0,
        **style,
    )


def _draw_front(ax: Axes, points: np.ndarray) -> None:
    """Draws the boundary of the region dominated by the points, up to the axes."""
    front = points[non_dominated(points)]
    front = front[np.argsort(front[:, 0])]
    left, bottom = ax.get_xlim()[0], ax.get_ylim()[0]
    corners_x = [left, *front[:, 0], front[-1, 0]]
    corners_y = [front[0, 1], *front[:, 1], bottom]
    ax.step(corners_x, corners_y, where="pre", **_FRONT)
    ax.set(xlim=(left, None), ylim=(bottom, None))


def _explain(figure: Figure, shown: Mapping[int, History]) -> None:
    """Adds the title and the legend."""
    point: dict[str, Any] = drawing.marker_style(0) | {"color": drawing.GREY}
    labels = ["evaluation before", "evaluation after", "training, smoothed", "Pareto front"]
    handles = [
        Line2D([], [], **point, markerfacecolor="white"),
        Line2D([], [], **point),
        Line2D([], [], color=drawing.GREY, alpha=0.5, linewidth=1.2),
        Line2D([], [], **_FRONT),
    ]
    names = [history.name for history in shown.values()]
    figure.suptitle(drawing.title("Trade-off", names))
    if len(names) > 1:
        labels = names + labels
        runs = [Line2D([], [], **drawing.marker_style(run)) for run in shown]
        handles = runs + handles
    drawing.legend_below(figure, handles, labels)
