"""What all pictures share: a run's colour, quiet axes, and a legend that stays off the data.

The colours stay apart for colour-blind eyes (Okabe and Ito, 2008); past seven runs the dashes
change. Figures are objects of their own: nothing here touches matplotlib's global state.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

GREY = "#666666"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def line_style(run: int) -> dict[str, Any]:
    """How a run's curve is drawn, by the run's place in the picture."""
    dash = _DASHES[run // len(_COLOURS) % len(_DASHES)]
    return {"color": _COLOURS[run % len(_COLOURS)], "linestyle": dash, "linewidth": 2.0}


def marker_style(run: int) -> dict[str, Any]:
    """How a run's point is drawn, without its filling."""
    return {
        "color": _COLOURS[run % len(_COLOURS)],
        "marker": _MARKERS[run % len(_MARKERS)],
        "markersize": 8.0,
        "linestyle": "none",
    }


def quieten(ax: Axes) -> None:
    """Leaves two spines and a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#DDDDDD", linewidth=0.6)
    ax.set_axisbelow(True)


def title(what: str, runs: Sequence[str]) -> str:
    """The title of a figure; a single run is named in it, several in the legend."""
    return f"{what} · {runs[0]}" if len(runs) == 1 else what


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """A legend under the panels, in as many columns as the figure is wide."""
    characters = figure.get_figwidth() * 11.0
    columns = int(characters / (max(map(len, labels)) + 8))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=max(1, min(columns, len(labels))),
        frameon=False,
    )
