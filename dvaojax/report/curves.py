"""Curves over the steps: one metric per figure, one line per run with its moving average."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dvaojax.evaluation.history import smooth
from dvaojax.report import axes
from dvaojax.report.axes import PlotFrame
from dvaojax.report.markup import Markup, element, join
from dvaojax.report.numbers import number, spaced

POINTS = 600  # per curve; a screen does not resolve more
ROWS = 12  # of the table below the figure


class Curve(NamedTuple):
    """One metric of one run.

    Attributes:
        run: index of the run in the report.
        name: of the run.
        steps: `[S]`.
        values: `[S]`, NaN where the metric was not measured.
    """

    run: int
    name: str
    steps: np.ndarray
    values: np.ndarray


class Chart(NamedTuple):
    """One metric of every run that measured it.

    Attributes:
        title: its name.
        unit: its unit.
        curves: at least one, each with at least one value.
        limits: of the y axis.
    """

    title: str
    unit: str
    curves: Sequence[Curve]
    limits: tuple[float, float]


class DrawnChart(NamedTuple):
    """A chart on the page.

    Attributes:
        markup: the figure.
        data: steps and values for the page's script, which shows the values at the pointer.
    """

    markup: Markup
    data: dict[str, Any]


def draw(chart: Chart, index: int, steps: tuple[int, int]) -> DrawnChart:
    """The chart as a figure with a table of its values.

    Args:
        chart: the metric.
        index: of the chart on the page.
        steps: the first and the last step, the same for all charts of the page.
    """
    frame = axes.over_steps(*steps, chart.limits)
    svg = axes.picture(
        frame,
        axes.y_axis(frame),
        axes.x_axis(frame),
        element("text", "step", x=axes.LEFT - 6, y=frame.bottom + axes.TICK_OFFSET, class_="axis"),
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
            aria_label=f"{chart.title}: use the arrow keys to read values",
            data_chart=index,
        ),
        _table(chart),
        class_="chart",
    )
    return DrawnChart(figure, _data(frame, chart))


def _line(frame: PlotFrame, curve: Curve) -> Markup:
    x = np.array([frame.x(step) for step in curve.steps])
    y = np.array([frame.y(value) for value in curve.values])
    average = np.array([frame.y(value) for value in smooth(curve.values)])
    kept, shown = _spikes(y), spaced(len(x), at_most=POINTS)
    return element(
        "g",
        element("path", d=path(x[kept], y[kept]), class_="each"),
        element("path", d=path(x[shown], average[shown]), class_="smooth"),
        class_=axes.run_style(curve.run),
    )


def path(x: np.ndarray, y: np.ndarray) -> str:
    """SVG path through the points `x[N]`, `y[N]`; NaN is a gap, and an isolated point is a dot."""
    pieces = []
    for is_finite, group in itertools.groupby(
        zip(x, y, strict=True), lambda p: bool(np.isfinite(p[1]))
    ):
        if is_finite:
            points = [f"{a:.1f} {b:.1f}" for a, b in group]
            pieces.append("M" + "L".join(points if len(points) > 1 else points * 2))
    return "".join(pieces)


def _spikes(values: np.ndarray) -> np.ndarray:
    """Indices that keep the extremes when a curve is thinned: minimum and maximum of each bin."""
    if len(values) <= POINTS:
        return np.arange(len(values))
    kept = {0, len(values) - 1}
    for indices in np.array_split(np.arange(len(values)), POINTS // 2):
        finite = indices[np.isfinite(values[indices])]
        if finite.size:
            kept |= {int(finite[values[finite].argmin()]), int(finite[values[finite].argmax()])}
    return np.array(sorted(kept))


def _in_words(curve: Curve) -> str:
    finite = np.flatnonzero(np.isfinite(curve.values))
    first, last = (
        f"{number(float(curve.values[i]))} at step {curve.steps[i]}"
        for i in (finite[0], finite[-1])
    )
    return f"{curve.name}: {first}." if len(finite) == 1 else f"{curve.name}: {first}, {last}."


def _table(chart: Chart) -> Markup:
    """The values at some steps as a table, which is closed initially."""
    all_steps = sorted({int(step) for curve in chart.curves for step in curve.steps})
    steps = [all_steps[i] for i in spaced(len(all_steps), at_most=ROWS)]
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
    title = "values"
    if len(steps) < len(all_steps):
        title += f" at {len(steps)} of {len(all_steps)} steps"
    return element(
        "details",
        element("summary", title, element("span", f" of {chart.title}", class_="unseen")),
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


def _data(frame: PlotFrame, chart: Chart) -> dict[str, Any]:
    """Coordinates and values for the script, thinned like the curves."""
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
