"""Rows to Weights & Biases, for who installed `dvaojax[wandb]`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvaojax.errors import import_extra


class WandB:
    """A sink that logs to one Weights & Biases run, continued under the same id on a resume.

    Weights & Biases forgets nothing: of steps that a resumed run repeats it keeps the first
    values, which equal the second ones.
    """

    def __init__(self, directory: Path, *, project: str, name: str, config: Mapping[str, Any]):
        """Opens or continues the run.

        Args:
            directory: the run directory; the service's own files go there.
            project: the project the run is listed under.
            name: the run's name and id within the project.
            config: the resolved configuration, as `config.json` holds it.

        Raises:
            UserError: wandb is not installed.
        """
        wandb = import_extra("wandb", extra="wandb")
        self._run = wandb.init(
            dir=directory, project=project, name=name, id=name, config=config, resume="allow"
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Logs a row under its step."""
        self._run.log(dict(values), step=step)

    def truncate_after(self, step: int) -> None:
        """Nothing to do: repeated steps are ignored by the service."""

    def close(self) -> None:
        """Ends the run there."""
        self._run.finish()
