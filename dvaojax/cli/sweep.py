"""`dvaojax sweep`: many short runs over a grid, and a comparison of the methods."""

import argparse
from typing import TYPE_CHECKING

from dvaojax.cli.exit_codes import FAILED, fail, interrupted
from dvaojax.cli.lazy import LazyModule
from dvaojax.cli.parser import (
    Subcommands,
    add_settings,
    add_subcommand,
    local_path,
    positive,
    run_path,
)

if TYPE_CHECKING:
    from dvaojax import rewards, train
    from dvaojax.sweep import command
else:
    rewards = LazyModule("dvaojax.rewards")
    train = LazyModule("dvaojax.train")
    command = LazyModule("dvaojax.sweep.command")

_ABOUT = """\
Train and evaluate every cell of a grid (situations x methods x trade-offs x seeds), and
compare the methods: hypervolumes and means with 95 % intervals over the seeds, a table
and a figure for each situation. SWEEP.py is a Python file with a function get_sweep().

Ctrl-C or SIGTERM finishes the current cell. The same command continues an interrupted
sweep, and writes the report again if nothing is left to do."""

_EXAMPLES = """\
Examples:
  dvaojax sweep experiments/shootout.py --processes 2
  dvaojax sweep experiments/shootout.py --report       report what is finished so far
  dvaojax sweep experiments/shootout.py --smoke        every code path, in miniature"""


def add_arguments(subcommands: Subcommands) -> None:
    """Adds the subcommand."""
    parser = add_subcommand(
        subcommands, "sweep", "compare methods over a grid", about=_ABOUT, examples=_EXAMPLES
    )
    parser.add_argument(
        "sweep",
        type=local_path,
        metavar="SWEEP.py",
        help="a Python file with a function get_sweep()",
    )
    parser.add_argument(
        "--smoke",
        action="store_const",
        dest="function",
        const="get_smoke_sweep",
        default="get_sweep",
        help="run the sweep in miniature, as get_smoke_sweep() of the file returns it",
    )
    add_settings(parser, "replace settings that all cells share")
    parser.add_argument(
        "--out",
        type=run_path,
        metavar="DIR",
        help="directory of the sweep, also gs://BUCKET/DIR (default: sweeps/NAME)",
    )
    parser.add_argument(
        "--processes",
        type=positive,
        default=1,
        metavar="N",
        help="split the grid over N processes, each with its share of the cores",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="run nothing; write tables and figures of the finished cells",
    )
    # Passed by the process that starts the others: "INDEX/COUNT".
    parser.add_argument("--share", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Runs the sweep, or one process's share of it; returns the exit code."""
    is_worker = arguments.share is not None
    try:
        return (command.run_share if is_worker else command.run_sweep)(arguments)
    except train.Interrupted as stop:
        code = interrupted(stop.signal_number)
        return code if is_worker else fail(str(stop), code)  # the parent process reports it
    except (train.TrainingError, rewards.RewardError) as error:
        return fail(str(error), FAILED)
