"""The command `dvaojax`: one module per subcommand, each with `add_arguments` and `run`.

Exit codes: 0 success; 1 the run failed; 2 bad input, and nothing was written; 75 the command was
stopped by SIGTERM after it had saved, or another process of its run was lost, and continues when it
is given again; 128 plus the signal's number if another signal or a closed pipe stopped it. All but
success and a closed pipe come with one line on standard error; `last_resort` writes it for
exceptions that no subcommand handles.

Importing this package does not import JAX, so help and misspelt options are answered at once:
subcommands load what they need when they run (`dvaojax.cli.lazy`).
"""

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

import shtab

import dvaojax
from dvaojax.cli import (
    data,
    environment,
    evaluate,
    export,
    last_resort,
    methods,
    plan,
    plot,
    report,
    sweep,
    train,
)
from dvaojax.cli.exit_codes import BAD_INPUT, BY_SIGNAL, FAILED, fail
from dvaojax.cli.parser import make_parser
from dvaojax.errors import RESTART, ServiceError, UserError

SUBCOMMANDS: Mapping[str, ModuleType] = {
    "train": train,
    "evaluate": evaluate,
    "sweep": sweep,
    "plot": plot,
    "report": report,
    "export": export,
    "plan": plan,
    "data": data,
    "methods": methods,
}
"""The modules of the subcommands by name, in the order of the help."""

_ABOUT = """\
Multi-reward reinforcement learning for language models.

A run samples groups of completions, scores them on several objectives, turns the
rewards into advantages (by default with DVAO) and takes policy-gradient steps. All
files of a run are in one directory, runs/NAME."""

_EXAMPLES = """\
Start here:
  dvaojax train                           train on the built-in task, a few minutes on a laptop
  dvaojax evaluate runs/arithmetic        evaluate the result on held-out problems
  dvaojax sweep experiments/shootout.py   compare methods over a grid of short runs
  dvaojax plot runs/arithmetic            draw the figures of a run again
  dvaojax report runs/arithmetic          write everything about a run to one HTML file
  dvaojax export runs/arithmetic out      write the weights for transformers and vLLM
  dvaojax plan --help                     estimate memory and time on a TPU slice, without one
  dvaojax data list                       list the datasets that can be prepared
  dvaojax methods                         list aggregators, losses and allocation rules
  dvaojax train --help                    list the options of a subcommand"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Args:
        argv: arguments without the program's name; by default those of this process.

    Returns:
        The exit code.
    """
    try:
        arguments = parse(argv)
    except UserError as error:
        return fail(str(error), BAD_INPUT)
    code = _run(arguments)
    if arguments.command == "train":
        train.leave(code)
    return code


def _run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand; returns the exit code."""
    try:
        environment.quiet_libraries()
        code = SUBCOMMANDS[arguments.command].run(arguments)
        sys.stdout.flush()  # what it printed may be redirected to a full disk
        return code
    except UserError as error:
        return fail(str(error), BAD_INPUT)
    except ServiceError as error:
        return fail(f"{error}; try again, and continue a run with --resume", RESTART)
    except KeyboardInterrupt:
        return fail("interrupted, nothing more was saved", BY_SIGNAL + signal.SIGINT)
    except BrokenPipeError:
        return last_resort.closed_pipe()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich ends the program
            return last_resort.closed_pipe()
        return fail(f"code outside of dvaojax ended the program: exit({error.code})", FAILED)
    except Exception as error:
        return last_resort.report(error, arguments)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line; `command` of the result is the subcommand's name.

    Without a subcommand it prints the help and exits.

    Raises:
        UserError: the command line cannot be parsed.
    """
    parser = make_parser("dvaojax", about=_ABOUT, examples=_EXAMPLES)
    parser.add_argument("--version", action="version", version=f"dvaojax {dvaojax.__version__}")
    shtab.add_argument_to(
        parser,
        "--print-completion",
        help="print a script that completes commands, options and files in this shell",
    )
    subcommands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for subcommand in SUBCOMMANDS.values():
        subcommand.add_arguments(subcommands)
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        parser.exit()
    return arguments
