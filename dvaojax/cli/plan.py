"""`dvaojax plan`: memory and time of a run on TPUs or GPUs, estimated without them."""

import argparse
from typing import TYPE_CHECKING

from dvaojax.cli.lazy import LazyModule
from dvaojax.cli.parser import Subcommands, add_settings, add_subcommand, local_path, positive

if TYPE_CHECKING:
    from dvaojax.plan import command
else:
    command = LazyModule("dvaojax.plan.command")

_ABOUT = """\
Compile a run's rollout and train step for a TPU slice or for GPUs, on a machine without
them, and print whether it fits, the memory of a chip by part, floating-point operations,
collectives, and two estimates of the time: a roofline, and that of the compiled programs.
If it does not fit, search other meshes, remat policies and micro-batches for a layout
that does.

TPU chips are v5e, v5p and v6e; GPUs a100, l4, h100, h200 and b200: h100:8 is one host
with eight, h100:2x8 two hosts. Needs, in the checkout of dvaojax, for TPUs:
pip install '.[plan]'; for GPUs: pip install '.[plan-cuda]'."""

_EXAMPLES = """\
Examples:
  dvaojax plan --model qwen3-8b --topology v5p:4x4x4 --prompts 128 --group-size 16 \\
      --prompt-length 1024 --completion-length 7168 --steps 500
  dvaojax plan --experiment mine.py --topology v6e:8x8 --set model.remat=none
  dvaojax plan --model qwen3-1.7b --topology h100:8 --prompt-length 512 \\
      --completion-length 1024 --set mesh.fsdp=8 --profile --hlo compiled"""


def add_arguments(subcommands: Subcommands) -> None:
    """Adds the subcommand."""
    parser = add_subcommand(
        subcommands,
        "plan",
        "estimate a run's memory and time on TPUs or GPUs",
        about=_ABOUT,
        examples=_EXAMPLES,
    )
    parser.add_argument(
        "--topology",
        required=True,
        metavar="CHIP:SHAPE",
        help="such as v5p:4x4x4, 2xv5p:4x4x4 (slices), h100:8 or h100:2x8 (hosts x GPUs)",
    )
    parser.add_argument("--model", help="a published decoder, such as qwen3-8b")
    parser.add_argument(
        "--experiment",
        type=local_path,
        metavar="EXPERIMENT.py",
        help="a file with a function get_config(), the defaults of the other options",
    )
    for name, help_text in (
        ("prompts", "prompts per step"),
        ("group-size", "completions per prompt"),
        ("prompt-length", "tokens that prompts are padded to"),
        ("completion-length", "maximum number of tokens of a completion"),
        ("steps", "steps of the run, to print the hours it needs"),
    ):
        parser.add_argument(f"--{name}", type=positive, metavar="N", help=help_text)
    parser.add_argument(
        "--quick",
        action="store_const",
        dest="effort",
        const=-1.0,
        default=0.0,
        help="compile with few optimisations: overestimates memory and collectives, and gives "
        "no compiler's estimate of the time",
    )
    add_settings(parser, "replace settings, including those of mesh, learning and model")
    parser.add_argument(
        "--profile",
        action="store_true",
        help="also print the operations that take the most time, with their lines of source code",
    )
    parser.add_argument(
        "--hlo",
        type=local_path,
        metavar="DIR",
        help="also write the compiled programs to DIR: update.hlo and rollout.hlo",
    )
    parser.add_argument(
        "--json", type=local_path, metavar="FILE", help="also write the numbers to FILE"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the plan; returns the exit code."""
    command.plan(arguments)
    return 0
