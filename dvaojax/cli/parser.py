"""The parser of the command line, and options that several subcommands share."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from dvaojax.cli.lazy import LazyModule
from dvaojax.errors import UserError

if TYPE_CHECKING:
    from etils import epath

    from dvaojax import hub
else:
    epath, hub = LazyModule("etils.epath"), LazyModule("dvaojax.hub")


class Parser(argparse.ArgumentParser):
    """Reports mistakes on the command line as a `UserError`, like any other bad input."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse if the command line cannot be parsed.

        Raises:
            UserError: always.
        """
        if refused := re.fullmatch(r"argument (\S+): ignored explicit argument (.*)", message):
            option, value = refused.groups()
            accepted = [x for x in self._option_string_actions if x.startswith(f"{option}=")]
            message = f"{option} does not accept {value}, only {' or '.join([option, *accepted])}"
        raise UserError(f"{message}; see {self.prog} --help")


Subcommands: TypeAlias = "argparse._SubParsersAction[Parser]"


def make_parser(name: str, *, about: str, examples: str) -> Parser:
    """The parser of the program.

    Args:
        name: of the program.
        about: its description, printed as it is.
        examples: printed as they are at the end of the help.
    """
    return Parser(
        prog=name,
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_subcommand(
    subcommands: Subcommands, name: str, summary: str, *, about: str, examples: str
) -> Parser:
    """Adds a subcommand and returns its parser.

    Args:
        subcommands: the subcommands of the program.
        name: of the new one.
        summary: what it does, in a few words, for the list of subcommands.
        about: its description, printed as it is.
        examples: printed as they are at the end of its help.
    """
    return subcommands.add_parser(
        name,
        help=summary,
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def run_path(text: str) -> "Path | epath.Path":
    """The type of arguments that are directories of runs: a path, or `gs://bucket/path`.

    Raises:
        ArgumentTypeError: the text is another address, such as `s3://bucket/runs`.
    """
    if re.match(rf"{hub.PROTOCOL}[^/]", text):
        return epath.Path(text)
    if hub.is_address(text):
        raise argparse.ArgumentTypeError(
            f"{text} is neither a path nor in a bucket of Google Cloud Storage (gs://BUCKET/DIR)"
        )
    return Path(text)


def local_path(text: str) -> Path:
    """The type of arguments that are local paths.

    Raises:
        ArgumentTypeError: the text is an address such as `gs://bucket/runs`, of which `Path` would
            make a directory `gs:`.
    """
    if hub.is_address(text):
        raise argparse.ArgumentTypeError(
            f"{text} is an address, not a path: mount the bucket (gcsfuse), or use a shared disk"
        )
    return Path(text)


def add_settings(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Adds `--set KEY=VALUE ...`, which may be repeated."""
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
    """Adds the options that select a checkpoint of an existing run."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, metavar="N", help="which checkpoint (default: newest)")
    which.add_argument(
        "--best", action="store_true", help="the checkpoint with the best weighted reward"
    )
    parser.add_argument(
        "--experiment",
        type=local_path,
        metavar="EXPERIMENT.py",
        help="the file that defines the run's task, if the task is not part of dvaojax",
    )


def positive(text: str) -> int:
    """Parses an integer of at least 1.

    Raises:
        ArgumentTypeError: the text is anything else.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)
