"""Curves over the steps: one metric, one line a run, every value faint under its moving average."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dvaojax.evaluation.history import smooth
from dvaojax.report import axes
from dvaojax.report.axes import Frame
from dvaojax.report.markup import Markup, element, join
from dvaojax.report.numbers import number, spaced

POINTS = 600  # of a curve; a screen has no more to tell them apart
ROWS = 12  # of the table under it


class Curve(NamedTuple):
    """What one run measured of one metric.

    Attributes:
        run: the run's place in the report.
        name: the run's.
        steps: `[S]`.
        values: `[S]`, NaN where nothing was measured.
    """

    run: int
    name: str
    steps: np.ndarray
    values: np.ndarray


class Chart(NamedTuple):
    """One metric of every run that measured it.

    Attributes:
        title: what it is.
        unit: in what.
        curves: at least one, each with at least one value.
        limits: the least and the largest value to be shown.
    """

    title: str
    unit: str
    curves: Sequence[Curve]
    limits: tuple[float, float]


class Drawn(NamedTuple):
    """A chart on the page.

    Attributes:
        markup: the figure.
        data: what the page's script reads values from when a reader points at a step.
    """

    markup: Markup
    data: dict[str, Any]


def draw(chart: Chart, place: int, steps: tuple[int, int]) -> Drawn:
    """The chart as a figure with its numbers in a table.

    Args:
        chart: what to draw.
        place: among all charts of the page.
        steps: the first and the last of the page, the same for all charts.
    """
    frame = axes.over_steps(*steps, chart.limits)
    svg = axes.picture(
        frame,
        axes.y_axis(frame),
        axes.x_axis(frame),
        element("text", "step", x=axes.LEFT - 6, y=frame.bottom + axes.NUMBERS, class_="axis"),
        *(_line(frame, curve) for curve in chart.curves),
        title=chart.title,
        about=" ".join(_in_words(curve) for curve in chart.curves),
    )
    caption = element("figcaption", element("b", chart.title), " ", element("span", chart.unit))
    figure = element(
        "figure",
        caption,
        element(
            "div",
            svg,
            class_="plot",
            tabindex=0,
            role="group",
            aria_label=f"{chart.title}: arrow keys read its values",
            data_chart=place,
        ),
        _table(chart),
        class_="chart",
    )
    return Drawn(figure, _data(frame, chart))


def _line(frame: Frame, curve: Curve) -> Markup:
    x = np.array([frame.x(step) for step in curve.steps])
    y = np.array([frame.y(value) for value in curve.values])
    average = np.array([frame.y(value) for value in smooth(curve.values)])
    kept, shown = _spikes(y), spaced(len(x), at_most=POINTS)
    return element(
        "g",
        element("path", d=path(x[kept], y[kept]), class_="each"),
        element("path", d=path(x[shown], average[shown]), class_="smooth"),
        class_=axes.look(curve.run),
    )


def path(x: np.ndarray, y: np.ndarray) -> str:
    """Points `x[N]`, `y[N]` joined by lines, as SVG writes them; NaN is a gap, and a point alone
    stays a dot."""
    pieces = []
    for there, group in itertools.groupby(
        zip(x, y, strict=True), lambda p: bool(np.isfinite(p[1]))
    ):
        if there:
            points = [f"{a:.1f} {b:.1f}" for a, b in group]
            pieces.append("M" + "L".join(points if len(points) > 1 else points * 2))
    return "".join(pieces)


def _spikes(values: np.ndarray) -> np.ndarray:
    """Places to keep so that thinning hides no extreme: the least and the largest of every bin."""
    if len(values) <= POINTS:
        return np.arange(len(values))
    kept = {0, len(values) - 1}
    for places in np.array_split(np.arange(len(values)), POINTS // 2):
        there = places[np.isfinite(values[places])]
        if there.size:
            kept |= {int(there[values[there].argmin()]), int(there[values[there].argmax()])}
    return np.array(sorted(kept))


def _in_words(curve: Curve) -> str:
    there = np.flatnonzero(np.isfinite(curve.values))
    first, last = (
        f"{number(float(curve.values[i]))} at step {curve.steps[i]}" for i in (there[0], there[-1])
    )
    return f"{curve.name}: {first}." if len(there) == 1 else f"{curve.name}: {first}, {last}."


def _table(chart: Chart) -> Markup:
    """The values at some steps, for who would rather read; closed at first."""
    every = sorted({int(step) for curve in chart.curves for step in curve.steps})
    steps = [every[i] for i in spaced(len(every), at_most=ROWS)]
    by_step = [dict(zip(c.steps.tolist(), c.values.tolist(), strict=True)) for c in chart.curves]
    head = [element("th", text, scope="col") for text in ("step", *(c.name for c in chart.curves))]
    rows = [
        element(
            "tr",
            element("th", str(step), scope="row"),
            *(element("td", number(values.get(step))) for values in by_step),
        )
        for step in steps
    ]
    some = (
        f"numbers at {len(steps)} of {len(every)} steps" if len(steps) < len(every) else "numbers"
    )
    return element(
        "details",
        element("summary", some, element("span", f" of {chart.title}", class_="unseen")),
        element(
            "div",
            element(
                "table",
                element("thead", element("tr", *head)),
                element("tbody", join(rows)),
                class_="numbers",
            ),
            class_="wide",
        ),
    )


def _data(frame: Frame, chart: Chart) -> dict[str, Any]:
    """Places and values for the script; thinned like the curves."""
    return {
        "plot": [axes.LEFT, axes.TOP, axes.WIDTH - axes.RIGHT, frame.bottom],
        "x": list(frame.x_ends),
        "y": list(frame.y_ends),
        "curves": [_curve_data(curve) for curve in chart.curves],
    }


def _curve_data(curve: Curve) -> dict[str, Any]:
    kept = spaced(len(curve.steps), at_most=POINTS)
    return {
        "run": curve.run,
        "name": curve.name,
        "steps": [int(step) for step in curve.steps[kept]],
        "values": [
            float(f"{value:.5g}") if np.isfinite(value) else None for value in curve.values[kept]
        ],
    }
