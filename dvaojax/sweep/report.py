"""The tables of a sweep, in Markdown."""

from collections.abc import Sequence

from dvaojax.evaluation.intervals import Interval
from dvaojax.sweep.grid import Sweep
from dvaojax.sweep.statistics import Findings


def report(sweep: Sweep, results: Findings) -> str:
    """The whole report: expectations, a summary of the hypervolumes, and a table a situation."""
    parts = [f"# {sweep.name}", _explanation(sweep), summary(sweep, results)]
    for situation in sweep.situations:
        expected = sweep.expected.get(situation)
        parts += [
            f"## {situation}",
            *([f"Expected: {expected}"] if expected else []),
            situation_table(sweep, results, situation),
        ]
    return "\n\n".join(parts) + "\n"


def summary(sweep: Sweep, results: Findings) -> str:
    """Methods by situations: mean hypervolume in hundredths, and the verdict."""
    rows = [
        [
            f"`{method}`",
            *(_summary_entry(results, situation, method) for situation in sweep.situations),
        ]
        for method in sweep.methods
    ]
    return _table(["method", *sweep.situations], rows)


def situation_table(sweep: Sweep, results: Findings, situation: str) -> str:
    """One row per method: hypervolume, gain and means with their intervals, in hundredths."""
    against = f"over `{sweep.against}`"
    head = ["method", "seeds", "hypervolume", against, "adjusted p", *sweep.objectives]
    rows = []
    for method in sweep.methods_in(situation):
        if (situation, method) in results:
            finding = results[situation, method]
            gain = "" if finding.gain is None else _interval(finding.gain, "+.1f")
            means = map(_interval, finding.means)
            volume = _interval(finding.volume)
            p = "" if finding.gain is None else f"{finding.p_value:.2g}"
            rows.append([f"`{method}`", str(finding.seeds), volume, gain, p, *means])
    return _table(head, rows)


def _explanation(sweep: Sweep) -> str:
    return (
        f"Hypervolumes of the fronts over {len(sweep.trade_offs)} trade-offs and means over them, "
        "in hundredths, with 95 % bootstrap intervals over the seeds. `+` and `-`: the difference "
        f"to `{sweep.against}`, seed by seed, is significant at 5 % by Student's t, corrected for "
        "all comparisons of the sweep by Holm's method."
    )


def _summary_entry(results: Findings, situation: str, method: str) -> str:
    if (situation, method) not in results:
        return ""
    finding = results[situation, method]
    return f"{100 * finding.volume.mean:.1f} {finding.verdict}".strip()


def _interval(interval: Interval, form: str = ".1f") -> str:
    mean, low, high = (100 * number for number in interval)
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("  ", " ") for line in lines)
