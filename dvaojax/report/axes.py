"""The axes of an SVG figure: coordinates of values, grid lines and labels."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dvaojax.report.markup import Markup, element, join
from dvaojax.report.numbers import label, ticks

WIDTH, HEIGHT = 360, 198
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 8, 22
TICK_OFFSET = 16  # of the labels below the lower edge
TITLE_HEIGHT = 15  # of the title of the x axis


class PlotFrame(NamedTuple):
    """The plotting area of a figure.

    Attributes:
        x_ticks: values labelled on the x axis.
        y_ticks: values labelled on the y axis; the first and the last are its limits.
        x_ends: limits of the x axis.
        height: of the figure, including its margins.
        margin: below the plotting area, for the labels and the title of the x axis.
    """

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_ends: tuple[float, float]
    height: int = HEIGHT
    margin: int = BOTTOM

    @property
    def y_ends(self) -> tuple[float, float]:
        """Limits of the y axis."""
        return self.y_ticks[0], self.y_ticks[-1]

    @property
    def bottom(self) -> float:
        """y coordinate of the lower edge."""
        return self.height - self.margin

    def x(self, value: float) -> float:
        """x coordinate of a value."""
        low, high = self.x_ends
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """y coordinate of a value, from the top."""
        low, high = self.y_ends
        return self.bottom - (value - low) / (high - low) * (self.bottom - TOP)


def run_style(run: int) -> str:
    """CSS classes of a run, given its index in the report.

    Seven colours and six dash patterns distinguish 42 runs; consecutive runs differ in both.
    """
    return f"run run-{run % 7} dash-{run % 6}"


def limits(values: Iterable[np.ndarray]) -> tuple[float, float]:
    """Minimum and maximum of all values, of any shape; extended to 0 if 0 is near.

    For example, an axis for values from 0.2 to 0.9 begins at 0, one for 0.8 to 0.9 at 0.8.
    """
    every = np.concatenate([v[np.isfinite(v)] for v in values])
    low, high = float(every.min()), float(every.max())
    if low > 0.0 and low < 0.5 * high:
        low = 0.0
    if high < 0.0 and high > 0.5 * low:
        high = 0.0
    return low, high


def shared(limits: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Common limits for several figures, so that they can be compared.

    If the values of one of them would cover less than a fifth of the axis, each figure keeps its
    own limits.
    """
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    minimum = 0.2 * (high - low)
    if all(b - a >= minimum or a == b for a, b in limits):
        return [(low, high)] * len(limits)
    return list(limits)


def over_steps(first: int, last: int, values: tuple[float, float]) -> PlotFrame:
    """A frame for curves over the steps `first` to `last`, with the given limits of the values."""
    if first == last:
        first, last = first - 1, last + 1
    x_ticks = [t for t in ticks(first, last) if first <= t <= last and t == round(t)]
    return PlotFrame(x_ticks, ticks(*values), (first, last))


def x_axis(frame: PlotFrame, title: str | None = None) -> Markup:
    """Labels of the x axis, and its title."""
    step, y = _distance(frame.x_ticks), frame.bottom + TICK_OFFSET
    labels = [
        element("text", label(tick, step), x=f"{frame.x(tick):.1f}", y=y, class_="tick x")
        for tick in frame.x_ticks
    ]
    title_text = (
        element("text", title, x=WIDTH - RIGHT, y=y + TITLE_HEIGHT, class_="axis")
        if title
        else None
    )
    return join([*labels, title_text])


def y_axis(frame: PlotFrame) -> Markup:
    """Labels of the y axis, and horizontal grid lines."""
    step = _distance(frame.y_ticks)
    parts = []
    for tick in frame.y_ticks:
        y = f"{frame.y(tick):.1f}"
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(element("text", label(tick, step), x=LEFT - 6, y=y, class_="tick y"))
    return join(parts)


def x_grid(frame: PlotFrame) -> Markup:
    """Vertical grid lines."""
    return join(
        [
            element("line", x1=x, x2=x, y1=TOP, y2=frame.bottom, class_="grid")
            for x in (f"{frame.x(tick):.1f}" for tick in frame.x_ticks)
        ]
    )


def picture(frame: PlotFrame, *parts: Markup | None, title: str, about: str) -> Markup:
    """The SVG element of a figure.

    Args:
        frame: the plotting area.
        parts: content; None is skipped.
        title: name of the figure, for screen readers.
        about: content of the figure in words, for screen readers.
    """
    return element(
        "svg",
        element("title", title),
        element("desc", about),
        *parts,
        viewBox=f"0 0 {WIDTH} {frame.height}",
        role="img",
        aria_label=f"{title}. {about}",
    )


def _distance(marks: Sequence[float]) -> float:
    return marks[1] - marks[0] if len(marks) > 1 else max(abs(marks[0]), 1.0)
