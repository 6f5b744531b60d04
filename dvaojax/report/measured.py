"""Sections with all metrics: one figure per metric, and a line for those that are constant."""

import fnmatch
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dvaojax.report import axes, curves
from dvaojax.report.blocks import Section, figures, gaps, section
from dvaojax.report.contents import RunContents
from dvaojax.report.curves import Chart, Curve
from dvaojax.report.markup import Markup, element
from dvaojax.report.numbers import number


class _Group(NamedTuple):
    """Metrics that are shown together.

    Attributes:
        name: of the section, in links.
        title: its heading.
        about: an explanation.
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
        "Mean reward of the completions of each training step, as returned by the reward function. "
        "Here and below, thin lines show every step, and bold lines a moving average over about a "
        "tenth of the run's steps.",
        (
            ("reward/*", "mean reward"),
            ("best/*", "best of the answers"),
            ("weighted_reward", "sum"),
        ),
    ),
    _Group(
        "held-out",
        "Held-out problems during training",
        "Means on held-out problems after some of the steps, always with the same random keys.",
        (("evaluation/*", "mean"),),
    ),
    _Group(
        "weights",
        "Effective weights",
        "The effective weight that the method gave each objective, mean over the groups of a step.",
        (("effective_weight/*", "effective weight"),),
    ),
    _Group(
        "agreement",
        "Agreement and zero-variance groups",
        "Agreement is the standard deviation of the weighted sum of the rewards, divided by the "
        "weighted sum of their standard deviations: 1 if all objectives of a group rise and fall "
        "together, 0 if they cancel. In a zero-variance group all completions have equal rewards, "
        "and there is no learning signal. Spread is the mean standard deviation within a group.",
        (
            ("agreement", "combined / separate spread"),
            ("zero_variance_groups", "share of groups"),
            ("advantage_mean_square", "mean square"),
            ("spread/*", "spread, in reward units"),
        ),
    ),
    _Group(
        "shadows",
        "Other methods on the same rewards",
        "Methods that were computed for comparison only, without effect on the run: the similarity "
        "of their advantages to those of the method in use, and the weights of their best linear "
        "fit.",
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
            ("entropy", "nats per token"),
            ("answers", "answers per completion"),
            ("diversity", "distance between rewards"),
        ),
    ),
    _Group(
        "learning",
        "Learning",
        "",
        (
            ("loss", "mean"),
            ("grad_norm", "before clipping"),
            ("approximate_kl", "nats per token"),
            ("kl", "to the reference, nats per token"),
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
    _Group("others", "Other metrics", "", (("*", ""),)),
)

# Drawn even if constant.
_ALWAYS = ("reward/*", "effective_weight/*", "agreement")


class MetricSections(NamedTuple):
    """The sections of all metrics.

    Attributes:
        sections: in order.
        charts: data of each chart for the script, by the chart's index.
    """

    sections: Sequence[Section]
    charts: Sequence[Any]


def measured(runs: Sequence[RunContents]) -> MetricSections:
    """All metrics of all runs, each in the first group with a matching pattern."""
    histories = [run.history for run in runs if run.history is not None]
    if not histories:
        empty = section("objectives", "Curves", "", gaps(runs, "history"))
        return MetricSections([empty], [])
    remaining = dict.fromkeys(name for history in histories for name in history.columns)
    steps = int(min(h.steps[0] for h in histories)), int(max(h.steps[-1] for h in histories))
    sections: list[Section] = []
    charts: list[Any] = []
    for group in _GROUPS:
        drawn, constant = [], []
        for pattern, unit in group.metrics:
            names = fnmatch.filter(remaining, pattern)
            varying, notes = _charts(runs, names, unit)
            constant += notes
            for chart in varying if pattern == "*" else _with_shared_limits(varying):
                figure = curves.draw(chart, len(charts), steps)
                drawn.append(figure.markup)
                charts.append(figure.data)
            for name in names:
                del remaining[name]
        if drawn or constant:
            blocks = (figures(drawn) if drawn else None, _constant_metrics(constant))
            missing = gaps(runs, "history") if group.name == "objectives" else None
            sections.append(section(group.name, group.title, group.about, *blocks, missing))
    return MetricSections(sections, charts)


def _charts(
    runs: Sequence[RunContents], names: Sequence[str], unit: str
) -> tuple[list[Chart], list[str]]:
    """Charts of the metrics that vary, and notes on those that are constant."""
    varying, constant = [], []
    for name in names:
        run_curves = [
            Curve(index, run.name, *run.history.measured(name))
            for index, run in enumerate(runs)
            if run.history is not None and run.column(name) is not None
        ]
        if not run_curves:
            constant.append(f"{name} (not measured)")
        elif (value := _constant(run_curves)) is not None and not _is_drawn_always(name):
            constant.append(f"{name} {number(value)}")
        else:
            limits = axes.limits([curve.values for curve in run_curves])
            varying.append(Chart(_title(name), unit, run_curves, limits))
    return varying, constant


def _with_shared_limits(charts: Sequence[Chart]) -> list[Chart]:
    """The charts with common limits if possible."""
    if not charts:
        return []
    limits = axes.shared([chart.limits for chart in charts])
    return [chart._replace(limits=ends) for chart, ends in zip(charts, limits, strict=True)]


def _constant_metrics(constant: Sequence[str]) -> Markup | None:
    if not constant:
        return None
    return element("p", f"Constant: {', '.join(constant)}.", class_="constant")


def _constant(run_curves: Sequence[Curve]) -> float | None:
    """The value that all runs had in all steps; None if there are several."""
    every = np.concatenate([curve.values for curve in run_curves])
    every = every[np.isfinite(every)]
    return float(every[0]) if (every == every[0]).all() else None


def _is_drawn_always(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _ALWAYS)


def _title(name: str) -> str:
    """The name without the prefix that the heading or the unit repeats: `accuracy`, `gdpo`."""
    prefix, _, rest = name.partition("/")
    if prefix == "shadow":
        shadow, _, quantity = rest.partition("/")
        objective = quantity.partition("/")[2]  # of an effective weight
        return f"{shadow} · {objective}" if objective else shadow
    if prefix in ("reward", "best", "effective_weight", "evaluation", "spread"):
        return rest
    return name.replace("_", " ")
