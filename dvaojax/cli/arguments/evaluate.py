"""What can be written behind `dvaojax evaluate`."""

from pathlib import Path

from dvaojax.cli.arguments.parser import Doors, add_checkpoint, add_door, add_settings

_ABOUT = """\
Measure a run's checkpoint or a published model on held-out problems: avg@n, pass@k and,
where answers can be compared, maj@n of every objective, over all problems and by category,
each with its 95 % interval over the problems.

Completions and numbers are kept in a directory of RUN/evaluations. The same command
goes on where it was stopped, and shows an evaluation that is finished once more."""

_EXAMPLES = """\
Examples:
  dvaojax evaluate runs/arithmetic
  dvaojax evaluate runs/arithmetic --samples 8 --pass-at 1 4 8
  dvaojax evaluate runs/arithmetic --preset dvao          as the paper draws them
  dvaojax evaluate runs/arithmetic --best --set evaluation.sampling.temperature=0.6
  dvaojax evaluate runs/arithmetic --task arithmetic --set task.digits=4
  dvaojax evaluate runs/mine --experiment mine.py         a task of your own"""


def add(doors: Doors) -> None:
    """Adds the command to the others."""
    parser = add_door(doors, "evaluate", "measure a checkpoint", about=_ABOUT, examples=_EXAMPLES)
    parser.add_argument(
        "policy",
        type=Path,
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
        "--task", metavar="NAME", help="instead of the run's own; a published model has none"
    )
    parser.add_argument(
        "--preset", metavar="NAME", help="a paper's setting: dvao, dvao-tools, gdpo"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="the evaluation's own directory (default: one in RUN/evaluations or evaluations)",
    )
    add_settings(parser, "replace settings of evaluation, mesh, rewards or task")
    add_checkpoint(parser)
