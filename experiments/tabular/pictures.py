"""Plots of the experiment, with one panel per variant."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tabular.problem import ACCURACY
from tabular.report import Report

from dvaojax.evaluation import drawing

# Methods in the plot of the fronts, which has no space for all of them.
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
    "common": {"markerfacecolor": "#D55E00", "color": "#D55E00"},
    "equal": {"markerfacecolor": "white", "color": "#0072B2"},
    "own": {"markerfacecolor": "#000000", "color": "#000000"},
}
_LABELS = {
    "common": "advantages as they are, one rate for all",
    "equal": "each step's advantages at mean square 1, one rate for all",
    "own": "advantages as they are, at the rate that serves the method best",
}


def draw(report: Report, directory: Path) -> None:
    """Writes `bandit_common_equal.png`, `bandit_own.png` and `bandit_fronts.png`."""
    figures = {
        "common_equal": methods(report, ["common", "equal"]),
        "own": methods(report, ["own"]),
        "fronts": fronts(report),
    }
    for name, figure in figures.items():
        figure.savefig(directory / f"bandit_{name}.png", dpi=80, metadata={"Software": None})


def methods(report: Report, steps: Sequence[str]) -> Figure:
    """Progress of every method with intervals, sorted by the mean over the variants."""
    rows = {(row["method"], row["variant"], row["step"]): row for row in report["cells"]}
    names, situations = {row["method"] for row in report["cells"]}, list(report["variants"])
    reached = {
        name: np.mean([rows[name, situation, steps[-1]]["progress"][0] for situation in situations])
        for name in names
    }
    order = sorted(names, key=lambda name: reached[name])
    figure = Figure(figsize=(15, 1.6 + 0.2 * len(order)), layout="constrained")
    panels = figure.subplots(1, len(situations), sharey=True, squeeze=False)[0]
    for ax, situation in zip(panels, situations, strict=True):
        for step in steps:
            intervals = [rows[name, situation, step]["progress"] for name in order]
            mean, low, high = 100 * np.array(intervals).T
            ends = [mean - low, high - mean]
            style = {"linestyle": "none", "marker": "o", "markersize": 4} | _MARKS[step]
            ax.errorbar(
                mean, range(len(order)), xerr=ends, label=f"{step}: {_LABELS[step]}", **style
            )
        ax.set(title=situation, yticks=range(len(order)), yticklabels=order)
        ax.margins(y=0.02)
        drawing.quieten(ax)
    subject = "Percent of the way from the untrained policy to the best completion"
    figure.suptitle(f"{subject}, with 95 % intervals over seeds", size=11)
    drawing.legend_below(figure, *panels[0].get_legend_handles_labels())
    return figure


def fronts(report: Report) -> Figure:
    """Accuracy against the mean of the other objectives for all weights, at the step "own"."""
    situations, cells = report["variants"], report["cells"]
    figure = Figure(figsize=(12, 8), layout="constrained")
    panels = figure.subplots(2, -(-len(situations) // 2), squeeze=False).flat
    lines = {}
    for ax, (situation, ends) in zip(panels, situations.items(), strict=False):
        best = np.array(ends["best"])
        (line,) = ax.plot(*_plane(best), color=drawing.GREY, linewidth=6, alpha=0.3)
        lines["best completions"] = line
        ax.plot(*_plane(np.array([ends["untrained"]])), "x", color=drawing.GREY)
        for index, name in enumerate(SHOWN):
            for row in cells:
                if (row["method"], row["variant"], row["step"]) == (name, situation, "own"):
                    values = np.array(row["per_mille"]) / 1000
                    style = drawing.line_style(index) | {"linewidth": 1.2, "marker": "."}
                    (lines[name],) = ax.plot(*_plane(values), **style)
        ax.set(title=situation, xlabel="accuracy", ylabel="mean of brevity and format")
        drawing.quieten(ax)
    drawing.legend_below(figure, list(lines.values()), list(lines))
    return figure


def _plane(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and the mean of the other objectives, from values `[W, K]`."""
    others = np.delete(values, ACCURACY, axis=1)
    return values[:, ACCURACY], others.mean(axis=1)
