"""Figure of means with intervals before and after training: one row per run."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dvaojax.evaluation.intervals import Interval
from dvaojax.report import axes
from dvaojax.report.axes import PlotFrame
from dvaojax.report.markup import Markup, element, join
from dvaojax.report.numbers import ticks

_ROW_HEIGHT = 30
_MARK_OFFSET = 6  # of a run's two marks from the middle of its row


class IntervalRow(NamedTuple):
    """One run's evaluations of one objective.

    Attributes:
        run: index of the run in the report.
        name: of the run.
        before: evaluation before training; None if the objective was not measured.
        after: evaluation after training; None if the objective was not measured.
    """

    run: int
    name: str
    before: Interval | None
    after: Interval | None


def draw(title: str, unit: str, rows: Sequence[IntervalRow], limits: tuple[float, float]) -> Markup:
    """The figure of one objective.

    Args:
        title: the objective.
        unit: of the axis.
        rows: the runs, with at least one interval.
        limits: of the axis, see `limits`.
    """
    marks = ticks(*limits)
    height = axes.TOP + _ROW_HEIGHT * len(rows) + axes.BOTTOM
    frame = PlotFrame(marks, (0.0, 1.0), (marks[0], marks[-1]), height)
    svg = axes.picture(
        frame,
        axes.x_grid(frame),
        axes.x_axis(frame),
        *(_row(frame, row, axes.TOP + _ROW_HEIGHT * (i + 0.5)) for i, row in enumerate(rows)),
        title=f"{title}, before and after",
        about=" ".join(f"{row.name}: {_words(row)}." for row in rows),
    )
    return element(
        "figure",
        element("figcaption", element("b", title), " ", element("span", unit)),
        element("div", svg, class_="plot"),
        class_="chart",
    )


def limits(rows: Sequence[IntervalRow]) -> tuple[float, float]:
    """Limits of an axis for all intervals of the rows."""
    every = [i for row in rows for i in (row.before, row.after) if i is not None]
    return axes.limits([np.array(every)])


def in_words(interval: Interval | None) -> str:
    """`0.986 [0.975, 0.996]`."""
    if interval is None:
        return "—"
    return f"{_short(interval.mean)} [{_short(interval.low)}, {_short(interval.high)}]"


def _mark(frame: PlotFrame, interval: Interval, y: float, kind: str, name: str) -> Markup:
    """A point on a horizontal interval.

    Args:
        frame: the plotting area.
        interval: the mean with its interval.
        y: y coordinate.
        kind: "before" or "after".
        name: of the run.
    """
    low, mean, high = (f"{frame.x(x):.1f}" for x in (interval.low, interval.mean, interval.high))
    y_text = f"{y:.1f}"
    return element(
        "g",
        element("title", f"{name} {kind}: {in_words(interval)}"),
        element("line", x1=low, x2=high, y1=y_text, y2=y_text, class_="whisker"),
        element("circle", cx=mean, cy=y_text, r=4.5, class_=kind),
    )


def _row(frame: PlotFrame, row: IntervalRow, y: float) -> Markup:
    parts = []
    if row.before is not None and row.after is not None:
        x1, x2 = f"{frame.x(row.before.mean):.1f}", f"{frame.x(row.after.mean):.1f}"
        line = element(
            "line", x1=x1, y1=y - _MARK_OFFSET, x2=x2, y2=y + _MARK_OFFSET, class_="change"
        )
        parts.append(line)
    if row.before is not None:
        parts.append(_mark(frame, row.before, y - _MARK_OFFSET, "before", row.name))
    if row.after is not None:
        parts.append(_mark(frame, row.after, y + _MARK_OFFSET, "after", row.name))
    return element("g", join(parts), class_=axes.run_style(row.run))


def _words(row: IntervalRow) -> str:
    return f"before {in_words(row.before)}, after {in_words(row.after)}"


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10.0 else f"{value:,.1f}"
