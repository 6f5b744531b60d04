"""`dvaojax plot`: the pictures of one run, or of several laid over each other."""

import argparse
from pathlib import Path

from dvaojax import files
from dvaojax.evaluation import plot_runs


def run(arguments: argparse.Namespace) -> int:
    """Draws the runs that the arguments name; returns the exit code."""
    alone = arguments.runs[0] / files.PLOTS if len(arguments.runs) == 1 else Path(files.PLOTS)
    out = alone if arguments.out is None else arguments.out
    pair = None if arguments.objectives is None else tuple(arguments.objectives)
    print(*plot_runs(arguments.runs, out, objectives=pair), sep="\n")
    return 0
