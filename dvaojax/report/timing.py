"""Where the time of a run went."""

from collections.abc import Sequence

import numpy as np

from dvaojax.report.blocks import Section, gaps, run_name, section, table
from dvaojax.report.contents import Contents
from dvaojax.report.markup import Markup, join
from dvaojax.report.numbers import NOTHING, duration, number

_PARTS = (
    ("rollout_seconds", "rollout"),
    ("reward_seconds", "scoring"),
    ("train_seconds", "update"),
)


def timing(runs: Sequence[Contents]) -> Section:
    """Medians over the steps, and what the whole took."""
    timed = [(place, run) for place, run in enumerate(runs) if run.history is not None]
    if not timed:
        return section("timing", "Timing", "", gaps(runs, "history"))
    about = (
        "Medians over the steps without the first, which compiles. A step is the wall time from "
        "the end of the step before; rollout and update are the devices' time, scoring the host's, "
        "and with pipeline_depth=1 they overlap. The whole includes warm start, evaluations and "
        "pictures."
    )
    head = ["run", "a step", *(title for _, title in _PARTS), "tokens / s", "tokens", "the whole"]
    rows = [
        [
            run_name(place, run),
            duration(_median(_step_seconds(run))),
            *(_part(run, column) for column, _ in _PARTS),
            number(_median(run.column("tokens_per_second"))),
            number(_total(run.column("sampled_tokens"))),
            duration(run.summary.get("wall_seconds")),
        ]
        for place, run in timed
    ]
    blocks = (table(head, rows, name="timing"), gaps(runs, "history"))
    return section("timing", "Timing", about, *blocks)


def _step_seconds(run: Contents) -> np.ndarray | None:
    """`[S]` the wall time of each step, which is written down as a speed."""
    tokens, speed = run.column("sampled_tokens"), run.column("tokens_per_second")
    if tokens is None or speed is None:
        return None
    return np.divide(tokens, speed, out=np.full_like(tokens, np.nan), where=speed > 0)


def _part(run: Contents, column: str) -> str | Markup:
    """A part's median, and its share of the step."""
    part, whole = _median(run.column(column)), _median(_step_seconds(run))
    if part is None:
        return NOTHING
    return join([duration(part), f" ({part / whole:.0%})" if whole else None])


def _median(values: np.ndarray | None) -> float | None:
    """Without the first step, unless there is no other."""
    if values is None:
        return None
    later = values[1:][np.isfinite(values[1:])]
    some = later if later.size else values[np.isfinite(values)]
    return float(np.median(some)) if some.size else None


def _total(values: np.ndarray | None) -> float | None:
    return None if values is None else float(np.nansum(values))
