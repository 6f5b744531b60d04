"""What held-out problems say: before and after training, objectives against each other, later."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dvaojax.evaluation.intervals import Interval
from dvaojax.report import axes, intervals, trade_off
from dvaojax.report.blocks import Section, figures, folded, gap, gaps, run_name, section, table
from dvaojax.report.contents import Contents, Later, interval
from dvaojax.report.intervals import Row, in_words
from dvaojax.report.markup import Markup, element, join
from dvaojax.report.numbers import NOTHING, number
from dvaojax.report.trade_off import Journey

_PAIRED = 4  # objectives at most that are drawn against each other


def before_and_after(runs: Sequence[Contents]) -> Section:
    """Every objective before and after training, as pictures and as a table."""
    title = "Objectives before and after"
    measured = [run for run in runs if run.summary]
    names = dict.fromkeys(n for r in measured for w in ("before", "after") for n in r.evaluated(w))
    if not names:
        return section("evaluation", title, "", gaps(runs, "summary"))
    about = (
        "Mean rewards on held-out problems; hollow before training, filled after. Intervals are "
        "95 % bootstrap intervals over the problems: what other problems would change, not what "
        "another seed would."
    )
    of_names = {name: _rows(runs, name) for name in names}
    return section(
        "evaluation",
        title,
        about,
        figures(_pictures(of_names)),
        _table(runs, of_names),
        gaps(runs, "summary"),
    )


def trade_offs(runs: Sequence[Contents], objectives: Sequence[str]) -> Section | None:
    """Pairs of objectives against each other; None where no run has two."""
    shown, pairs = objectives[:_PAIRED], []
    for x, y in itertools.combinations(shown, 2):
        journeys = [j for p, run in enumerate(runs) if (j := _journey(run, p, x, y)) is not None]
        if journeys:
            pairs.append(trade_off.draw(x, y, journeys))
    if not pairs:
        return None
    about = (
        "From the evaluation before training (hollow) to the one after it (filled), each with its "
        "intervals; the line between them follows the mean rewards of the steps, smoothed, which "
        "are those of training problems."
    )
    if sum(run.summary.get("after") is not None for run in runs) > 1:
        about += (
            " Dashed: the Pareto front of the two, below and left of which everything is dominated."
        )
    some = f"Of {len(objectives)} objectives the first {_PAIRED} are drawn."
    note = gap(some) if len(objectives) > _PAIRED else None
    return section("trade-off", "Objectives against each other", about, figures(pairs), note)


def later(runs: Sequence[Contents]) -> Section | None:
    """The evaluations of checkpoints; None where there is none."""
    blocks = [
        _later(found, run_name(place, run) if len(runs) > 1 else None)
        for place, run in enumerate(runs)
        for found in run.later
    ]
    broken = gaps(runs, "later")
    if not blocks and not broken:
        return None
    about = "What dvaojax evaluate measured, with 95 % bootstrap intervals over the problems."
    return section("later", "Later evaluations", about, *blocks, broken)


def _rows(runs: Sequence[Contents], name: str) -> list[Row]:
    """The evaluations of one objective, of the runs that have any."""
    return [
        Row(place, run.name, run.evaluated("before").get(name), run.evaluated("after").get(name))
        for place, run in enumerate(runs)
        if run.summary
    ]


def _pictures(of_names: Mapping[str, Sequence[Row]]) -> list[Markup]:
    """A picture of each; those in the same unit share their axis where they can."""
    known = {
        name: [row for row in rows if row.before is not None or row.after is not None]
        for name, rows in of_names.items()
    }
    limits = {name: intervals.limits(rows) for name, rows in known.items() if rows}
    for unit in {_unit(name) for name in limits}:
        alike = [name for name in limits if _unit(name) == unit]
        limits |= zip(alike, axes.shared([limits[name] for name in alike]), strict=True)
    return [intervals.draw(name, _unit(name), known[name], limits[name]) for name in limits]


def _table(runs: Sequence[Contents], of_names: Mapping[str, Sequence[Row]]) -> Markup:
    """The same in numbers; a run alone is not named in every row."""
    several = len(runs) > 1
    run = [element("span", "run", class_="left")] if several else []
    rows = [
        [
            name if i == 0 else element("span", name, class_="unseen"),
            *([run_name(row.run, runs[row.run])] if several else []),
            *_cells(row),
        ]
        for name, of_runs in of_names.items()
        for i, row in enumerate(of_runs)
    ]
    head = ["objective", *run, "before", "after", "change of the mean"]
    return table(head, rows, name="objectives before and after")


def _unit(name: str) -> str:
    if name == "length":
        return "tokens"
    return "mean distance" if name == "diversity" else "mean reward"


def _cells(row: Row) -> list[str]:
    before, after = row.before, row.after
    change = NOTHING if before is None or after is None else f"{after.mean - before.mean:+.3f}"
    return [in_words(before), in_words(after), change]


def _journey(run: Contents, place: int, x: str, y: str) -> Journey | None:
    """The run in the plane of two objectives; None if it measured nothing there."""
    in_x, in_y = (run.column(f"reward/{name}") for name in (x, y))
    trail = np.zeros((2, 0)) if in_x is None or in_y is None else np.stack([in_x, in_y])
    before, after = (_place(run.evaluated(when), x, y) for when in ("before", "after"))
    journey = Journey(place, run.name, before, after, trail)
    return journey if trail.size or before or after else None


def _place(
    found: Mapping[str, Interval | None], x: str, y: str
) -> tuple[Interval, Interval] | None:
    """An evaluation's point in the plane of two objectives; None where one was not measured."""
    in_x, in_y = found.get(x), found.get(y)
    return None if in_x is None or in_y is None else (in_x, in_y)


def _later(found: Later, run: Markup | None) -> Markup:
    heading = element("h3", run, " " if run else None, found.name)
    if not found.summary:
        return join([heading, gap("It is not finished: it has no summary yet.")])
    parts = [heading, element("p", _setting(found)), _measures(found.summary, found.name)]
    for category, some in (found.summary.get("categories") or {}).items():
        title = f"{category or '(no category)'}: {some['problems']} problems"
        parts.append(folded(title, _measures(some, category)))
    of_sets = found.summary.get("answer_sets") or {}
    if of_sets:
        rows = [[name, in_words(interval(mean))] for name, mean in of_sets.items()]
        parts.append(table(["all answers of a problem", "mean"], rows, name="sets of answers"))
    return join(parts)


def _setting(found: Later) -> str:
    """What was evaluated, and how."""
    policy, drawn = found.settings.get("policy") or {}, found.settings.get("evaluation") or {}
    sampling = drawn.get("sampling") or {}
    return (
        f"Checkpoint of step {policy.get('step', NOTHING)}; {found.summary.get('problems')} "
        f"problems, {found.summary.get('samples')} completions each at temperature "
        f"{number(sampling.get('temperature'))}, top-p {number(sampling.get('top_p'))}; a reward "
        f"of at least {number(found.summary.get('pass_threshold'))} passes."
    )


def _measures(report: Mapping[str, Any], name: str) -> Markup:
    """A row for every objective, then length and what was cut off."""
    objectives: Mapping[str, Mapping[str, Any]] = report["objectives"]
    measures = list(dict.fromkeys(m for of in objectives.values() for m in of))
    rows = [
        [
            objective,
            *(in_words(interval(of[m])) if m in of else "" for m in measures),
            str(report["not_scored"][objective] or ""),
        ]
        for objective, of in objectives.items()
    ]
    for key, title in (("length", "length, tokens"), ("cut_off", "share cut off")):
        rows.append([title, in_words(interval(report[key])), *[""] * len(measures)])
    return table(["objective", *measures, "not scored"], rows, name=f"evaluation {name}")
