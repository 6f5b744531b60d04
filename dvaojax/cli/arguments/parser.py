"""What all commands share: the parser, and what several of them can be told."""

import argparse
from pathlib import Path
from typing import NoReturn, TypeAlias

from dvaojax.errors import UserError


class Parser(argparse.ArgumentParser):
    """Answers a mistake with one line, like every other bad input."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse where the command line cannot be understood.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message}; see {self.prog} --help")


Doors: TypeAlias = "argparse._SubParsersAction[Parser]"


def make_parser(name: str, *, about: str, examples: str) -> Parser:
    """The parser of the program.

    Args:
        name: what it is called by.
        about: what it is for, as it is to be printed.
        examples: the same, at the end of its help.
    """
    return Parser(
        prog=name,
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_door(doors: Doors, name: str, gist: str, *, about: str, examples: str) -> Parser:
    """The parser of one more command.

    Args:
        doors: the commands there are.
        name: of the new one.
        gist: what it does, in a few words, for the list of commands.
        about: what it does, as its own help prints it.
        examples: the same, at the end of that.
    """
    return doors.add_parser(
        name,
        help=gist,
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_settings(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Lets a command take `--set KEY=VALUE ...`, as often as one likes."""
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        dest="changes",
        metavar="KEY=VALUE",
        help=help_text,
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Lets a command be told which checkpoint of a run that was made before."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, metavar="N", help="which checkpoint (default: newest)")
    which.add_argument(
        "--best", action="store_true", help="the checkpoint with the best weighted reward"
    )
    parser.add_argument(
        "--experiment",
        type=Path,
        metavar="EXPERIMENT.py",
        help="the file that defines the run's task, if the task is not part of dvaojax",
    )


def positive(text: str) -> int:
    """A whole number of at least 1, from the command line.

    Raises:
        ArgumentTypeError: it is something else.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)
