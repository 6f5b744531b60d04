"""What can be written behind `dvaojax report`."""

from pathlib import Path

from dvaojax.cli.arguments.parser import Doors, add_door

_ABOUT = """\
Write one HTML file with everything that runs did, finished or not: objectives before and
after with intervals, curves, effective weights, agreement, the completions with all their
rewards to search through, timing, configuration, environment. Several runs are laid over
each other, and where their configurations differ comes first.

The file stands alone: nothing is fetched when it is opened. An earlier report is replaced."""

_EXAMPLES = """\
Examples:
  dvaojax report runs/arithmetic                  runs/arithmetic/report.html
  dvaojax report runs/arithmetic runs/gdpo        report.html
  dvaojax report runs/* --output comparison.html"""


def add(doors: Doors) -> None:
    """Adds the command to the others."""
    parser = add_door(
        doors, "report", "one page about one or several runs", about=_ABOUT, examples=_EXAMPLES
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's directory")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where it goes (default: RUN/report.html for one run, report.html for several)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_const",
        dest="replaces",
        const="anything",
        default="reports",
        help="replace a file that is there even if it is not a report",
    )
