"""The first thing on the page: which runs, how far they are, and what they came to."""

from collections.abc import Sequence

from dvaojax.report.blocks import Section, run_name, section, table
from dvaojax.report.contents import Contents
from dvaojax.report.intervals import in_words
from dvaojax.report.numbers import NOTHING, duration, number


def overview(runs: Sequence[Contents], objectives: Sequence[str]) -> Section:
    """Every run in one row.

    Args:
        runs: of the report.
        objectives: of all of them, in order.
    """
    head = ["run", "method", "seed", "steps", *objectives, "wall time"]
    rows = [
        [
            run_name(place, run),
            method(run),
            str(run.config.get("seed", NOTHING)),
            state(run),
            *(_reached(run, name) for name in objectives),
            duration(run.summary.get("wall_seconds")),
        ]
        for place, run in enumerate(runs)
    ]
    about = (
        "Objectives are mean rewards on held-out problems after training, with 95 % intervals; "
        "of a run that has not come to its end, the latest step's mean (marked ~)."
    )
    return section(
        "overview", "At a glance", about, table(head, rows, kind="words", name="the runs")
    )


def method(run: Contents) -> str:
    """The aggregator with its knobs and the loss: `rvpo (sharpness=2.0) · gspo`."""
    options = run.config.get("aggregator_options") or []
    said = f" ({', '.join(map(str, options))})" if options else ""
    loss = run.config.get("loss")
    name = loss.get("name") if isinstance(loss, dict) else None
    return f"{run.config.get('aggregator', NOTHING)}{said}" + (f" · {name}" if name else "")


def state(run: Contents) -> str:
    """How far it is: `120`, or `40 of 120, no end yet`."""
    asked = run.config.get("num_steps", NOTHING)
    return str(run.steps_done) if run.summary else f"{run.steps_done} of {asked}, no end yet"


def _reached(run: Contents, objective: str) -> str:
    found = run.evaluated("after")
    if objective in found:
        return in_words(found[objective])
    values = run.column(f"reward/{objective}")
    return NOTHING if values is None else f"~ {number(float(values[-1]))}"
