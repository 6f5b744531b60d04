"""Figure of two objectives: each run before and after training, and the Pareto front."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dvaojax.evaluation.history import smooth
from dvaojax.evaluation.intervals import Interval
from dvaojax.evaluation.pareto import non_dominated
from dvaojax.report import axes
from dvaojax.report.axes import PlotFrame
from dvaojax.report.curves import POINTS, path
from dvaojax.report.intervals import in_words
from dvaojax.report.markup import Markup, element, join
from dvaojax.report.numbers import spaced, ticks

_HEIGHT = 300


class Journey(NamedTuple):
    """One run in the plane of two objectives.

    Attributes:
        run: index of the run in the report.
        name: of the run.
        before: evaluation of both objectives before training; None if there was none.
        after: evaluation of both objectives after training; None if there was none.
        trail: `[2, S]` the mean rewards of its steps.
    """

    run: int
    name: str
    before: tuple[Interval, Interval] | None
    after: tuple[Interval, Interval] | None
    trail: np.ndarray


def draw(x: str, y: str, journeys: Sequence[Journey]) -> Markup:
    """The figure of the objectives `x` and `y`; larger values are better.

    Args:
        x: objective on the x axis.
        y: objective on the y axis.
        journeys: runs with both objectives; at least one has measurements.
    """
    shown = [_thin(journey) for journey in journeys]
    both_limits = axes.shared([axes.limits(_values(shown, axis)) for axis in (0, 1)])
    x_ticks, y_ticks = (ticks(*limits) for limits in both_limits)
    frame = PlotFrame(
        x_ticks, y_ticks, (x_ticks[0], x_ticks[-1]), _HEIGHT, axes.BOTTOM + axes.TITLE_HEIGHT
    )
    svg = axes.picture(
        frame,
        axes.x_grid(frame),
        axes.y_axis(frame),
        axes.x_axis(frame, x),
        _front(frame, shown),
        *(_journey(frame, journey) for journey in shown),
        title=f"{y} against {x}",
        about=" ".join(f"{j.name}: {_words(j.before)}, then {_words(j.after)}." for j in shown),
    )
    caption = element("figcaption", element("b", f"{y} against {x}"), " ", element("span", "mean"))
    return element("figure", caption, element("div", svg, class_="plot"), class_="chart")


def _thin(journey: Journey) -> Journey:
    trail = np.stack([smooth(values) for values in journey.trail])
    return journey._replace(trail=trail[:, spaced(trail.shape[1], at_most=POINTS)])


def _values(journeys: Sequence[Journey], axis: int) -> list[np.ndarray]:
    ends = [ends[axis] for j in journeys for ends in (j.before, j.after) if ends is not None]
    return [*(j.trail[axis] for j in journeys), *(np.array(end) for end in ends)]


def _journey(frame: PlotFrame, journey: Journey) -> Markup:
    x = np.array([frame.x(value) for value in journey.trail[0]])
    y = np.array([frame.y(value) for value in journey.trail[1]])
    parts = [element("path", d=path(x, np.where(np.isfinite(x), y, np.nan)), class_="trail")]
    for kind, ends in (("before", journey.before), ("after", journey.after)):
        if ends is not None:
            parts.append(_cross(frame, ends, f"{journey.name} {kind}", kind))
    return element("g", join(parts), class_=axes.run_style(journey.run))


def _cross(frame: PlotFrame, ends: tuple[Interval, Interval], title: str, kind: str) -> Markup:
    (left, x, right), (low, y, high) = (
        [scale(v) for v in (i.low, i.mean, i.high)]
        for scale, i in zip((frame.x, frame.y), ends, strict=True)
    )
    return element(
        "g",
        element("title", f"{title}: {_words(ends)}"),
        element(
            "path",
            d=f"M{left:.1f} {y:.1f}H{right:.1f}M{x:.1f} {low:.1f}V{high:.1f}",
            class_="whisker",
        ),
        element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=4.5, class_=kind),
    )


def _front(frame: PlotFrame, journeys: Sequence[Journey]) -> Markup | None:
    """The Pareto front of the evaluations after training; None for fewer than two."""
    points = np.array([[i.mean for i in j.after] for j in journeys if j.after is not None])
    if len(points) < 2:
        return None
    front = points[non_dominated(points)]
    front = front[np.argsort(front[:, 0])]
    d = f"M{axes.LEFT} {frame.y(front[0, 1]):.1f}"
    d += "".join(f"H{frame.x(x):.1f}V{frame.y(y):.1f}" for x, y in _corners(front, frame))
    return element("path", element("title", "Pareto front"), d=d, class_="front")


def _corners(front: np.ndarray, frame: PlotFrame) -> list[tuple[float, float]]:
    """Corners of the front: each point, and the height of the next one."""
    below = [*front[1:, 1].tolist(), frame.y_ends[0]]
    return list(zip(front[:, 0].tolist(), below, strict=True))


def _words(ends: tuple[Interval, Interval] | None) -> str:
    return "not evaluated" if ends is None else " and ".join(map(in_words, ends))
