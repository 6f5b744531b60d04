"""`dvaojax export`: writes a checkpoint of a run in the format of published models."""

import argparse
from typing import TYPE_CHECKING

from dvaojax.cli.lazy import LazyModule
from dvaojax.cli.parser import Subcommands, add_checkpoint, add_subcommand, local_path, run_path

if TYPE_CHECKING:
    from dvaojax.cli import policy_source
    from dvaojax.run import directory as run_directory
    from dvaojax.train import export
else:
    policy_source = LazyModule("dvaojax.cli.policy_source")
    run_directory = LazyModule("dvaojax.run.directory")
    export = LazyModule("dvaojax.train.export")

_ABOUT = """\
Write a checkpoint of a run in the format of published models: config.json, safetensors,
and the tokenizer's files with the chat template. transformers and vLLM load the
directory. DIR appears when it is complete; an existing directory is not changed."""

_EXAMPLES = """\
Examples:
  dvaojax export runs/arithmetic exported
  dvaojax export runs/mine exported --best --dtype bfloat16
  dvaojax export runs/mine exported --experiment mine.py   a task defined in mine.py"""


def add_arguments(subcommands: Subcommands) -> None:
    """Adds the subcommand."""
    parser = add_subcommand(
        subcommands,
        "export",
        "write a checkpoint in the format of published models",
        about=_ABOUT,
        examples=_EXAMPLES,
    )
    parser.add_argument("run", type=run_path, metavar="RUN", help="a run's directory, runs/NAME")
    parser.add_argument("directory", type=local_path, metavar="DIR", help="a new directory")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="data type of the written weights (default: that of the parameters)",
    )
    add_checkpoint(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes the checkpoint and prints a summary line; returns the exit code."""
    with run_directory.read([arguments.run]) as (directory,):
        config = policy_source.recorded_config(directory.path, arguments.experiment)
    print(
        export.export_checkpoint(
            config,
            arguments.run,
            arguments.directory,
            dtype=arguments.dtype,
            step=arguments.step,
            best=arguments.best,
        )
    )
    return 0
