"""A sweep at work: in this process, or shared out among several."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

from dvaojax.sweep import figures
from dvaojax.sweep.grid import Place, Sweep, cell_at, places
from dvaojax.sweep.progress import Progress
from dvaojax.sweep.record import Record
from dvaojax.sweep.report import report
from dvaojax.sweep.runner import Runner
from dvaojax.sweep.statistics import findings
from dvaojax.train.interrupts import Interrupted, Interrupts

REPORT = "report.md"
_LOOK_SECONDS = 1.0


def work(
    sweep: Sweep,
    record: Record,
    progress: Progress,
    *,
    share: int = 0,
    shares: int = 1,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Measures what is not measured yet of one share of the grid.

    A share is the same whatever was measured before.

    Args:
        sweep: what is compared.
        record: where outcomes are kept; `claim`ed.
        progress: what is shown meanwhile.
        share: which share, from 0.
        shares: how many there are.
        goes_on: asked before every cell; where it says no, nobody waits for the next.

    Raises:
        Interrupted: it was asked to stop, after a cell.
    """
    rows = record.rows()
    mine = [place for place in share_of(sweep, share, shares) if place not in rows]
    with (
        contextlib.closing(record.part(share)) as part,
        Runner(sweep) as runner,
        Interrupts() as interrupts,
    ):
        for place in mine:
            if interrupts.received is not None:
                raise interrupted(interrupts.received)
            if not goes_on():
                return
            cell = cell_at(sweep, place)
            row = {**place._asdict(), **runner.run(cell)._asdict()}
            part.write(cell.config.num_steps, row)
            rows[place] = row
            progress.update(rows)


def watch(record: Record, commands: Sequence[Sequence[str]], progress: Progress) -> int:
    """Runs the commands, which measure a share each, until all have ended.

    A command that fails, or a signal, ends the others too.

    Returns:
        0, or the exit code of one that failed; 1 where all that did were killed.
    """
    seen, is_ending = -1, False
    with Interrupts() as interrupts:
        # In sessions of their own: Ctrl-C reaches this process, which passes it on once.
        children = [subprocess.Popen(command, start_new_session=True) for command in commands]
        while None in (codes := [child.poll() for child in children]):
            time.sleep(_LOOK_SECONDS)
            if not is_ending and (any(codes) or interrupts.received is not None):
                is_ending = True
                for child in children:
                    child.terminate()
            if len(rows := record.rows()) > seen:
                seen = len(rows)
                progress.update(rows)
        if interrupts.received is not None:
            raise interrupted(interrupts.received)
    return next((code for code in codes if code and code > 0), 0) or int(any(codes))


def write_report(sweep: Sweep, record: Record) -> str:
    """Writes tables and pictures of what was measured so far, and returns the tables."""
    rows = record.rows()
    found = findings(sweep, rows)
    text = report(sweep, found)
    (record.path / REPORT).write_text(text)
    figures.draw(sweep, rows, found, record.path)
    return text


def interrupted(number: int) -> Interrupted:
    """What a person is told who stopped a sweep."""
    name = signal.Signals(number).name
    return Interrupted(number, f"stopped after a cell by {name}: the same command goes on")


def on_its_own_cores(share: int, shares: int) -> None:
    """Leaves this process the cores of its share, where the system knows how; before JAX starts."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[share::shares] or cores)


def share_of(sweep: Sweep, share: int, shares: int) -> Iterator[Place]:
    """The places of one of several processes.

    A seed stays with one process, where situations share a warm start; seeds that do not divide
    are parted by situation.
    """
    whole = len(sweep.seeds) // shares * shares
    situations, seeds = list(sweep.situations), list(sweep.seeds)
    for place in places(sweep):
        number = seeds.index(place.seed)
        number = number if number < whole else situations.index(place.situation)
        if number % shares == share:
            yield place
