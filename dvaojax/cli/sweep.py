"""`dvaojax sweep`: many short runs, from where an earlier start stopped, and their comparison."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from dvaojax.cli.answers import BY_SIGNAL, FAILED, answer
from dvaojax.config import overrides
from dvaojax.errors import UserError
from dvaojax.rewards import RewardError
from dvaojax.sweep import Sweep
from dvaojax.sweep.grid import check
from dvaojax.sweep.progress import Progress
from dvaojax.sweep.record import Record
from dvaojax.sweep.sweeping import REPORT, on_its_own_cores, watch, work, write_report
from dvaojax.train import Interrupted, TrainingError


def run(arguments: argparse.Namespace) -> int:
    """Runs the sweep that the arguments describe; returns the exit code."""
    try:
        if arguments.share is not None:
            return _work_on_a_share(arguments)
        return _run(arguments)
    except Interrupted as stop:
        return answer(str(stop), BY_SIGNAL + stop.signal_number)
    except (TrainingError, RewardError) as failure:
        return answer(str(failure), FAILED)


def _run(arguments: argparse.Namespace) -> int:
    """All of the grid, and the report."""
    sweep = _sweep(arguments)
    check(sweep)
    record = Record(_out(arguments, sweep))
    if arguments.report:
        if not record.rows():
            raise UserError(f"{record.path}: no cell of a sweep was measured here")
    else:
        record.claim(sweep)
        with Progress(sweep) as progress:
            if arguments.processes == 1:
                work(sweep, record, progress)
            elif code := watch(record, _commands(arguments, record.path), progress):
                return code
        record.gather(sweep)
    Console(highlight=False, soft_wrap=True).print(write_report(sweep, record), markup=False)
    print(f"cells, tables and pictures: {record.path}, {REPORT} first")
    return 0


def _work_on_a_share(arguments: argparse.Namespace) -> int:
    """One of several processes, which another watches; it ends when that one does."""
    share, shares = map(int, arguments.share.split("/"))
    on_its_own_cores(share, shares)
    sweep, parent = _sweep(arguments), os.getppid()
    silent, record = Progress(sweep, Console(quiet=True)), Record(_out(arguments, sweep))
    try:
        work(
            sweep,
            record,
            silent,
            share=share,
            shares=shares,
            goes_on=lambda: os.getppid() == parent,
        )
    except Interrupted as stop:  # of which the process that watches tells
        return BY_SIGNAL + stop.signal_number
    return 0


def _commands(arguments: argparse.Namespace, out: Path) -> list[Sequence[str]]:
    """What each of the processes is started with."""
    command = [sys.executable, "-m", "dvaojax", "sweep", str(arguments.sweep), "--out", str(out)]
    if arguments.function == "get_smoke_sweep":
        command.append("--smoke")
    if arguments.changes:
        command += ["--set", *arguments.changes]
    count = arguments.processes
    return [[*command, "--share", f"{share}/{count}"] for share in range(count)]


def _sweep(arguments: argparse.Namespace) -> Sweep:
    """The file's sweep with the command line's settings in its base."""
    sweep = overrides.load_experiment(arguments.sweep, function=arguments.function)
    if not isinstance(sweep, Sweep):
        what = f"{type(sweep).__module__}.{type(sweep).__qualname__}"
        raise UserError(f"{arguments.sweep}: {arguments.function}() returned a {what}, not a Sweep")
    return dataclasses.replace(sweep, base=overrides.apply(sweep.base, arguments.changes))


def _out(arguments: argparse.Namespace, sweep: Sweep) -> Path:
    return arguments.out or Path("sweeps") / sweep.name
