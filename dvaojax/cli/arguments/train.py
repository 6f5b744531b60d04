"""What can be written behind `dvaojax train`."""

from pathlib import Path

from dvaojax.cli.arguments.parser import Doors, add_door, add_settings

_ABOUT = """\
Run an experiment from its start to its report: metrics, completions, checkpoints,
pictures and a summary with the evaluation before and after, in runs/NAME.

Without EXPERIMENT.py this is the embedded task: a small decoder learns to write out
sums, is scored on accuracy, brevity and format, and needs a few minutes on two cores.

Ctrl-C or SIGTERM finishes the step, saves, and says how to resume."""

_EXAMPLES = """\
Examples:
  dvaojax train
  dvaojax train --set aggregator=gdpo --name gdpo
  dvaojax train --set optimizer.learning_rate=3e-4 weights.brevity=0.5 --name gentle
  dvaojax train --name gdpo --set aggregator=gdpo --resume
  dvaojax train experiments/arithmetic.py --smoke
  dvaojax train --settings           every key that --set takes, with its value"""


def add(doors: Doors) -> None:
    """Adds the command to the others."""
    parser = add_door(doors, "train", "run an experiment", about=_ABOUT, examples=_EXAMPLES)
    parser.add_argument(
        "experiment",
        nargs="?",
        type=Path,
        metavar="EXPERIMENT.py",
        help="a Python file with a function get_config(); the embedded task by default",
    )
    parser.add_argument(
        "--smoke",
        action="store_const",
        dest="function",
        const="get_smoke_config",
        default="get_config",
        help="the experiment in miniature: what its get_smoke_config() returns",
    )
    add_settings(parser, "replace settings; --settings lists them")
    parser.add_argument("--name", help="of the run, the same as --set name=NAME")
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where the run's directory stands (default: runs)",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--resume",
        action="store_const",
        dest="start",
        const="resume",
        default="create",
        help="continue the run of that name from its last checkpoint, with the same settings",
    )
    start.add_argument(
        "--overwrite",
        action="store_const",
        dest="start",
        const="overwrite",
        help="delete the run of that name first",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes, started alike on every host: they find each other on "
        "Cloud TPU, Slurm, Open MPI and Kubernetes, and elsewhere by JAX_COORDINATOR_ADDRESS, "
        "JAX_NUM_PROCESSES and JAX_PROCESS_ID; runs/NAME lies on a file system they share",
    )
    parser.add_argument(
        "--settings", action="store_true", help="print every setting with its value, and stop"
    )
