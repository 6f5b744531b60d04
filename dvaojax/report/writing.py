"""Where a report is written, and what it does not overwrite."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dvaojax import files
from dvaojax.errors import UserError
from dvaojax.report.contents import read_runs
from dvaojax.report.page import SIGN, page

Replaceable = Literal["reports", "anything"]

_NEAR_THE_BEGINNING = 1024  # bytes


def write_report(
    runs: Sequence[Path], output: Path | None = None, *, replaces: Replaceable = "reports"
) -> Path:
    """Writes the report of one or several runs, whole or not at all.

    Args:
        runs: run directories, finished or not, at least one; what a run lacks is told in its place.
        output: the file; by default `RUN/report.html` of one run, `report.html` of several.
        replaces: what may stand there already: earlier reports, or any file.

    Returns:
        The file.

    Raises:
        UserError: a directory is not a run, or the file cannot be written, or is not a report.
    """
    alone = runs[0] / files.REPORT if len(runs) == 1 else Path(files.REPORT)
    file = alone if output is None else output
    contents = read_runs(runs)
    _check(file, replaces)
    text = page(contents, now=datetime.datetime.now(datetime.UTC))
    try:
        files.write_text(file, text)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    return file


def _check(file: Path, replaces: Replaceable) -> None:
    """Whether a report may stand there."""
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent}")
    if file.is_dir():
        raise UserError(f"{file} is a folder; name a file")
    if replaces == "reports" and file.exists() and not _is_report(file):
        raise UserError(f"{file} is not a report: --overwrite replaces it, --output names another")


def _is_report(file: Path) -> bool:
    with file.open("rb") as opened:
        return SIGN.encode() in opened.read(_NEAR_THE_BEGINNING)
