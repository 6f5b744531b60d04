"""`dvaojax methods`: describes aggregators, losses and allocation rules."""

import argparse
from typing import TYPE_CHECKING

from dvaojax.cli.lazy import LazyModule
from dvaojax.cli.parser import Subcommands, add_subcommand

if TYPE_CHECKING:
    from dvaojax.cli import methods as method_tables
else:
    method_tables = LazyModule("dvaojax.cli.methods")

_ABOUT = """\
List the methods that turn rewards into advantages, advantages into a loss, and
statistics of problems into their share of the completions: properties that are true for
all rewards, inputs, and sources. With a NAME: the method's equation, methods not to be
confused with it, its options, and a BibTeX entry."""

_EXAMPLES = """\
Examples:
  dvaojax methods
  dvaojax methods dvao
  dvaojax methods gspo"""


def add_arguments(subcommands: Subcommands) -> None:
    """Adds the subcommand."""
    parser = add_subcommand(
        subcommands,
        "methods",
        "list aggregators, losses and allocation rules",
        about=_ABOUT,
        examples=_EXAMPLES,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a method, here or in its paper")


def run(arguments: argparse.Namespace) -> int:
    """Prints the tables, or the page of one method; returns the exit code."""
    return method_tables.run(arguments)
