"""Writes a report; existing files are replaced only if they are reports."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from etils import epath

from dvaojax import files
from dvaojax.errors import UserError, writing
from dvaojax.report.contents import read_runs
from dvaojax.report.page import SIGN, page
from dvaojax.run import directory as run_directory
from dvaojax.run.bucket import Bucket

Replaceable = Literal["reports", "anything"]

_SEARCHED_BYTES = 1024  # at the beginning of a file


def write_report(
    runs: Sequence[Path | epath.Path],
    output: Path | epath.Path | None = None,
    *,
    replaces: Replaceable = "reports",
) -> Path | epath.Path:
    """Writes the report of one or several runs, atomically.

    Args:
        runs: run directories, at least one, finished or not, also in buckets; the report notes
            missing parts.
        output: the file, also in a bucket; by default `RUN/report.html` for one run, `report.html`
            for several.
        replaces: which existing files may be replaced: earlier reports, or any file.

    Returns:
        The path of the file.

    Raises:
        UserError: a directory is not a run, the file cannot be written, or it exists and is not a
            report.
    """
    default = runs[0] / files.REPORT if len(runs) == 1 else Path(files.REPORT)
    file = default if output is None else output
    with run_directory.read(runs) as directories:
        contents = read_runs(directories)
        _check(file, replaces)
        text = page(contents, now=datetime.datetime.now(datetime.UTC))
    if not isinstance(file, Path):
        Bucket(file.parent).write(file.name, text.encode())
        return file
    with writing(file):
        files.write_text(file, text)
    return file


def _check(file: Path | epath.Path, replaces: Replaceable) -> None:
    """Checks that the report may be written there."""
    if not isinstance(file, Path):
        content = Bucket(file.parent).read(file.name)
        if replaces == "reports" and content is not None and not _has_sign(content):
            raise _not_a_report(file)
        return
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent}")
    if file.is_dir():
        raise UserError(f"{file} is a folder; name a file")
    if replaces == "reports" and file.exists():
        with file.open("rb") as opened:
            if not _has_sign(opened.read(_SEARCHED_BYTES)):
                raise _not_a_report(file)


def _has_sign(content: bytes) -> bool:
    """Whether the content of a file is that of a report."""
    return SIGN.encode() in content[:_SEARCHED_BYTES]


def _not_a_report(file: Path | epath.Path) -> UserError:
    return UserError(
        f"{file} is not a report: replace it with --overwrite, or choose another --out"
    )
