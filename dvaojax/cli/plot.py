"""`dvaojax plot`: figures of one run, or of several runs in the same axes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dvaojax import files
from dvaojax.cli.lazy import LazyModule
from dvaojax.cli.parser import Subcommands, add_subcommand, run_path

if TYPE_CHECKING:
    from dvaojax import evaluation
else:
    evaluation = LazyModule("dvaojax.evaluation")

_ABOUT = """\
Draw runs, finished or not: each objective over the steps, effective weights, agreement
and zero-variance groups, lengths and entropy, and two objectives against each other with
the Pareto front. Several runs share one set of axes."""

_EXAMPLES = """\
Examples:
  dvaojax plot runs/arithmetic
  dvaojax plot runs/arithmetic runs/gdpo --out comparison
  dvaojax plot runs/* --out comparison --objectives brevity accuracy"""


def add_arguments(subcommands: Subcommands) -> None:
    """Adds the subcommand."""
    parser = add_subcommand(
        subcommands, "plot", "draw one or several runs", about=_ABOUT, examples=_EXAMPLES
    )
    parser.add_argument("runs", type=run_path, nargs="+", metavar="RUN", help="a run's directory")
    parser.add_argument(
        "--out",
        type=run_path,
        metavar="DIR",
        help="directory of the figures (default: RUN/plots for one run, plots for several)",
    )
    parser.add_argument(
        "--objectives",
        nargs=2,
        metavar=("X", "Y"),
        help="the two objectives drawn against each other (default: the first two)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Draws the runs and prints the paths of the figures; returns the exit code."""
    default = arguments.runs[0] / files.PLOTS if len(arguments.runs) == 1 else Path(files.PLOTS)
    out = default if arguments.out is None else arguments.out
    pair = None if arguments.objectives is None else tuple(arguments.objectives)
    print(*evaluation.plot_runs(arguments.runs, out, objectives=pair), sep="\n")
    return 0
