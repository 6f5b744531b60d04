"""`dvaojax train`: runs an experiment, from its start or from its last checkpoint."""

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvaojax.cli.exit_codes import FAILED, fail, interrupted
from dvaojax.cli.lazy import LazyModule
from dvaojax.cli.parser import Subcommands, add_settings, add_subcommand, local_path, run_path
from dvaojax.errors import UserError, first_line

if TYPE_CHECKING:
    import jax

    from dvaojax import config, rewards, train
    from dvaojax.cli import settings_page
    from dvaojax.config import overrides, smoke
    from dvaojax.train import host_watch
else:
    jax = LazyModule("jax")
    config = LazyModule("dvaojax.config")
    overrides = LazyModule("dvaojax.config.overrides")
    rewards = LazyModule("dvaojax.rewards")
    settings_page = LazyModule("dvaojax.cli.settings_page")
    smoke = LazyModule("dvaojax.config.smoke")
    train = LazyModule("dvaojax.train")
    host_watch = LazyModule("dvaojax.train.host_watch")

_ABOUT = """\
Run an experiment from start to end. runs/NAME then has metrics, completions, checkpoints,
figures, and a summary with the evaluations before and after training.

Without EXPERIMENT.py this is the built-in task: a small decoder learns to write out
sums, is scored on accuracy, brevity and format, and needs a few minutes on two cores.

Ctrl-C or SIGTERM finishes the step, saves, and prints how to resume."""

_EXAMPLES = """\
Examples:
  dvaojax train
  dvaojax train --set aggregator=gdpo --name gdpo
  dvaojax train --set optimizer.learning_rate=3e-4 weights.brevity=0.5 --name gentle
  dvaojax train --name gdpo --set aggregator=gdpo --resume
  dvaojax train --resume=auto        starts the run, or continues it if there is one
  dvaojax train experiments/arithmetic.py --smoke
  dvaojax train --settings           every key of --set: value, meaning, choices"""


_HEARTBEAT_SECONDS = 660  # more than the largest `lost_host_seconds`


def add_arguments(subcommands: Subcommands) -> None:
    """Adds the subcommand."""
    parser = add_subcommand(
        subcommands, "train", "run an experiment", about=_ABOUT, examples=_EXAMPLES
    )
    parser.add_argument(
        "experiment",
        nargs="?",
        type=local_path,
        metavar="EXPERIMENT.py",
        help="a Python file with a function get_config() (default: the built-in task)",
    )
    parser.add_argument(
        "--smoke",
        action="store_const",
        dest="function",
        const="get_smoke_config",
        default="get_config",
        help="run the experiment in miniature: as get_smoke_config() of the file returns it, or "
        "with two steps and a narrow decoder where the file has no such function",
    )
    add_settings(parser, "replace settings; --settings lists them")
    parser.add_argument("--name", help="of the run, the same as --set name=NAME")
    parser.add_argument(
        "--runs",
        type=run_path,
        default=Path("runs"),
        metavar="DIR",
        help="parent of the run's directory, also gs://BUCKET/DIR (default: runs)",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--resume",
        action="store_const",
        dest="start",
        const="resume",
        default="create",
        help="continue the run of that name from its newest checkpoint, with the same settings",
    )
    start.add_argument(
        "--resume=auto",
        action="store_const",
        dest="start",
        const="auto",
        help="continue the run of that name if there is one, and else start it: the same command "
        "can be repeated until it ends with exit code 0",
    )
    start.add_argument(
        "--overwrite",
        action="store_const",
        dest="start",
        const="overwrite",
        help="delete the run of that name first",
    )
    parser.add_argument(
        "--from-step",
        type=int,
        metavar="N",
        help="with --resume: continue from the checkpoint of step N instead of the newest that is "
        "whole; later checkpoints, metrics and samples are deleted",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="run as one of several processes, started with the same command on every host; they "
        "find each other on Cloud TPU, Slurm, Open MPI and Kubernetes, and elsewhere through "
        "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID; runs/NAME must be on a "
        "shared file system or in a bucket",
    )
    parser.add_argument(
        "--settings",
        action="store_true",
        help="print every setting with its value, meaning and choices, and exit",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the experiment; returns the exit code.

    Raises:
        UserError: the command line, the experiment or the run's directory do not fit.
    """
    if arguments.distributed:
        _join_processes()
    loaded = _experiment(arguments)
    name = [] if arguments.name is None else [f"name={arguments.name}"]
    experiment = overrides.apply(loaded, [*arguments.changes, *name])
    if arguments.settings:
        print(settings_page.page(experiment, defaults=loaded))
        return 0
    if arguments.from_step is not None and arguments.start != "resume":
        raise UserError("--from-step needs --resume")
    arguments.directory_of_run = arguments.runs / experiment.name
    try:
        train.train(
            experiment, arguments.runs, start=arguments.start, from_step=arguments.from_step
        )
    except train.Interrupted as stop:
        return fail(str(stop), interrupted(stop.signal_number))
    except (train.TrainingError, rewards.RewardError) as error:
        return fail(str(error), FAILED)
    return 0


def leave(code: int) -> None:
    """Ends the process at once if it failed as one of several, which JAX would wait for.

    Args:
        code: the exit code.
    """
    if code and "jax" in sys.modules and not host_watch.ended_well():
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _join_processes() -> None:
    """Makes this process one of several; must run before JAX looks for devices.

    Raises:
        UserError: the other processes cannot be reached.
    """
    count, index = (os.environ.get(f"JAX_{name}") for name in ("NUM_PROCESSES", "PROCESS_ID"))
    try:
        jax.distributed.initialize(
            num_processes=None if count is None else int(count),
            process_id=None if index is None else int(index),
            # A run finds out sooner: see `train.host_watch`.
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(f"--distributed: {first_line(error)}") from error


def _experiment(arguments: argparse.Namespace) -> "config.Config":
    """The experiment's configuration, or its miniature, without `--set`."""
    path, function = arguments.experiment, arguments.function
    if path is None:
        loaded = config.Config()
        return loaded if function == "get_config" else smoke.miniature(loaded)
    otherwise = None if function == "get_config" else _miniature
    loaded = overrides.load_experiment(path, function=function, otherwise=otherwise)
    if not isinstance(loaded, config.Config):
        kind = f"{type(loaded).__module__}.{type(loaded).__qualname__}"
        raise UserError(f"{path}: {function}() returned a {kind}")
    return loaded


def _miniature(loaded: Any) -> Any:
    """The miniature of a configuration; anything else is returned for the check of the caller."""
    return smoke.miniature(loaded) if isinstance(loaded, config.Config) else loaded
