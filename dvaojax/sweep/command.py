"""Implementation of `dvaojax sweep`: starts the processes, and writes the report at the end."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from etils import epath
from rich.console import Console

from dvaojax.config import overrides
from dvaojax.errors import UserError, printable
from dvaojax.run import directory as run_directory
from dvaojax.sweep import Sweep
from dvaojax.sweep.directory import SweepDirectory
from dvaojax.sweep.display import SweepDisplay
from dvaojax.sweep.execution import (
    REPORT,
    run_cells,
    run_processes,
    use_own_cores,
    write_report,
)
from dvaojax.sweep.grid import check


def run_sweep(arguments: argparse.Namespace) -> int:
    """Runs the whole grid and writes the report.

    Args:
        arguments: those of `dvaojax sweep`, see `dvaojax sweep --help`.

    Returns:
        0, or the exit code of the process that failed.

    Raises:
        UserError: the sweep is invalid, or `--report` has no finished cell.
    """
    sweep = _load_sweep(arguments)
    check(sweep)
    with run_directory.at(_path(arguments, sweep)) as place:
        directory = SweepDirectory(place.path)
        if arguments.report:
            place.fetch()
            if not directory.rows():
                raise UserError(f"{place.path}: no cell of the sweep is finished")
        else:
            with place.hold():
                if code := _run_grid(arguments, sweep, directory):
                    return code
        lines = map(printable, write_report(sweep, directory).split("\n"))
        place.store()
        Console(highlight=False, soft_wrap=True).print(*lines, sep="\n", markup=False)
        print(f"cells, tables and figures: {place.address}; start with {REPORT}")
    return 0


def _run_grid(arguments: argparse.Namespace, sweep: Sweep, directory: SweepDirectory) -> int:
    """Runs the unfinished cells; returns 0, or the exit code of the process that failed."""
    directory.claim(sweep)
    with SweepDisplay(sweep) as display:
        if arguments.processes == 1:
            run_cells(sweep, directory, display)
        elif code := run_processes(directory, _worker_commands(arguments, directory.path), display):
            return code
    directory.gather(sweep)
    return 0


def run_share(arguments: argparse.Namespace) -> int:
    """Runs one process's share of the grid, as long as its parent process lives.

    Args:
        arguments: as for `run_sweep`, with `share` as "INDEX/COUNT".

    Returns:
        The exit code, 0.
    """
    share, shares = map(int, arguments.share.split("/"))
    use_own_cores(share, shares)
    sweep, parent = _load_sweep(arguments), os.getppid()
    run_cells(
        sweep,
        SweepDirectory(Path(arguments.out)),  # the parent process names it
        SweepDisplay(sweep, Console(quiet=True)),
        share=share,
        shares=shares,
        should_continue=lambda: os.getppid() == parent,
    )
    return 0


def _worker_commands(arguments: argparse.Namespace, out: Path) -> list[Sequence[str]]:
    """The command line of each process."""
    command = [sys.executable, "-m", "dvaojax", "sweep", str(arguments.sweep), "--out", str(out)]
    if arguments.function == "get_smoke_sweep":
        command.append("--smoke")
    if arguments.changes:
        command += ["--set", *arguments.changes]
    count = arguments.processes
    return [[*command, "--share", f"{share}/{count}"] for share in range(count)]


def _load_sweep(arguments: argparse.Namespace) -> Sweep:
    """The file's sweep with the settings of the command line in its base."""
    sweep = overrides.load_experiment(arguments.sweep, function=arguments.function)
    if not isinstance(sweep, Sweep):
        kind = f"{type(sweep).__module__}.{type(sweep).__qualname__}"
        raise UserError(f"{arguments.sweep}: {arguments.function}() returned a {kind}, not a Sweep")
    return dataclasses.replace(sweep, base=overrides.apply(sweep.base, arguments.changes))


def _path(arguments: argparse.Namespace, sweep: Sweep) -> Path | epath.Path:
    return arguments.out or Path("sweeps") / sweep.name
