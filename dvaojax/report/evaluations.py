"""Sections with evaluations on held-out problems: before, after and later, and trade-offs."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dvaojax.evaluation.intervals import Interval
from dvaojax.report import axes, intervals, trade_off
from dvaojax.report.blocks import Section, figures, folded, gap, gaps, run_name, section, table
from dvaojax.report.contents import LaterEvaluation, RunContents, interval_from_json
from dvaojax.report.intervals import IntervalRow, in_words
from dvaojax.report.markup import Markup, element, join
from dvaojax.report.numbers import NOTHING, number
from dvaojax.report.trade_off import Journey

_MAX_PAIRED = 4  # objectives that are drawn against each other


def before_and_after(runs: Sequence[RunContents]) -> Section:
    """Every objective before and after training, as figures and as a table."""
    title = "Objectives before and after"
    measured = [run for run in runs if run.summary]
    names = dict.fromkeys(n for r in measured for w in ("before", "after") for n in r.evaluated(w))
    if not names:
        return section("evaluation", title, "", gaps(runs, "summary"))
    about = (
        "Mean rewards on held-out problems: hollow before training, filled after. Intervals are "
        "95 % bootstrap intervals over the problems; they do not include the variation between "
        "seeds."
    )
    rows = {name: _rows(runs, name) for name in names}
    return section(
        "evaluation",
        title,
        about,
        figures(_pictures(rows)),
        _table(runs, rows),
        gaps(runs, "summary"),
    )


def trade_offs(runs: Sequence[RunContents], objectives: Sequence[str]) -> Section | None:
    """Pairs of objectives against each other; None if no run has two."""
    shown, pairs = objectives[:_MAX_PAIRED], []
    for x, y in itertools.combinations(shown, 2):
        journeys = [j for i, run in enumerate(runs) if (j := _journey(run, i, x, y)) is not None]
        if journeys:
            pairs.append(trade_off.draw(x, y, journeys))
    if not pairs:
        return None
    about = (
        "Evaluations before (hollow) and after training (filled), with their intervals. The line "
        "shows the smoothed mean rewards of the training steps, on training problems."
    )
    if sum(run.summary.get("after") is not None for run in runs) > 1:
        about += (
            " Dashed: the Pareto front of the evaluations after training; points below and left of "
            "it are dominated."
        )
    text = f"Of {len(objectives)} objectives, the first {_MAX_PAIRED} are drawn."
    note = gap(text) if len(objectives) > _MAX_PAIRED else None
    return section("trade-off", "Objectives against each other", about, figures(pairs), note)


def later(runs: Sequence[RunContents]) -> Section | None:
    """Evaluations of checkpoints by `dvaojax evaluate`; None if there are none."""
    blocks = [
        _later(evaluation, run_name(index, run) if len(runs) > 1 else None)
        for index, run in enumerate(runs)
        for evaluation in run.later
    ]
    broken = gaps(runs, "later")
    if not blocks and not broken:
        return None
    about = "Results of dvaojax evaluate, with 95 % bootstrap intervals over the problems."
    return section("later", "Later evaluations", about, *blocks, broken)


def _rows(runs: Sequence[RunContents], name: str) -> list[IntervalRow]:
    """The evaluations of one objective, for the runs with a summary."""
    return [
        IntervalRow(
            index, run.name, run.evaluated("before").get(name), run.evaluated("after").get(name)
        )
        for index, run in enumerate(runs)
        if run.summary
    ]


def _pictures(rows: Mapping[str, Sequence[IntervalRow]]) -> list[Markup]:
    """A figure for each objective; those with the same unit share limits if possible."""
    measured = {
        name: [row for row in listed if row.before is not None or row.after is not None]
        for name, listed in rows.items()
    }
    limits = {name: intervals.limits(listed) for name, listed in measured.items() if listed}
    for unit in {_unit(name) for name in limits}:
        names = [name for name in limits if _unit(name) == unit]
        limits |= zip(names, axes.shared([limits[name] for name in names]), strict=True)
    return [intervals.draw(name, _unit(name), measured[name], limits[name]) for name in limits]


def _table(runs: Sequence[RunContents], rows: Mapping[str, Sequence[IntervalRow]]) -> Markup:
    """The evaluations as a table; a column names the run if there are several."""
    several = len(runs) > 1
    run = [element("span", "run", class_="left")] if several else []
    cells = [
        [
            name if i == 0 else element("span", name, class_="unseen"),
            *([run_name(row.run, runs[row.run])] if several else []),
            *_cells(row),
        ]
        for name, listed in rows.items()
        for i, row in enumerate(listed)
    ]
    head = ["objective", *run, "before", "after", "change of the mean"]
    return table(head, cells, name="objectives before and after")


def _unit(name: str) -> str:
    if name == "length":
        return "tokens"
    return "mean distance" if name == "diversity" else "mean reward"


def _cells(row: IntervalRow) -> list[str]:
    before, after = row.before, row.after
    change = NOTHING if before is None or after is None else f"{after.mean - before.mean:+.3f}"
    return [in_words(before), in_words(after), change]


def _journey(run: RunContents, index: int, x: str, y: str) -> Journey | None:
    """The run in the plane of two objectives; None if it did not measure both."""
    in_x, in_y = (run.column(f"reward/{name}") for name in (x, y))
    trail = np.zeros((2, 0)) if in_x is None or in_y is None else np.stack([in_x, in_y])
    before, after = (_point(run.evaluated(when), x, y) for when in ("before", "after"))
    journey = Journey(index, run.name, before, after, trail)
    return journey if trail.size or before or after else None


def _point(
    means: Mapping[str, Interval | None], x: str, y: str
) -> tuple[Interval, Interval] | None:
    """An evaluation in the plane of two objectives; None if one was not measured."""
    in_x, in_y = means.get(x), means.get(y)
    return None if in_x is None or in_y is None else (in_x, in_y)


def _later(evaluation: LaterEvaluation, run: Markup | None) -> Markup:
    heading = element("h3", run, " " if run else None, evaluation.name)
    summary = evaluation.summary
    if not summary:
        return join([heading, gap("Not finished: there is no summary yet.")])
    parts = [heading, element("p", _setting(evaluation)), _measures(summary, evaluation.name)]
    for category, results in (summary.get("categories") or {}).items():
        title = f"{category or '(no category)'}: {results['problems']} problems"
        parts.append(folded(title, _measures(results, category)))
    answer_sets = summary.get("answer_sets") or {}
    if answer_sets:
        rows = [[name, in_words(interval_from_json(mean))] for name, mean in answer_sets.items()]
        parts.append(table(["all answers of a problem", "mean"], rows, name="sets of answers"))
    return join(parts)


def _setting(evaluation: LaterEvaluation) -> str:
    """The checkpoint and the settings of an evaluation."""
    settings, summary = evaluation.settings, evaluation.summary
    policy = settings.get("policy") or {}
    sampling = (settings.get("evaluation") or {}).get("sampling") or {}
    return (
        f"Checkpoint of step {policy.get('step', NOTHING)}; {summary.get('problems')} "
        f"problems, {summary.get('samples')} completions each at temperature "
        f"{number(sampling.get('temperature'))}, top-p {number(sampling.get('top_p'))}; passed "
        f"with a reward of at least {number(summary.get('pass_threshold'))}."
    )


def _measures(report: Mapping[str, Any], name: str) -> Markup:
    """One row per objective, then the length and the share cut off."""
    objectives: Mapping[str, Mapping[str, Any]] = report["objectives"]
    measures = list(dict.fromkeys(m for values in objectives.values() for m in values))
    rows = [
        [
            objective,
            *(in_words(interval_from_json(values[m])) if m in values else "" for m in measures),
            str(report["not_scored"][objective] or ""),
        ]
        for objective, values in objectives.items()
    ]
    for key, title in (("length", "length, tokens"), ("cut_off", "share cut off")):
        rows.append([title, in_words(interval_from_json(report[key])), *[""] * len(measures)])
    return table(["objective", *measures, "not scored"], rows, name=f"evaluation {name}")
