"""Logging to Weights & Biases; requires the extra `wandb`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvaojax.errors import import_extra, printable


class WandB:
    """A sink that logs to one Weights & Biases run, continued under the same id on a resume.

    Weights & Biases cannot delete rows. For steps that a resumed run repeats it keeps the first
    values, which equal the repeated ones.
    """

    def __init__(self, directory: Path, *, project: str, name: str, config: Mapping[str, Any]):
        """Opens or continues the run.

        Args:
            directory: the run directory, in which wandb stores its own files.
            project: the run's project.
            name: the run's name and id within the project.
            config: the resolved configuration, as in `config.json`.

        Raises:
            UserError: wandb is not installed.
        """
        wandb = import_extra("wandb", extra="wandb")
        self._run = wandb.init(
            dir=directory, project=project, name=name, id=name, config=config, resume="allow"
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Logs a row."""
        self._run.log({printable(name): value for name, value in values.items()}, step=step)

    def truncate_after(self, step: int) -> None:
        """Does nothing: the service ignores repeated steps."""

    def close(self) -> None:
        """Finishes the run."""
        self._run.finish()
