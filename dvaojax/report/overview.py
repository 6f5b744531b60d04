"""First section: one row per run with its method, progress and results."""

from collections.abc import Sequence

from dvaojax.report.blocks import Section, run_name, section, table
from dvaojax.report.contents import RunContents
from dvaojax.report.intervals import in_words
from dvaojax.report.numbers import NOTHING, duration, number


def overview(runs: Sequence[RunContents], objectives: Sequence[str]) -> Section:
    """A table with one row per run.

    Args:
        runs: of the report.
        objectives: of all runs, in order.
    """
    head = ["run", "method", "seed", "steps", *objectives, "wall time"]
    rows = [
        [
            run_name(index, run),
            method(run),
            str(run.config.get("seed", NOTHING)),
            state(run),
            *(_reached(run, name) for name in objectives),
            duration(run.summary.get("wall_seconds")),
        ]
        for index, run in enumerate(runs)
    ]
    about = (
        "Objectives are mean rewards on held-out problems after training, with 95 % intervals; "
        "for unfinished runs, the mean of the latest step (marked ~)."
    )
    return section(
        "overview", "At a glance", about, table(head, rows, kind="words", name="the runs")
    )


def method(run: RunContents) -> str:
    """The aggregator with its knobs and the loss: `rvpo (sharpness=2.0) · gspo`."""
    aggregator, loss = run.config.get("aggregator") or {}, run.config.get("loss") or {}
    options = aggregator.get("options") or []
    knobs = f" ({', '.join(map(str, options))})" if options else ""
    name = loss.get("name")
    return f"{aggregator.get('name', NOTHING)}{knobs}" + (f" · {name}" if name else "")


def state(run: RunContents) -> str:
    """Progress of a run: `120`, or `40 of 120, unfinished`."""
    num_steps = run.config.get("num_steps", NOTHING)
    return str(run.steps_done) if run.summary else f"{run.steps_done} of {num_steps}, unfinished"


def _reached(run: RunContents, objective: str) -> str:
    means = run.evaluated("after")
    if objective in means:
        return in_words(means[objective])
    values = run.column(f"reward/{objective}")
    return NOTHING if values is None else f"~ {number(float(values[-1]))}"
