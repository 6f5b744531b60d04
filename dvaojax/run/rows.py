"""Reading of `metrics.jsonl`, including files of earlier versions."""

from pathlib import Path
from typing import Any

from dvaojax import files

# Metrics that were renamed: name in earlier versions -> name today.
RENAMED_METRICS = {"silent_groups": "zero_variance_groups"}  # language: quoted


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, one per step, under today's names.

    A resumed run may have rows with both old and new names.

    Raises:
        UserError: there is no such file, or a line is not a JSON object with a step.
    """
    return [
        {RENAMED_METRICS.get(name, name): value for name, value in row.items()}
        for row in files.read_json_lines(path)
    ]
