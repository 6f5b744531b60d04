"""`dvaojax report`: one HTML file about one or several runs."""

import argparse
from typing import TYPE_CHECKING

from dvaojax.cli.lazy import LazyModule
from dvaojax.cli.parser import Subcommands, add_subcommand, run_path

if TYPE_CHECKING:
    from dvaojax import report
else:
    report = LazyModule("dvaojax.report")

_ABOUT = """\
Write one HTML file with everything about one or several runs, finished or not: objectives
before and after training with intervals, curves, effective weights, agreement, all kept
completions with their rewards and a search, timing, configuration, environment. Of
several runs, the settings that differ come first.

The file is self-contained and makes no network request. It replaces an earlier report."""

_EXAMPLES = """\
Examples:
  dvaojax report runs/arithmetic                  writes runs/arithmetic/report.html
  dvaojax report runs/arithmetic runs/gdpo        writes report.html
  dvaojax report runs/* --out comparison.html"""


def add_arguments(subcommands: Subcommands) -> None:
    """Adds the subcommand."""
    parser = add_subcommand(
        subcommands,
        "report",
        "write one HTML file about one or several runs",
        about=_ABOUT,
        examples=_EXAMPLES,
    )
    parser.add_argument("runs", type=run_path, nargs="+", metavar="RUN", help="a run's directory")
    parser.add_argument(
        "--out",
        type=run_path,
        metavar="FILE",
        help="the file (default: RUN/report.html for one run, report.html for several)",
    )
    # The option's name in earlier versions.
    parser.add_argument(
        "--output", type=run_path, dest="out", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    parser.add_argument(
        "--overwrite",
        action="store_const",
        dest="replaces",
        const="anything",
        default="reports",
        help="replace an existing file even if it is not a report",
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes the report and prints its path; returns the exit code."""
    print(report.write_report(arguments.runs, arguments.out, replaces=arguments.replaces))
    return 0
