"""A picture of each situation: the methods' fronts, and their hypervolumes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dvaojax.evaluation import drawing
from dvaojax.sweep.grid import Place, Sweep
from dvaojax.sweep.record import Row
from dvaojax.sweep.statistics import Findings, Front, fronts


def draw(sweep: Sweep, rows: Mapping[Place, Row], found: Findings, out: Path) -> list[Path]:
    """Writes `SITUATION.png` for every situation of which something is known.

    Args:
        sweep: what was compared.
        rows: what was measured.
        found: the same in numbers.
        out: an existing directory.
    """
    measured, written = fronts(sweep, rows), []
    for situation in sweep.situations:
        methods = [name for name in sweep.methods_in(situation) if (situation, name) in measured]
        if methods:
            path = out / f"{situation}.png"
            of_situation(
                sweep,
                situation,
                {name: measured[situation, name] for name in methods},
                found,
            ).savefig(path, dpi=120)
            written.append(path)
    return written


def of_situation(
    sweep: Sweep, situation: str, measured: Mapping[str, Front], found: Findings
) -> Figure:
    """The first objective against each of the others, and hypervolumes beside them.

    A line joins the means over seeds along the trade-offs; a method keeps its colour in every
    picture of the sweep.
    """
    first, *others = sweep.objectives
    figure = Figure(figsize=(4.4 * (len(others) + 1), 4.6), layout="constrained")
    *planes, volumes = np.ravel(figure.subplots(1, len(others) + 1))
    styles = {name: drawing.line_style(i) for i, name in enumerate(sweep.methods)}
    for k, (ax, other) in enumerate(zip(planes, others, strict=True), start=1):
        for name, front in measured.items():
            points = front.points.mean(axis=0)
            ax.plot(points[:, 0], points[:, k], marker="o", markersize=4.0, **styles[name])
        ax.set(xlabel=f"{first} (mean reward)", ylabel=f"{other} (mean reward)")
        drawing.quieten(ax)
    _draw_volumes(volumes, situation, list(measured), found, styles)
    figure.suptitle(f"{sweep.name}: {situation}")
    lines = [Line2D([], [], **styles[name]) for name in measured]
    drawing.legend_below(figure, lines, list(measured))
    return figure


def _draw_volumes(
    ax: Axes, situation: str, methods: Sequence[str], found: Findings, styles: Mapping
) -> None:
    """A point with its interval a method, the first on top."""
    for row, name in enumerate(methods):
        mean, low, high = found[situation, name].volume
        ax.errorbar(
            mean, -row, xerr=[[mean - low], [high - mean]], fmt="o", color=styles[name]["color"]
        )
    ax.set(xlabel="hypervolume, with 95 % interval over seeds")
    ax.set_yticks([-row for row in range(len(methods))], methods)
    drawing.quieten(ax)
