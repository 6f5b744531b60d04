"""Plots of a sweep: the fronts of the methods and their hypervolumes, one figure a situation."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dvaojax.evaluation import drawing
from dvaojax.sweep.directory import CellRow
from dvaojax.sweep.grid import CellKey, Sweep
from dvaojax.sweep.statistics import Finding, Findings, Front, fronts


def draw(sweep: Sweep, rows: Mapping[CellKey, CellRow], results: Findings, out: Path) -> list[Path]:
    """Writes `SITUATION.png` for every situation with results.

    Args:
        sweep: the sweep.
        rows: results of its cells.
        results: the findings computed from them.
        out: an existing directory.
    """
    measured, written = fronts(sweep, rows), []
    for situation in sweep.situations:
        methods = [name for name in sweep.methods_in(situation) if (situation, name) in measured]
        if methods:
            path = out / f"{situation}.png"
            figure = situation_figure(
                sweep,
                situation,
                {name: measured[situation, name] for name in methods},
                {name: results[situation, name] for name in methods},
            )
            drawing.save(figure, path, dpi=100)
            written.append(path)
    return written


def situation_figure(
    sweep: Sweep, situation: str, measured: Mapping[str, Front], results: Mapping[str, Finding]
) -> Figure:
    """The first objective against each of the others, and the differences of hypervolume.

    A line joins the means over seeds along the trade-offs; a method has the same colour in every
    figure of the sweep.
    """
    first, *others = sweep.objectives
    figure = Figure(figsize=(4.4 * (len(others) + 1), 4.6), layout="constrained")
    *planes, gains = np.ravel(figure.subplots(1, len(others) + 1))
    styles = {name: drawing.line_style(i) for i, name in enumerate(sweep.methods)}
    for k, (ax, other) in enumerate(zip(planes, others, strict=True), start=1):
        for name, front in measured.items():
            points = front.points.mean(axis=0)
            ax.plot(points[:, 0], points[:, k], marker="o", markersize=4.0, **styles[name])
        ax.set(xlabel=f"{first} (mean reward)", ylabel=f"{other} (mean reward)")
        drawing.quieten(ax)
    _draw_gains(gains, sweep, results, styles)
    figure.suptitle(f"{sweep.name}: {situation}")
    lines = [Line2D([], [], **styles[name]) for name in measured]
    drawing.legend_below(figure, lines, list(measured))
    return figure


def _draw_gains(ax: Axes, sweep: Sweep, results: Mapping[str, Finding], styles: Mapping) -> None:
    """One point with its interval per method, the first on top; labels contain the hypervolume."""
    ax.axvline(0.0, color=drawing.GREY, linewidth=1.0)
    for row, (name, finding) in enumerate(results.items()):
        mean, low, high = finding.gain or (0.0, 0.0, 0.0)
        ax.errorbar(
            mean, -row, xerr=[[mean - low], [high - mean]], fmt="o", color=styles[name]["color"]
        )
    ax.set(xlabel=f"hypervolume over {sweep.against}")
    names = [f"{name}  {finding.volume.mean:.3f}" for name, finding in results.items()]
    ax.set_yticks([-row for row in range(len(names))], names)
    drawing.quieten(ax)
