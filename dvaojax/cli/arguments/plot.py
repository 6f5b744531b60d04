"""What can be written behind `dvaojax plot`."""

from pathlib import Path

from dvaojax.cli.arguments.parser import Doors, add_door

_ABOUT = """\
Draw runs, finished or not: each objective over the steps, effective weights, agreement
and silent groups, lengths and entropy, and two objectives against each other with the
Pareto front marked. Several runs are laid over each other."""

_EXAMPLES = """\
Examples:
  dvaojax plot runs/arithmetic
  dvaojax plot runs/arithmetic runs/gdpo --out comparison
  dvaojax plot runs/* --out comparison --objectives brevity accuracy"""


def add(doors: Doors) -> None:
    """Adds the command to the others."""
    parser = add_door(doors, "plot", "draw one or several runs", about=_ABOUT, examples=_EXAMPLES)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's directory")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where the pictures go (default: RUN/plots for one run, plots for several)",
    )
    parser.add_argument(
        "--objectives",
        nargs=2,
        metavar=("X", "Y"),
        help="the two objectives drawn against each other (default: the first two)",
    )
