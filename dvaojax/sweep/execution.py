"""Execution of a sweep, in this process or in several."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

from dvaojax import files
from dvaojax.run import lock
from dvaojax.sweep import figures
from dvaojax.sweep.directory import SweepDirectory
from dvaojax.sweep.display import SweepDisplay
from dvaojax.sweep.grid import CellKey, Sweep, cell_at, cell_keys
from dvaojax.sweep.report import report
from dvaojax.sweep.runner import CellRunner
from dvaojax.sweep.statistics import findings
from dvaojax.train.interrupts import Interrupted, Interrupts

REPORT = "report.md"
_POLL_SECONDS = 1.0


def run_cells(
    sweep: Sweep,
    directory: SweepDirectory,
    display: SweepDisplay,
    *,
    share: int = 0,
    shares: int = 1,
    should_continue: Callable[[], bool] = lambda: True,
) -> None:
    """Runs the unfinished cells of one share of the grid.

    The shares do not depend on which cells are finished.

    Args:
        sweep: the sweep.
        directory: where results are written; `claim`ed.
        display: shows the progress.
        share: index of the share, from 0.
        shares: number of shares.
        should_continue: called before every cell; returns early if it is false.

    Raises:
        Interrupted: stopped by a signal, after a cell.
        UserError: a process that an earlier start left is still finishing its cell.
    """
    rows = directory.rows()
    missing = [key for key in share_of(sweep, share, shares) if key not in rows]
    with (
        lock.hold(directory.path, name=f"{lock.LOCK}-{share}"),
        contextlib.closing(directory.part(share)) as part,
        CellRunner(sweep) as runner,
        Interrupts() as interrupts,
    ):
        for key in missing:
            if interrupts.received is not None:
                raise interrupted(interrupts.received)
            if not should_continue():
                return
            cell = cell_at(sweep, key)
            row = {**key._asdict(), **runner.run(cell)._asdict()}
            part.write(cell.config.num_steps, row)
            rows[key] = row
            display.update(rows)


def run_processes(
    directory: SweepDirectory, commands: Sequence[Sequence[str]], display: SweepDisplay
) -> int:
    """Runs the commands, each for one share, until all have ended.

    If a command fails or a signal arrives, the other processes are terminated.

    Returns:
        0, or the exit code of a failed process; 1 if all failed processes were killed.
    """
    num_rows, is_ending = -1, False
    with Interrupts() as interrupts:
        # In new sessions: only this process receives Ctrl-C, and forwards it once.
        children = [subprocess.Popen(command, start_new_session=True) for command in commands]
        while None in (codes := [child.poll() for child in children]):
            time.sleep(_POLL_SECONDS)
            if not is_ending and (any(codes) or interrupts.received is not None):
                is_ending = True
                for child in children:
                    child.terminate()
            if len(rows := directory.rows()) > num_rows:
                num_rows = len(rows)
                display.update(rows)
        if interrupts.received is not None:
            raise interrupted(interrupts.received)
    return next((code for code in codes if code and code > 0), 0) or int(any(codes))


def write_report(sweep: Sweep, directory: SweepDirectory) -> str:
    """Writes tables and plots of the finished cells, and returns the tables."""
    rows = directory.rows()
    results = findings(sweep, rows)
    text = report(sweep, results)
    files.write_text(directory.path / REPORT, text)
    figures.draw(sweep, rows, results, directory.path)
    return text


def interrupted(number: int) -> Interrupted:
    """The exception of a sweep that was stopped by a signal."""
    name = signal.Signals(number).name
    return Interrupted(number, f"stopped after a cell by {name}: the same command continues")


def use_own_cores(share: int, shares: int) -> None:
    """Restricts this process to the cores of its share, if supported; call it before JAX starts."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[share::shares] or cores)


def share_of(sweep: Sweep, share: int, shares: int) -> Iterator[CellKey]:
    """The cells of one of several processes.

    All cells of a seed go to one process, because situations may share a warm start. If the number
    of seeds is not divisible by the number of shares, the remaining seeds are split by situation.
    """
    whole = len(sweep.seeds) // shares * shares
    situations, seeds = list(sweep.situations), list(sweep.seeds)
    for key in cell_keys(sweep):
        number = seeds.index(key.seed)
        number = number if number < whole else situations.index(key.situation)
        if number % shares == share:
            yield key
