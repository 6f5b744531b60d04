"""Crash-safe files: atomic JSON and text files, and JSON-lines files that repair their last line.

The names of the files in a run directory are also defined here, since the packages that write and
read them do not import each other.
"""

import contextlib
import ctypes
import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dvaojax.errors import UserError, writing

CONFIG = "config.json"
METRICS = "metrics.jsonl"
SAMPLES = "samples.jsonl"
SUMMARY = "summary.json"
EVALUATIONS = "evaluations"
TENSORBOARD = "tensorboard"
CHECKPOINTS = "checkpoints"
PLOTS = "plots"
ERRORS = "error.log"
REPORT = "report.html"
WANDB = "wandb"

# File systems allow 255 bytes.
_PLAIN = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.,=@+ -]{0,250}")

_MAX_DEPTH = 100  # of the JSON files that are read whole


class JsonLines:
    """A JSON-lines file: one object per line, each with a `step`.

    Every line is passed to the operating system before `write` returns, so a killed process loses
    at most the line it was writing. An incomplete line is removed when the file is opened again.
    NaN and infinities are written as null, which every JSON reader accepts.
    """

    def __init__(self, path: Path):
        """Opens the file for appending, and creates it if it does not exist."""
        self._path = path
        _repair_last_line(path)
        self._file = path.open("ab", buffering=0)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends one line with the step followed by the values, in their order.

        Raises:
            OSError: the line could not be written, for example on a full disk; no part of it stays.
        """
        text = json.dumps(_finite({"step": step, **values}), ensure_ascii=False, allow_nan=False)
        line, size = memoryview(text.encode() + b"\n"), self._file.seek(0, io.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError:
            self._file.truncate(size)
            raise

    def truncate_after(self, step: int) -> None:
        """Removes the lines of later steps, which a resumed run writes again.

        Raises:
            UserError: a line is not a JSON object with a step.
        """
        end = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if _parse_line(self._path, number, line)["step"] > step:
                    break
                end += len(line)
        self._file.truncate(end)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, without an incomplete last line.

    Raises:
        UserError: the file cannot be read, or a line is not a JSON object with a step.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    return [_parse_line(path, number, line) for number, line in enumerate(lines, start=1)]


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically, as `write_text` does."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file atomically, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically: readers see the old content or the new, never a part.

    Raises:
        OSError: it cannot be written, for example on a full disk; the old content stays.
    """
    temporary = partial_path(path)
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        error.filename = error.filename or str(path)
        raise


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def removing_empty(path: Path) -> Iterator[None]:
    """Removes what the body created of a directory and its parents, where that is left empty."""
    new = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    try:
        yield
    finally:
        for folder in new:
            with contextlib.suppress(OSError):  # not empty, or never created
                folder.rmdir()


@contextlib.contextmanager
def creating(path: Path) -> Iterator[None]:
    """Creates a directory with its parents, if it is not there.

    If the body fails, everything that was created is removed again.

    Raises:
        UserError: something cannot be written there.
    """
    is_new = not os.path.lexists(path)
    with removing_empty(path):
        try:
            with writing(path):
                path.mkdir(parents=True, exist_ok=True)
                yield
        except BaseException:
            if is_new:
                shutil.rmtree(path, ignore_errors=True)
            raise


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Creates a directory atomically: a temporary one is yielded, and renamed to `path` on success.

    Raises:
        UserError: `path` already exists.
    """
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists and is not overwritten; choose another path")
    temporary = partial_path(path)
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def is_plain_name(name: Any) -> bool:
    """Whether a value, read from a file, is a usual name of a file, without a directory."""
    return isinstance(name, str) and _PLAIN.fullmatch(name) is not None and name not in (".", "..")


def exchange(new: Path, path: Path) -> None:
    """Puts a directory in the place of another one, which gets the path of the first.

    On Linux this is one step, so that readers and a kill see one of the two directories complete.
    Elsewhere, and on file systems that cannot exchange, the place is empty for a moment. If nothing
    is at `path`, the directory is only moved.

    Raises:
        OSError: the directories are on different file systems, or cannot be written.
    """
    if not os.path.lexists(path):
        new.rename(path)
    elif not _exchanged(new, path):
        aside = new.with_name(f"{new.name}.before")
        path.rename(aside)
        new.rename(path)
        aside.rename(new)


def _exchanged(first: Path, second: Path) -> bool:
    """Whether the operating system exchanged two paths; false if it cannot."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    here, exchange_flag = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    if call(here, os.fsencode(first), here, os.fsencode(second), exchange_flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(second))


def partial_path(path: Path) -> Path:
    """The temporary path of a file or directory that is being written; may remain after a kill."""
    return path.with_name(f".{path.name}.partial")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: the file cannot be read, is not a regular file, or is not JSON.
    """
    try:
        if path.exists() and not path.is_file():  # reading a named pipe would wait for ever
            raise UserError(f"{path} is not a regular file")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{path} is not JSON: it is nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if _depth_exceeds(value, _MAX_DEPTH):
        raise UserError(f"{path} is nested more than {_MAX_DEPTH} levels deep")
    return value


class RepeatedKey(ValueError):
    """A key occurs twice in a JSON object."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object of these pairs; for `object_pairs_hook` of `json.loads`.

    Raises:
        RepeatedKey: a key is repeated, of which `json` would keep the last value.
    """
    value = dict(pairs)
    if len(value) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise RepeatedKey(f"the key {name!r} is repeated")
    return value


def _depth_exceeds(value: Any, limit: int) -> bool:
    """Whether lists and objects are nested more deeply than a function may call itself."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _repair_last_line(path: Path) -> None:
    """Adds a missing newline to a complete last line, and removes an incomplete one."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        start = content.rfind(b"\n") + 1
        if start == len(content):
            return
        try:
            # Fails for a truncated object, which lacks its closing brace.
            json.loads(content[start:])
            file.write(b"\n")
        except (ValueError, RecursionError):
            file.truncate(start)


def _parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        raise UserError(
            f"{path}:{number} is not a JSON object with a step: mend or remove that line"
        )
    return row


def _finite(value: Any) -> Any:
    """The value with every NaN and infinite float replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
