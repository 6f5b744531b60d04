"""The frame of a picture in SVG: where a value lies, and the lines and numbers around it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dvaojax.report.markup import Markup, element, join
from dvaojax.report.numbers import label, ticks

WIDTH, HEIGHT = 360, 198
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 8, 22
NUMBERS = 16  # how far below the edge numbers stand
TITLE = 15  # what the name of the axis below takes


class Frame(NamedTuple):
    """The part of a picture that values are drawn in.

    Attributes:
        x_ticks: round numbers that are marked below.
        y_ticks: those on the left; the first and the last are the lower and the upper edge.
        x_ends: what the left and the right edge stand for.
        height: of the picture, its margins included.
        margin: below, for numbers and the name of the axis.
    """

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_ends: tuple[float, float]
    height: int = HEIGHT
    margin: int = BOTTOM

    @property
    def y_ends(self) -> tuple[float, float]:
        """What the lower and the upper edge stand for."""
        return self.y_ticks[0], self.y_ticks[-1]

    @property
    def bottom(self) -> float:
        """Where the lower edge is drawn."""
        return self.height - self.margin

    def x(self, value: float) -> float:
        """Where a value is drawn, from the left."""
        low, high = self.x_ends
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Where a value is drawn, from the top."""
        low, high = self.y_ends
        return self.bottom - (value - low) / (high - low) * (self.bottom - TOP)


def look(run: int) -> str:
    """How a run is drawn, as classes of style, by its place in the report.

    Seven colours and six patterns of dashes: forty-two runs differ, and neighbours in both.
    """
    return f"run run-{run % 7} dash-{run % 6}"


def limits(values: Iterable[np.ndarray]) -> tuple[float, float]:
    """From the least to the largest of all values, of any shape; 0 belongs to it if it is near.

    A mean reward from 0.2 to 0.9 is drawn from 0, one from 0.8 to 0.9 is not.
    """
    every = np.concatenate([v[np.isfinite(v)] for v in values])
    low, high = float(every.min()), float(every.max())
    if low > 0.0 and low < 0.5 * high:
        low = 0.0
    if high < 0.0 and high > 0.5 * low:
        high = 0.0
    return low, high


def shared(of_each: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The limits of all in the place of each's own, so that pictures side by side can be compared.

    Unless that would squash one of them to less than a fifth of its height: then each keeps its
    own.
    """
    low, high = min(low for low, _ in of_each), max(high for _, high in of_each)
    least = 0.2 * (high - low)
    if all(b - a >= least or a == b for a, b in of_each):
        return [(low, high)] * len(of_each)
    return list(of_each)


def over_steps(first: int, last: int, values: tuple[float, float]) -> Frame:
    """A frame for curves over the steps `first` to `last`, with values between two limits."""
    if first == last:
        first, last = first - 1, last + 1
    whole = [t for t in ticks(first, last) if first <= t <= last and t == round(t)]
    return Frame(whole, ticks(*values), (first, last))


def x_axis(frame: Frame, title: str | None = None) -> Markup:
    """The numbers below, and under them what they are."""
    step, level = _distance(frame.x_ticks), frame.bottom + NUMBERS
    numbers = [
        element("text", label(tick, step), x=f"{frame.x(tick):.1f}", y=level, class_="tick x")
        for tick in frame.x_ticks
    ]
    name = (
        element("text", title, x=WIDTH - RIGHT, y=level + TITLE, class_="axis") if title else None
    )
    return join([*numbers, name])


def y_axis(frame: Frame) -> Markup:
    """The numbers on the left, and a faint line across from each."""
    step = _distance(frame.y_ticks)
    drawn = []
    for tick in frame.y_ticks:
        y = f"{frame.y(tick):.1f}"
        drawn.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        drawn.append(element("text", label(tick, step), x=LEFT - 6, y=y, class_="tick y"))
    return join(drawn)


def x_grid(frame: Frame) -> Markup:
    """A faint line up from every number below."""
    return join(
        [
            element("line", x1=x, x2=x, y1=TOP, y2=frame.bottom, class_="grid")
            for x in (f"{frame.x(tick):.1f}" for tick in frame.x_ticks)
        ]
    )


def picture(frame: Frame, *drawn: Markup | None, title: str, about: str) -> Markup:
    """The whole SVG.

    Args:
        frame: whose height it has.
        drawn: what is in it; None is left out.
        title: its name, for who cannot see it.
        about: what it shows, in words, for the same.
    """
    return element(
        "svg",
        element("title", title),
        element("desc", about),
        *drawn,
        viewBox=f"0 0 {WIDTH} {frame.height}",
        role="img",
        aria_label=f"{title}. {about}",
    )


def _distance(marks: Sequence[float]) -> float:
    return marks[1] - marks[0] if len(marks) > 1 else max(abs(marks[0]), 1.0)
