"""What an evaluation found, as a table on the screen."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from dvaojax.evaluation.intervals import Interval
from dvaojax.evaluation.measures import Report

_NOTHING = "—"


def table(report: Report, by_category: Mapping[str, Report]) -> Table:
    """All problems, then those of each category: a row for every objective.

    The interval is that of the first measure, avg@n; those of the others are in `summary.json`.
    """
    first, *others = dict.fromkeys(m for of in report.objectives.values() for m in of)
    drawn = Table(box=box.SIMPLE_HEAD, header_style="bold")
    drawn.add_column("problems", no_wrap=True)
    drawn.add_column("objective", no_wrap=True)
    for header in (first, "95 % interval", *others, "not scored"):
        drawn.add_column(header, justify="right", no_wrap=True)
    _add(drawn, f"all {report.num_problems}", report, others)
    for category, some in by_category.items():
        _add(drawn, f"{category or '(no category)'}: {some.num_problems}", some, others)
    return drawn


def table_of_sets(measures: Mapping[str, Interval | None]) -> Table:
    """What completions with several answers came to: a row for every measure."""
    drawn = Table(box=box.SIMPLE_HEAD, header_style="bold")
    drawn.add_column("measure", no_wrap=True)
    for header in ("mean", "95 % interval"):
        drawn.add_column(header, justify="right", no_wrap=True)
    for name, interval in measures.items():
        drawn.add_row(Text(name), *_both(interval, ".3f"))
    return drawn


def _add(drawn: Table, label: str, report: Report, others: Sequence[str]) -> None:
    """The rows of some problems; the label stands before the first."""
    for name, measures in report.objectives.items():
        average = next(iter(measures.values()))
        values = [_mean(measures[m]) if m in measures else "" for m in others]
        missing = report.not_scored[name]
        drawn.add_row(Text(label), Text(name), *_both(average, ".3f"), *values, str(missing or ""))
        label = ""
    drawn.add_row("", "length, tokens", *_both(report.length, ".1f"))
    drawn.add_row("", "cut off", *_both(report.cut_off, ".3f"), end_section=True)


def _mean(interval: Interval | None) -> str:
    return _NOTHING if interval is None else f"{interval.mean:.3f}"


def _both(interval: Interval | None, form: str) -> tuple[str, str]:
    """Mean and interval; dashes where the objective applied to no problem."""
    if interval is None:
        return _NOTHING, _NOTHING
    return format(interval.mean, form), f"{interval.low:{form}} to {interval.high:{form}}"
