"""`dvaojax evaluate`: measures a policy on held-out problems, continuing where it was stopped."""

import argparse
from typing import TYPE_CHECKING

from dvaojax.cli.exit_codes import FAILED, fail
from dvaojax.cli.lazy import LazyModule
from dvaojax.cli.parser import Subcommands, add_checkpoint, add_settings, add_subcommand, run_path

if TYPE_CHECKING:
    from dvaojax import rewards
    from dvaojax.cli import evaluation
else:
    rewards = LazyModule("dvaojax.rewards")
    evaluation = LazyModule("dvaojax.cli.evaluation")

_ABOUT = """\
Evaluate a checkpoint of a run or a published model on held-out problems: avg@n, pass@k
and, for tasks whose answers can be compared, maj@n of every objective, over all problems
and by category, each with its 95 % interval over the problems.

Completions and numbers are kept in a directory below RUN/evaluations. The same command
continues an interrupted evaluation, and prints a finished one again."""

_EXAMPLES = """\
Examples:
  dvaojax evaluate runs/arithmetic
  dvaojax evaluate runs/arithmetic --samples 8 --pass-at 1 4 8
  dvaojax evaluate runs/arithmetic --preset dvao          sampled as in the paper
  dvaojax evaluate runs/arithmetic --best --set evaluation.sampling.temperature=0.6
  dvaojax evaluate runs/arithmetic --task arithmetic --set task.digits=4
  dvaojax evaluate runs/mine --experiment mine.py         a task defined in mine.py"""


def add_arguments(subcommands: Subcommands) -> None:
    """Adds the subcommand."""
    parser = add_subcommand(
        subcommands, "evaluate", "evaluate a checkpoint", about=_ABOUT, examples=_EXAMPLES
    )
    parser.add_argument(
        "policy",
        type=run_path,
        metavar="RUN_OR_CHECKPOINT",
        help="a run's directory, runs/NAME; or a published model, a directory or OWNER/NAME",
    )
    parser.add_argument(
        "--samples",
        type=int,
        metavar="K",
        help="completions of each problem; their mean is avg@K (default: as in the run)",
    )
    parser.add_argument(
        "--pass-at",
        type=int,
        nargs="+",
        metavar="K",
        help="the k of pass@k (default: 1 and the number of samples)",
    )
    parser.add_argument(
        "--pass-threshold",
        type=float,
        default=1.0,
        metavar="R",
        help="a completion passes an objective with a reward of at least R (default: 1)",
    )
    parser.add_argument(
        "--task",
        metavar="NAME",
        help="evaluate on this task (default: the run's own; required for a published model)",
    )
    parser.add_argument(
        "--preset", metavar="NAME", help="settings of a paper: dvao, dvao-tools, gdpo"
    )
    parser.add_argument(
        "--out",
        type=run_path,
        metavar="DIR",
        help="directory of this evaluation (default: one below RUN/evaluations or evaluations)",
    )
    add_settings(parser, "replace settings of evaluation, mesh, rewards or task")
    add_checkpoint(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluates the policy and prints the results; returns the exit code."""
    try:
        evaluation.evaluate(arguments)
    except rewards.RewardError as error:
        return fail(str(error), FAILED)
    return 0
