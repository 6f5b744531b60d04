"""What can be written on the command line, and the help that explains it: a file for each door."""

import argparse
from collections.abc import Sequence

import dvaojax
from dvaojax.cli.arguments import data, evaluate, export, methods, plan, plot, report, sweep, train
from dvaojax.cli.arguments.parser import make_parser

_ABOUT = """\
Multi-reward reinforcement learning for language models.

A run samples groups of completions, scores them on several objectives, turns the
rewards into advantages (DVAO by default) and takes policy-gradient steps. It keeps
everything it makes in one directory, runs/NAME."""

_START = """\
Start here:
  dvaojax train                           the embedded task, a few minutes on a laptop
  dvaojax evaluate runs/arithmetic        measure it once more, on held-out problems
  dvaojax sweep experiments/shootout.py   compare methods, situation by situation
  dvaojax plot runs/arithmetic            draw its pictures again
  dvaojax report runs/arithmetic          one page with everything it did
  dvaojax export runs/arithmetic out      write its weights as transformers reads them
  dvaojax plan --help                     what a run would take on a TPU slice, without one
  dvaojax data list                       sets of problems that can be prepared
  dvaojax methods                         what there is to choose from, and what holds of it
  dvaojax train --help                    what else there is to say to a command"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a command; `door` names the command.

    Raises:
        UserError: they cannot be understood.
    """
    parser = make_parser("dvaojax", about=_ABOUT, examples=_START)
    parser.add_argument("--version", action="version", version=f"dvaojax {dvaojax.__version__}")
    commands = parser.add_subparsers(dest="door", metavar="COMMAND", required=True)
    for door in (train, evaluate, sweep, plot, report, export, plan, data, methods):
        door.add(commands)
    return parser.parse_args(argv)
