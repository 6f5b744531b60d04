"""The experiment as two pictures of small multiples, a panel a variant."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tabular.problem import ACCURACY
from tabular.report import Report

from dvaojax.evaluation import drawing

# On the fronts, where all methods at once could not be told apart.
SHOWN = (
    "reward_combination",
    "dvao",
    "dvao_denoised",
    "advantage_combination",
    "gdpo",
    "rvpo",
    "augmented_tchebycheff",
)
_MARKS: dict[str, dict[str, Any]] = {
    "common": {"markerfacecolor": "#D55E00", "color": "#D55E00", "marker": "o"},
    "equal": {"markerfacecolor": "white", "color": "#0072B2", "marker": "o"},
    "own": {"markerfacecolor": "#000000", "color": "#000000", "marker": "|"},
}
_SAID = {
    "common": "advantages as they are, one rate for all",
    "equal": "each step's advantages at mean square 1",
    "own": "as they are, at the rate that serves the method best",
}


def draw(report: Report, directory: Path) -> None:
    """Writes `bandit_methods.png` and `bandit_fronts.png`."""
    for name, figure in (("methods", methods(report)), ("fronts", fronts(report))):
        figure.savefig(directory / f"bandit_{name}.png", dpi=90, metadata={"Software": None})


def methods(report: Report) -> Figure:
    """How far every method came, with intervals; sorted by how far at equal length."""
    rows = {(row["method"], row["variant"], row["step"]): row for row in report["cells"]}
    names = {row["method"] for row in report["cells"]}
    reached = {
        name: np.mean([r["progress"][0] for k, r in rows.items() if k[::2] == (name, "equal")])
        for name in names
    }
    order = sorted(names, key=lambda name: reached[name])
    situations = list(report["variants"])
    figure = Figure(figsize=(15, 1.5 + 0.22 * len(order)), layout="constrained")
    panels = figure.subplots(1, len(situations), sharey=True, squeeze=False)[0]
    for ax, situation in zip(panels, situations, strict=True):
        for step, mark in _MARKS.items():
            shown = [(y, rows.get((name, situation, step))) for y, name in enumerate(order)]
            kept = [(y, row["progress"]) for y, row in shown if row is not None]
            places = [y for y, _ in kept]
            mean, low, high = np.array([interval for _, interval in kept]).T
            ends = [mean - low, high - mean]
            ax.errorbar(mean, places, xerr=ends, linestyle="none", markersize=5, **mark)
        ax.set(title=situation, yticks=range(len(order)), yticklabels=order)
        drawing.quieten(ax)
    handles = [panels[0].plot([], [], linestyle="none", **mark)[0] for mark in _MARKS.values()]
    figure.supxlabel("share of the way from the untrained policy to the best completion", size=10)
    drawing.legend_below(figure, handles, [f"{step}: {_SAID[step]}" for step in _MARKS])
    return figure


def fronts(report: Report) -> Figure:
    """Accuracy against the mean of the other objectives over the weights, each at its own step."""
    situations, cells = report["variants"], report["cells"]
    figure = Figure(figsize=(12, 8), layout="constrained")
    panels = figure.subplots(2, -(-len(situations) // 2), squeeze=False).flat
    lines = {}
    for ax, (situation, ends) in zip(panels, situations.items(), strict=False):
        best = np.array(ends["best"])
        (line,) = ax.plot(*_plane(best), color=drawing.GREY, linewidth=6, alpha=0.3)
        lines["best completions"] = line
        ax.plot(*_plane(np.array([ends["untrained"]])), "x", color=drawing.GREY)
        for place, name in enumerate(SHOWN):
            for row in cells:
                if (row["method"], row["variant"], row["step"]) == (name, situation, "own"):
                    values = np.array(row["values"])[..., 0]
                    style = drawing.line_style(place) | {"linewidth": 1.2, "marker": "."}
                    (lines[name],) = ax.plot(*_plane(values), **style)
        ax.set(title=situation)
        drawing.quieten(ax)
    figure.supxlabel("accuracy", size=10)
    figure.supylabel("mean of brevity and format", size=10)
    drawing.legend_below(figure, list(lines.values()), list(lines))
    return figure


def _plane(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`[W, K]` to accuracy and the mean of the others."""
    others = np.delete(values, ACCURACY, axis=1)
    return values[:, ACCURACY], others.mean(axis=1)
