"""Shared style of the plots: colours per run, axes, and a legend below the panels.

The colours are distinguishable for colour-blind readers (Okabe and Ito, 2008); after seven runs the
dashes change. Figures are created directly, without matplotlib's global state.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dvaojax import files

GREY = "#666666"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def line_style(run: int) -> dict[str, Any]:
    """Line style of a run, by the run's index in the plot."""
    dash = _DASHES[run // len(_COLOURS) % len(_DASHES)]
    return {"color": _COLOURS[run % len(_COLOURS)], "linestyle": dash, "linewidth": 2.0}


def marker_style(run: int) -> dict[str, Any]:
    """Marker style of a run, without its fill colour."""
    return {
        "color": _COLOURS[run % len(_COLOURS)],
        "marker": _MARKERS[run % len(_MARKERS)],
        "markersize": 8.0,
        "linestyle": "none",
    }


def quieten(ax: Axes) -> None:
    """Removes two spines and draws a light grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#DDDDDD", linewidth=0.6)
    ax.set_axisbelow(True)


def save(figure: Figure, path: Path, *, dpi: int) -> None:
    """Writes a figure as a PNG file, atomically."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=dpi)
    files.write_bytes(path, image.getvalue())


def title(subject: str, runs: Sequence[str]) -> str:
    """Title of a figure: names a single run; several runs are named in the legend."""
    return f"{subject} · {runs[0]}" if len(runs) == 1 else subject


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Draws a legend below the panels, in as many columns as fit the figure."""
    characters = figure.get_figwidth() * 11.0
    columns = int(characters / (max(map(len, labels)) + 8))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=max(1, min(columns, len(labels))),
        frameon=False,
    )
