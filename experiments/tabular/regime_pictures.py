"""Figures of the regimes: DVAO's advantage over each method along every axis."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabular.axes import AXES, LINES, OBJECTIVES_OF_LINES, points
from tabular.regime_report import OTHERS, STEPS, rows_of, verdict
from tabular.report import Report

from dvaojax.evaluation import drawing

_LOGARITHMIC = ("objectives", "group size")
_TICKS = (-10, -5, -2, -1, 0, 1, 2, 5, 10)
_LINEAR_UP_TO = 2.0  # points; the scale is logarithmic beyond


def draw(report: Report, directory: Path) -> None:
    """Writes `regimes_equal.png` and `regimes_tuned.png`."""
    for step in STEPS:
        drawing.save(advantage(report, step), directory / f"regimes_{step}.png", dpi=80)


def advantage(report: Report, step: str) -> Figure:
    """A panel for each axis and line; above 0, DVAO is ahead of the method.

    Markers are filled where the difference is significant after the correction.
    """
    panels = [
        (axis, line)
        for axis in AXES
        for line in (OBJECTIVES_OF_LINES if axis == "correlation" else LINES)
    ]
    figure = Figure(figsize=(15, 10), layout="constrained")
    axes = list(figure.subplots(3, -(-len(panels) // 3), sharey=True).flat)
    for ax, (axis, line) in zip(axes, panels, strict=False):
        _panel(ax, report, step, axis, line)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    figure.suptitle(
        f"Progress of dvao minus that of the other method, in points, {step} step; above 0, dvao "
        "is ahead.\nFilled: significant after Holm's correction; bars are 95 % intervals.",
        size=11,
    )
    handles, labels = figure.axes[0].get_legend_handles_labels()
    drawing.legend_below(figure, handles, labels)
    return figure


def _panel(ax: Axes, report: Report, step: str, axis: str, line: float) -> None:
    rows = rows_of(report)
    here = [point for point in points() if (point.axis, point.line) == (axis, line)]
    ax.axhline(0, color="#000000", linewidth=1)
    for index, name in enumerate(OTHERS):
        entries = [rows[point.regime, step]["ahead_of"][name] for point in here]
        values, means = [point.value for point in here], [entry[0] for entry in entries]
        style: dict[str, Any] = drawing.line_style(index) | {"linewidth": 1.2}
        ax.errorbar(values, means, yerr=[entry[1] for entry in entries], label=name, **style)
        for value, entry in zip(values, entries, strict=True):
            fill = style["color"] if verdict(entry) else "white"
            ax.plot(value, entry[0], "o", markersize=5, color=style["color"], markerfacecolor=fill)
    if axis in _LOGARITHMIC:
        ax.set_xscale("log", base=2)
    ax.set_yscale("symlog", linthresh=_LINEAR_UP_TO)
    ax.set_yticks(_TICKS, labels=[f"{tick:+d}" for tick in _TICKS])
    ax.set_xticks(AXES[axis], labels=[f"{value:.2g}" for value in AXES[axis]])
    ax.minorticks_off()
    what = f"K = {line}" if axis == "correlation" else f"correlation {line:g}"
    ax.set(title=f"{axis}, {what}", xlabel=axis)
    drawing.quieten(ax)
