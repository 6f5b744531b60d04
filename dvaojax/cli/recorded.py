"""The configuration of a run that was made before."""

from pathlib import Path

from dvaojax import config as configuration
from dvaojax.config import Config, overrides
from dvaojax.run import directory as run_directory


def recorded_config(run: Path, experiment: Path | None) -> Config:
    """What a run recorded.

    Args:
        run: its directory.
        experiment: the file that defines its task, if the task is not part of dvaojax.

    Raises:
        UserError: there is no run, or its configuration cannot be read.
    """
    classes = []
    if experiment is not None:
        loaded = overrides.load_experiment(experiment)
        classes = [type(getattr(loaded, "task", loaded))]
    return configuration.config_from_json(run_directory.read_config(run), classes=classes)
