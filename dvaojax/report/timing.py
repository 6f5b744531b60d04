"""Section with the time of each part of a step."""

from collections.abc import Sequence

import numpy as np

from dvaojax.report.blocks import Section, gaps, run_name, section, table
from dvaojax.report.contents import RunContents
from dvaojax.report.markup import Markup, join
from dvaojax.report.numbers import NOTHING, duration, number

_PARTS = (
    ("rollout_seconds", "rollout"),
    ("reward_seconds", "scoring"),
    ("train_seconds", "update"),
)


def timing(runs: Sequence[RunContents]) -> Section:
    """Medians over the steps, and the total time."""
    timed = [(index, run) for index, run in enumerate(runs) if run.history is not None]
    if not timed:
        return section("timing", "Timing", "", gaps(runs, "history"))
    about = (
        "Medians over the steps, without the first, which compiles. Time per step is the wall time "
        "since the end of the previous step. Rollout and update are times of the devices, scoring "
        "that of the host; with pipeline_depth=1 they overlap. The total includes warm start, "
        "evaluations and figures."
    )
    head = ["run", "step", *(title for _, title in _PARTS), "tokens / s", "tokens", "total"]
    rows = [
        [
            run_name(index, run),
            duration(_median(_step_seconds(run))),
            *(_part(run, column) for column, _ in _PARTS),
            number(_median(run.column("tokens_per_second"))),
            number(_total(run.column("sampled_tokens"))),
            duration(run.summary.get("wall_seconds")),
        ]
        for index, run in timed
    ]
    blocks = (table(head, rows, name="timing"), gaps(runs, "history"))
    return section("timing", "Timing", about, *blocks)


def _step_seconds(run: RunContents) -> np.ndarray | None:
    """`[S]` the wall time of each step, from the recorded tokens per second."""
    tokens, speed = run.column("sampled_tokens"), run.column("tokens_per_second")
    if tokens is None or speed is None:
        return None
    return np.divide(tokens, speed, out=np.full_like(tokens, np.nan), where=speed > 0)


def _part(run: RunContents, column: str) -> str | Markup:
    """The median of a part, and its share of the step."""
    part, step = _median(run.column(column)), _median(_step_seconds(run))
    if part is None:
        return NOTHING
    return join([duration(part), f" ({part / step:.0%})" if step else None])


def _median(values: np.ndarray | None) -> float | None:
    """The median without the first step, unless there is no other."""
    if values is None:
        return None
    later = values[1:][np.isfinite(values[1:])]
    finite = later if later.size else values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else None


def _total(values: np.ndarray | None) -> float | None:
    return None if values is None else float(np.nansum(values))
