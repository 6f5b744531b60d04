"""Writes a report; existing files are replaced only if they are reports."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dvaojax import files
from dvaojax.errors import UserError, writing
from dvaojax.report.contents import read_runs
from dvaojax.report.page import SIGN, page

Replaceable = Literal["reports", "anything"]

_SEARCHED_BYTES = 1024  # at the beginning of a file


def write_report(
    runs: Sequence[Path], output: Path | None = None, *, replaces: Replaceable = "reports"
) -> Path:
    """Writes the report of one or several runs, atomically.

    Args:
        runs: run directories, at least one, finished or not; the report notes missing parts.
        output: the file; by default `RUN/report.html` for one run, `report.html` for several.
        replaces: which existing files may be replaced: earlier reports, or any file.

    Returns:
        The path of the file.

    Raises:
        UserError: a directory is not a run, the file cannot be written, or it exists and is not a
            report.
    """
    default = runs[0] / files.REPORT if len(runs) == 1 else Path(files.REPORT)
    file = default if output is None else output
    contents = read_runs(runs)
    _check(file, replaces)
    text = page(contents, now=datetime.datetime.now(datetime.UTC))
    with writing(file):
        files.write_text(file, text)
    return file


def _check(file: Path, replaces: Replaceable) -> None:
    """Checks that the report may be written there."""
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent}")
    if file.is_dir():
        raise UserError(f"{file} is a folder; name a file")
    if replaces == "reports" and file.exists() and not _is_report(file):
        raise UserError(
            f"{file} is not a report: replace it with --overwrite, or choose another --out"
        )


def _is_report(file: Path) -> bool:
    with file.open("rb") as opened:
        return SIGN.encode() in opened.read(_SEARCHED_BYTES)
