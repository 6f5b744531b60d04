"""Results of an evaluation as tables for the terminal."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from dvaojax.errors import printable
from dvaojax.evaluation.intervals import Interval
from dvaojax.evaluation.measures import Report

_NOTHING = "—"


def objective_table(report: Report, by_category: Mapping[str, Report]) -> Table:
    """One row per objective, first over all problems, then for each category.

    The interval is that of the first measure, avg@n; those of the others are in `summary.json`.
    """
    measures = [measure for values in report.objectives.values() for measure in values]
    first, *others = dict.fromkeys(measures)
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column("problems", no_wrap=True)
    table.add_column("objective", no_wrap=True)
    for header in (first, "95 % interval", *others, "not scored"):
        table.add_column(header, justify="right", no_wrap=True)
    _add_rows(table, f"all {report.num_problems}", report, others)
    for name, category in by_category.items():
        label = f"{name or '(no category)'}: {category.num_problems}"
        _add_rows(table, label, category, others)
    return table


def answer_set_table(measures: Mapping[str, Interval | None]) -> Table:
    """One row per measure of completions with several answers."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column("measure", no_wrap=True)
    for header in ("mean", "95 % interval"):
        table.add_column(header, justify="right", no_wrap=True)
    for name, interval in measures.items():
        table.add_row(Text(printable(name)), *_mean_and_interval(interval, ".3f"))
    return table


def _add_rows(table: Table, label: str, report: Report, others: Sequence[str]) -> None:
    """The rows of some problems; only the first row shows the label."""
    for name, measures in report.objectives.items():
        average = _mean_and_interval(next(iter(measures.values())), ".3f")
        values = [_mean(measures[m]) if m in measures else "" for m in others]
        missing = report.not_scored[name]
        table.add_row(
            Text(printable(label)), Text(printable(name)), *average, *values, str(missing or "")
        )
        label = ""
    table.add_row("", "length, tokens", *_mean_and_interval(report.length, ".1f"))
    table.add_row("", "cut off", *_mean_and_interval(report.cut_off, ".3f"), end_section=True)


def _mean(interval: Interval | None) -> str:
    return _NOTHING if interval is None else f"{interval.mean:.3f}"


def _mean_and_interval(interval: Interval | None, form: str) -> tuple[str, str]:
    """Two cells; dashes if the objective applied to no problem."""
    if interval is None:
        return _NOTHING, _NOTHING
    return format(interval.mean, form), f"{interval.low:{form}} to {interval.high:{form}}"
