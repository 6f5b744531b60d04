"""All that was measured of every step: a picture a metric, one line for what stood still."""

import fnmatch
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dvaojax.report import axes, curves
from dvaojax.report.blocks import Section, figures, gaps, section
from dvaojax.report.contents import Contents
from dvaojax.report.curves import Chart, Curve
from dvaojax.report.markup import Markup, element
from dvaojax.report.numbers import number


class _Group(NamedTuple):
    """Metrics that are looked at together.

    Attributes:
        name: of the section, in links.
        title: its heading.
        about: what is to be seen, and how it is meant.
        metrics: (pattern of names in `metrics.jsonl`, unit), in order.
    """

    name: str
    title: str
    about: str
    metrics: tuple[tuple[str, str], ...]


_GROUPS = (
    _Group(
        "objectives",
        "Objectives over the steps",
        "Mean reward of the completions of each training step, as the reward function returns it. "
        "Here and below the thin line is every step, the bold one a moving average over about a "
        "tenth of the run's own steps.",
        (
            ("reward/*", "mean reward"),
            ("best/*", "best of the answers"),
            ("weighted_reward", "sum"),
        ),
    ),
    _Group(
        "weights",
        "Effective weights",
        "The weight that the method gave each objective in effect, mean over the groups of a step.",
        (("effective_weight/*", "effective weight"),),
    ),
    _Group(
        "agreement",
        "Agreement, and what groups teach",
        "Agreement is the deviation of the weighted sum over the weighted sum of the deviations: 1 "
        "where all objectives of a group rise and fall together, 0 where they cancel. In a silent "
        "group all completions score the same, and nothing is learned from it. Spread is the mean "
        "deviation within a group.",
        (
            ("agreement", "combined / separate spread"),
            ("silent_groups", "share of groups"),
            ("advantage_mean_square", "mean square"),
            ("spread/*", "spread, in reward units"),
        ),
    ),
    _Group(
        "shadows",
        "Other methods on the same rewards",
        "Methods that were evaluated beside the one in use and had no bearing on the run: how "
        "alike their advantages are to those in use, and the weights of their best linear fit.",
        (
            ("shadow/*/cosine", "cosine"),
            ("shadow/*/sign_agreement", "share of equal signs"),
            ("shadow/*/mean_square", "mean square"),
            ("shadow/*", "effective weight"),
        ),
    ),
    _Group(
        "completions",
        "Completions",
        "",
        (
            ("completion_length", "tokens"),
            ("truncated", "share cut off"),
            ("entropy", "nats a token"),
            ("answers", "answers a completion"),
            ("diversity", "distance between rewards"),
        ),
    ),
    _Group(
        "learning",
        "Learning",
        "",
        (
            ("loss", "per count of its reduction"),
            ("grad_norm", "before clipping"),
            ("approximate_kl", "nats a token"),
            ("kl", "to the reference, nats a token"),
            ("ratio", "mean"),
            ("clip_fraction", "share of tokens"),
            ("importance_*", ""),
            ("skipped_*", "updates"),
        ),
    ),
    _Group(
        "speed",
        "Speed over the steps",
        "",
        (
            ("tokens_per_second", "sampled tokens / s"),
            ("mfu", "share of the peak"),
            ("*_seconds", "s"),
            ("sampled_tokens", "tokens"),
            ("refill*", "count"),
        ),
    ),
    _Group("others", "Everything else that was measured", "", (("*", ""),)),
)

# Drawn even where it stood still.
_ALWAYS = ("reward/*", "effective_weight/*", "agreement")


class Measured(NamedTuple):
    """The sections of all metrics.

    Attributes:
        sections: in order.
        charts: what the script reads of each picture, by its number.
    """

    sections: Sequence[Section]
    charts: Sequence[Any]


def measured(runs: Sequence[Contents]) -> Measured:
    """Every metric of every run, each in the first group that knows its name."""
    seen = [run.history for run in runs if run.history is not None]
    if not seen:
        empty = section("objectives", "Curves", "", gaps(runs, "history"))
        return Measured([empty], [])
    left = dict.fromkeys(name for history in seen for name in history.columns)
    steps = int(min(h.steps[0] for h in seen)), int(max(h.steps[-1] for h in seen))
    sections: list[Section] = []
    charts: list[Any] = []
    for group in _GROUPS:
        drawn, constant = [], []
        for pattern, unit in group.metrics:
            names = fnmatch.filter(left, pattern)
            moving, still = _told_apart(runs, names, unit)
            constant += still
            for chart in moving if pattern == "*" else _comparable(moving):
                figure = curves.draw(chart, len(charts), steps)
                drawn.append(figure.markup)
                charts.append(figure.data)
            for name in names:
                del left[name]
        if drawn or constant:
            blocks = (figures(drawn) if drawn else None, _still(constant))
            notes = gaps(runs, "history") if group.name == "objectives" else None
            sections.append(section(group.name, group.title, group.about, *blocks, notes))
    return Measured(sections, charts)


def _told_apart(
    runs: Sequence[Contents], names: Sequence[str], unit: str
) -> tuple[list[Chart], list[str]]:
    """The metrics that moved, and in words those that stood still."""
    moving, still = [], []
    for name in names:
        of_runs = [
            Curve(place, run.name, run.history.steps, values)
            for place, run in enumerate(runs)
            if run.history is not None and (values := run.column(name)) is not None
        ]
        if not of_runs:
            still.append(f"{name} (never measured)")
        elif (value := _constant(of_runs)) is not None and not _is_drawn_always(name):
            still.append(f"{name} {number(value)}")
        else:
            limits = axes.limits([curve.values for curve in of_runs])
            moving.append(Chart(_title(name), unit, of_runs, limits))
    return moving, still


def _comparable(charts: Sequence[Chart]) -> list[Chart]:
    """With one axis for all of them, where they can share it."""
    if not charts:
        return []
    limits = axes.shared([chart.limits for chart in charts])
    return [chart._replace(limits=ends) for chart, ends in zip(charts, limits, strict=True)]


def _still(constant: Sequence[str]) -> Markup | None:
    if not constant:
        return None
    return element("p", f"The same in every step: {', '.join(constant)}.", class_="still")


def _constant(of_runs: Sequence[Curve]) -> float | None:
    """The one value that all runs had in all steps; None where there were several."""
    every = np.concatenate([curve.values for curve in of_runs])
    every = every[np.isfinite(every)]
    return float(every[0]) if (every == every[0]).all() else None


def _is_drawn_always(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _ALWAYS)


def _title(name: str) -> str:
    """Of whom the metric is, where it is beside the title what of it: `accuracy`, `gdpo`."""
    prefix, _, rest = name.partition("/")
    if prefix == "shadow":
        shadow, _, what = rest.partition("/")
        weighted = what.partition("/")[2]  # the objective of an effective weight
        return f"{shadow} · {weighted}" if weighted else shadow
    if prefix in ("reward", "best", "effective_weight", "spread"):
        return rest
    return name.replace("_", " ")
