"""`dvaojax report`: one page about one or several runs."""

import argparse

from dvaojax.report import write_report


def run(arguments: argparse.Namespace) -> int:
    """Writes the report of the runs that the arguments name; returns the exit code."""
    print(write_report(arguments.runs, arguments.output, replaces=arguments.replaces))
    return 0
