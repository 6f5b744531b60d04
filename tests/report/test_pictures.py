"""Figures are read back: coordinates are converted to values with the labels of the axes."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from dvaojax.evaluation.history import smooth
from dvaojax.evaluation.intervals import Interval
from dvaojax.report import curves, intervals, trade_off
from dvaojax.report.curves import Chart, Curve
from dvaojax.report.intervals import IntervalRow
from dvaojax.report.trade_off import Journey

ROUNDING = 0.11  # of coordinates, which have one decimal


def scale(svg, kind):
    """Function from coordinates to values, a linear fit to the axis labels, and its tolerance."""
    labels = svg.findall(f".//text[@class='tick {kind}']")
    coordinates = [float(text.get(kind)) for text in labels]
    values = [float((text.text or "").replace(",", "")) for text in labels]
    slope, start = np.polyfit(coordinates, values, 1)
    return lambda coordinate: slope * np.asarray(coordinate, float) + start, abs(slope) * ROUNDING


def points(path):
    """The pieces of a path as arrays of points."""
    pieces = re.findall(r"M([^M]+)", path.get("d"))
    return [np.array([[float(x) for x in p.split()] for p in piece.split("L")]) for piece in pieces]


def line(run, values, *, steps=None, name="a"):
    values = np.asarray(values, float)
    return Curve(run, name, np.arange(1, len(values) + 1) if steps is None else steps, values)


def drawn(*lines, steps=None, limits=(0.0, 1.0)):
    chart = Chart("accuracy", "mean reward", lines, limits)
    last = max(int(c.steps[-1]) for c in lines)
    return curves.draw(chart, 0, steps or (1, last))


def test_curves_show_the_values():
    values = np.random.default_rng(0).random(60)
    figure = ElementTree.fromstring(drawn(line(0, values)).markup)
    (to_x, x_slack), (to_y, y_slack) = scale(figure, "x"), scale(figure, "y")
    for kind, expected in (("each", values), ("smooth", smooth(values))):
        (piece,) = points(figure.find(f".//path[@class='{kind}']"))
        np.testing.assert_allclose(to_x(piece[:, 0]), np.arange(1, 61), atol=x_slack)
        np.testing.assert_allclose(to_y(piece[:, 1]), expected, atol=y_slack)


def test_missing_values_are_gaps_and_isolated_values_are_dots():
    values = [0.1, 0.2, np.nan, 0.4, np.nan, np.nan, 0.7, 0.8]
    each = ElementTree.fromstring(drawn(line(0, values)).markup).find(".//path[@class='each']")
    assert [len(piece) for piece in points(each)] == [2, 2, 2]
    alone = points(each)[1]
    np.testing.assert_array_equal(alone[0], alone[1])


def test_a_single_step_is_a_dot_in_the_middle():
    figure = ElementTree.fromstring(drawn(line(0, [0.5])).markup)
    (piece,) = points(figure.find(".//path[@class='each']"))
    to_x, slack = scale(figure, "x")
    np.testing.assert_allclose(to_x(piece[:, 0]), 1.0, atol=slack)


def test_thinning_keeps_spikes():
    values = np.full(20_000, 0.5)
    values[[3, 7_777, 19_998]] = [1.0, 0.0, 0.9]
    chart = drawn(line(0, values))
    figure = ElementTree.fromstring(chart.markup)
    (piece,) = points(figure.find(".//path[@class='each']"))
    to_y, slack = scale(figure, "y")
    assert len(piece) <= 2 * curves.POINTS
    for spike in (1.0, 0.0, 0.9):
        assert np.abs(to_y(piece[:, 1]) - spike).min() < slack
    assert len(chart.markup) < 60_000


def test_runs_have_different_styles_and_a_description():
    figure = drawn(line(0, [0.25, 0.5]), line(8, [0.75], steps=np.array([2]), name="b")).markup
    read = ElementTree.fromstring(figure)
    assert [g.get("class") for g in read.iter("g")] == ["run run-0 dash-0", "run run-1 dash-2"]
    description = "a: 0.25 at step 1, 0.5 at step 2. b: 0.75 at step 2."
    assert read.find(".//svg").get("aria-label") == f"accuracy. {description}"
    assert read.find(".//svg/desc").text == description
    cells = [[cell.text for cell in row] for row in read.iter("tr")]
    assert cells == [["step", "a", "b"], ["1", "0.25", "—"], ["2", "0.5", "0.75"]]


def test_script_data_has_values_and_frame():
    chart = drawn(line(0, [0.123456789, np.nan, 1.0]))
    left, top, right, bottom = chart.data["plot"]
    figure = ElementTree.fromstring(chart.markup)
    (to_x, x_slack), (to_y, y_slack) = scale(figure, "x"), scale(figure, "y")
    np.testing.assert_allclose(to_x([left, right]), chart.data["x"], atol=x_slack)
    np.testing.assert_allclose(to_y([bottom, top]), chart.data["y"], atol=y_slack)
    (curve,) = chart.data["curves"]
    assert curve["steps"] == [1, 2, 3]
    assert curve["values"] == [0.12346, None, 1.0]


@pytest.mark.parametrize("missing", ["before", "after"])
def test_marks_show_the_intervals(missing):
    before, after = Interval(0.4, 0.35, 0.45), Interval(0.9, 0.85, 0.93)
    row = IntervalRow(3, "a", before, after)._replace(**{missing: None})
    rows = [IntervalRow(0, "b", before, after), row]
    figure = ElementTree.fromstring(intervals.draw("accuracy", "mean", rows, (0.0, 1.0)))
    to_x, slack = scale(figure, "x")
    marks = {}
    for run in figure.findall(".//svg/g"):
        for mark in run.findall("g"):
            whisker, circle = mark.find("line"), mark.find("circle")
            ends = [to_x(float(whisker.get(end))) for end in ("x1", "x2")]
            marks[run.get("class").split()[1], circle.get("class")] = [
                to_x(float(circle.get("cx"))),
                *ends,
            ]
    expected = {
        ("run-0", "before"): before,
        ("run-0", "after"): after,
        ("run-3", "before"): before,
        ("run-3", "after"): after,
    }
    del expected["run-3", missing]
    assert marks.keys() == expected.keys()
    for key, interval in expected.items():
        np.testing.assert_allclose(marks[key], interval, atol=slack)


def test_front_bounds_the_dominated_region():
    ends = {"a": (0.9, 0.3), "b": (0.5, 0.5), "c": (0.3, 0.9), "d": (0.4, 0.4)}
    journeys = [
        Journey(i, name, None, (Interval(x, x, x), Interval(y, y, y)), np.zeros((2, 0)))
        for i, (name, (x, y)) in enumerate(ends.items())
    ]
    figure = ElementTree.fromstring(trade_off.draw("accuracy", "brevity", journeys))
    (to_x, x_slack), (to_y, y_slack) = scale(figure, "x"), scale(figure, "y")
    for name, (x, y) in ends.items():
        circle = figure.findall(".//circle")[list(ends).index(name)]
        assert abs(to_x(float(circle.get("cx"))) - x) < x_slack
        assert abs(to_y(float(circle.get("cy"))) - y) < y_slack
    # From the left edge at the height of c, down at c to b, at b to a, and at a to the bottom.
    path = figure.find(".//path[@class='front']").get("d")
    across = to_x([float(x) for x in re.findall(r"H([\d.]+)", path)])
    heights = to_y([float(y) for y in re.findall(r"V([\d.]+)", path)])
    np.testing.assert_allclose(across, [0.3, 0.5, 0.9], atol=x_slack)
    np.testing.assert_allclose(heights[:-1], [0.5, 0.3], atol=y_slack)


def test_trail_shows_the_smoothed_steps():
    trail = np.stack([np.linspace(0.0, 1.0, 30), np.linspace(1.0, 0.5, 30)])
    figure = ElementTree.fromstring(
        trade_off.draw("accuracy", "brevity", [Journey(0, "a", None, None, trail)])
    )
    (piece,) = points(figure.find(".//path[@class='trail']"))
    (to_x, x_slack), (to_y, y_slack) = scale(figure, "x"), scale(figure, "y")
    np.testing.assert_allclose(to_x(piece[:, 0]), smooth(trail[0]), atol=x_slack)
    np.testing.assert_allclose(to_y(piece[:, 1]), smooth(trail[1]), atol=y_slack)
    assert figure.find(".//path[@class='front']") is None  # no evaluation after training
