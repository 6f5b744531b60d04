"""What can be written behind `dvaojax sweep`."""

import argparse
from pathlib import Path

from dvaojax.cli.arguments.parser import Doors, add_door, add_settings, positive

_ABOUT = """\
Train and measure every cell of a grid, situations x methods x trade-offs x seeds, and
compare the methods: hypervolumes and means with 95 % intervals over the seeds, a table
and a picture of each situation. SWEEP.py is a Python file with a function get_sweep().

Ctrl-C or SIGTERM finishes the cell. The same command goes on where it was stopped or
killed, and reports once more where nothing is left to do."""

_EXAMPLES = """\
Examples:
  dvaojax sweep experiments/shootout.py --processes 2
  dvaojax sweep experiments/shootout.py --report       what there is so far
  dvaojax sweep experiments/shootout.py --smoke        every code path"""


def add(doors: Doors) -> None:
    """Adds the command to the others."""
    parser = add_door(
        doors, "sweep", "compare methods over a grid", about=_ABOUT, examples=_EXAMPLES
    )
    parser.add_argument(
        "sweep", type=Path, metavar="SWEEP.py", help="a Python file with a function get_sweep()"
    )
    parser.add_argument(
        "--smoke",
        action="store_const",
        dest="function",
        const="get_smoke_sweep",
        default="get_sweep",
        help="the sweep in miniature: what its get_smoke_sweep() returns",
    )
    add_settings(parser, "replace settings of what all cells have in common")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="the sweep's own directory (default: sweeps/NAME)",
    )
    parser.add_argument(
        "--processes",
        type=positive,
        default=1,
        metavar="N",
        help="share the grid out among so many processes, each with its part of the cores",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="measure nothing: tables and pictures of what there is",
    )
    parser.add_argument("--share", help=argparse.SUPPRESS)
