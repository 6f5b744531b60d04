"""`dvaojax methods`: describes aggregators, losses and allocation rules."""

import argparse
from typing import TYPE_CHECKING

from dvaojax import plugins
from dvaojax.cli.lazy import LazyModule
from dvaojax.cli.parser import Subcommands, add_subcommand

if TYPE_CHECKING:
    from dvaojax.cli import method_page, method_tables
else:
    method_page = LazyModule("dvaojax.cli.method_page")
    method_tables = LazyModule("dvaojax.cli.method_tables")

_ABOUT = """\
List the methods that turn rewards into advantages, advantages into a loss, and
statistics of problems into their numbers of completions: properties that do not depend
on the rewards, inputs, and sources. With a NAME: the method's equation, similar methods,
its knobs, and a BibTeX entry."""

_EXAMPLES = """\
Examples:
  dvaojax methods
  dvaojax methods dvao
  dvaojax methods gspo
  dvaojax methods my_file.py:my_method    your own, from its docstring and signature"""


def add_arguments(subcommands: Subcommands) -> None:
    """Adds the subcommand."""
    parser = add_subcommand(
        subcommands,
        "methods",
        "list aggregators, losses and allocation rules",
        about=_ABOUT,
        examples=_EXAMPLES,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="of a method, here or in its paper, or FILE.py:FUNCTION",
    )
    what.add_argument(
        "--markdown",
        choices=("aggregators", "losses"),
        help="print this table in Markdown, as in the README",
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the tables, or the page of one method; returns the exit code."""
    name = arguments.name
    if arguments.markdown is not None:
        print(method_tables.markdown(arguments.markdown))
    elif name is None:
        method_tables.print_tables()
    else:
        known = name if plugins.is_plugin(name) else method_tables.known_name(name)
        print(method_page.page(known))
    return 0
