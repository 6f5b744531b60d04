"""`dvaojax train`: an experiment from its start, or its last checkpoint, to its report."""

import argparse

from dvaojax import overrides
from dvaojax.cli.answers import BY_SIGNAL, FAILED, answer
from dvaojax.config import Config
from dvaojax.errors import UserError
from dvaojax.rewards import RewardError
from dvaojax.train import Interrupted, TrainingError, train


def run(arguments: argparse.Namespace) -> int:
    """Runs the experiment that the arguments describe; returns the exit code."""
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
