"""The start of a command that is restarted blindly: a new run, or the one that is there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dvaojax import files
from dvaojax.config import Config, migrate
from dvaojax.run import directory as run_directory
from dvaojax.train import hosts
from dvaojax.train.best import BestEvaluation, stops_early
from dvaojax.train.session import MAY_DIFFER, MAY_ROUND_OTHERWISE


def choose_start(path: Path) -> Literal["create", "resume"]:
    """ "create" if there is no run at a path, else "resume"; the first process looks.

    Args:
        path: of the run's directory.
    """
    return "create" if _first(path, lambda: run_directory.is_unused(path)) else "resume"


def finished_summary(config: Config, path: Path) -> dict[str, Any] | None:
    """The content of `summary.json` of a run with nothing left to do; None of any other.

    A run that ended early has something left to do if `early_stop` is now larger, or 0.

    Args:
        config: of this start.
        path: of the run's directory.

    Raises:
        UserError: the run has other settings.
    """
    if not _first(path, lambda: _is_finished(config, path)):
        return None
    return files.read_json(path / files.SUMMARY)


def _first(path: Path, question: Callable[[], bool]) -> bool:
    """The answer of the first process to a question about a path, in all processes."""
    answer = hosts.together(f"reading {path}", lambda: hosts.is_first() and question())
    return bool(hosts.gather(np.int32(answer))[0])


def _is_finished(config: Config, path: Path) -> bool:
    if not (path / files.SUMMARY).is_file():
        return False
    run_directory.check_resumable(
        path, config, may_differ=MAY_DIFFER + MAY_ROUND_OTHERWISE, migrate=migrate
    )
    if not (path / files.SUMMARY).is_file():  # that of a run that was being overwritten
        return False
    summary = files.read_json(path / files.SUMMARY)
    # The wall time is added once the plots are drawn.
    if not isinstance(summary, dict) or "wall_seconds" not in summary:
        return False
    if not summary.get("stopped_early"):
        return True
    return stops_early(config, BestEvaluation(**summary["best"]))
