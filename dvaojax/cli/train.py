"""`dvaojax train`: an experiment from its start, or its last checkpoint, to its report."""

import argparse
import os

import jax

from dvaojax.cli.answers import BY_SIGNAL, FAILED, answer
from dvaojax.config import Config, overrides
from dvaojax.errors import UserError
from dvaojax.rewards import RewardError
from dvaojax.train import Interrupted, TrainingError, train


def run(arguments: argparse.Namespace) -> int:
    """Runs the experiment that the arguments describe; returns the exit code."""
    if arguments.distributed:
        _meet()
    config = _config(arguments)
    if arguments.settings:
        print(*overrides.settings(config), sep="\n")
        return 0
    try:
        train(config, arguments.runs, start=arguments.start)
    except Interrupted as stop:
        return answer(str(stop), BY_SIGNAL + stop.signal_number)
    except (TrainingError, RewardError) as failure:
        return answer(str(failure), FAILED)
    return 0


def _meet() -> None:
    """Makes this process one of several, before JAX has looked for devices.

    Raises:
        UserError: the others cannot be found.
    """
    count, index = (os.environ.get(f"JAX_{name}") for name in ("NUM_PROCESSES", "PROCESS_ID"))
    try:
        jax.distributed.initialize(
            num_processes=None if count is None else int(count),
            process_id=None if index is None else int(index),
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"--distributed: {reason}") from error


def _config(arguments: argparse.Namespace) -> Config:
    """The experiment's configuration with the command line's settings."""
    if arguments.experiment is not None:
        config = overrides.load_experiment(arguments.experiment, function=arguments.function)
    elif arguments.function == "get_config":
        config = Config()
    else:
        raise UserError("--smoke needs an experiment file")
    if not isinstance(config, Config):
        what = f"{type(config).__module__}.{type(config).__qualname__}"
        raise UserError(f"{arguments.experiment}: {arguments.function}() returned a {what}")
    name = [] if arguments.name is None else [f"name={arguments.name}"]
    return overrides.apply(config, [*arguments.changes, *name])
