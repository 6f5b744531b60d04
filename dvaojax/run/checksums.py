"""Checksums of the files below a directory, in a file that `sha256sum --check` reads as well."""

import re
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dvaojax import files

SUMS = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
_LAST_LINE = "# {} files"


def write_checksums(directory: Path, *, leave_out: Collection[str] = ()) -> None:
    """Writes the SHA-256 of every file below a directory to `SHA256SUMS` in it, atomically.

    Args:
        directory: of the files; symbolic links are not expected.
        leave_out: paths, relative to the directory, that may still change.
    """
    names = sorted(set(_names(directory)) - {SUMS, *leave_out})
    with ThreadPoolExecutor() as threads:  # hashing releases the interpreter's lock
        digests = threads.map(lambda name: files.sha256(directory / name), names)
        lines = [f"{digest}  {name}" for digest, name in zip(digests, names, strict=True)]
    lines.append(_LAST_LINE.format(len(names)))  # shows that nothing is cut off
    files.write_text(directory / SUMS, "\n".join(lines) + "\n")


def find_damage(directory: Path, *, largest: int | None = None) -> str | None:
    """The first difference between the files below a directory and their checksums.

    Files that are not listed are ignored.

    Args:
        directory: for which checksums were written.
        largest: size in bytes above which the content of a file is not compared; None for all.

    Returns:
        The difference, such as "arrays/d/0 is missing"; None if there is none, or if there are no
        checksums: earlier versions wrote none.
    """
    try:
        text = (directory / SUMS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return f"{SUMS} cannot be read"
    *lines, last = text.splitlines() or [""]
    matches = [_LINE.fullmatch(line) for line in lines]
    if last != _LAST_LINE.format(len(lines)) or None in matches:
        return f"{SUMS} is damaged"
    listed = [match.groups() for match in matches if match is not None]
    with ThreadPoolExecutor() as threads:
        differences = threads.map(
            lambda item: _difference(directory, item[1], item[0], largest=largest), listed
        )
        return next((difference for difference in differences if difference is not None), None)


def _difference(directory: Path, name: str, digest: str, *, largest: int | None) -> str | None:
    path = directory / name
    try:
        if largest is not None and path.stat().st_size > largest:
            return None
        return None if files.sha256(path) == digest else f"{name} differs from its checksum"
    except FileNotFoundError:
        return f"{name} is missing"
    except (OSError, ValueError) as error:
        return f"{name} cannot be read: {getattr(error, 'strerror', None) or error}"


def _names(directory: Path) -> Iterator[str]:
    """Paths of all files, relative to the directory."""
    for path in directory.rglob("*"):
        if path.is_file():
            yield path.relative_to(directory).as_posix()
