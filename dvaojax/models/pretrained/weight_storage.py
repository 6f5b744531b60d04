"""The files with a model's weights, on a disk or in a bucket, of which ranges of bytes are read."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dvaojax import hub
from dvaojax.errors import UserError

_PATTERN = "*.safetensors"

# Bytes of one request, and requests at a time: many, because one connection is slow.
_RANGE_BYTES, _NUM_RANGES = 8 * 2**20, 16


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """A file of which ranges of bytes can be read.

    Attributes:
        path: its path or address.
        size: in bytes.
        version: numbers or names that are different after the file has changed.
        read: the bytes, as `uint8[N]`, from one offset to before another.
    """

    path: Path | str
    size: int
    version: list[Any]
    read: Callable[[int, int], np.ndarray]


def weight_files(path: str) -> dict[str, WeightFile]:
    """The files with weights of a model, by name.

    Args:
        path: see `hub.local_directory`; only those of a repository are downloaded.

    Raises:
        UserError: see `hub.local_directory`.
    """
    if not hub.is_address(path):
        directory = hub.local_directory(path, hub.WEIGHT_FILES)
        local = sorted(file for file in directory.glob(_PATTERN) if file.is_file())
        return {file.name: _local_file(file) for file in local}
    system, entries = hub.objects(path, (_PATTERN,))
    return {
        name: _object_in_bucket(f"{path.rstrip('/')}/{name}", system, entry)
        for name, entry in entries.items()
    }


def _local_file(path: Path) -> WeightFile:
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    version = [status.st_size, status.st_mtime_ns]
    return WeightFile(path, status.st_size, version, functools.partial(_map_bytes, path))


def _map_bytes(path: Path, begin: int, end: int) -> np.ndarray:
    """Maps bytes of a file into memory; they are read from the disk on access."""
    if begin == end:
        return np.empty(0, np.uint8)
    try:
        return np.memmap(path, np.uint8, mode="r", offset=begin, shape=(end - begin,))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _object_in_bucket(address: str, system: Any, entry: Mapping[str, Any]) -> WeightFile:
    read = functools.partial(_read_object, address, system, entry["name"])
    return WeightFile(address, int(entry["size"]), hub.object_version(entry), read)


def _read_object(address: str, system: Any, name: str, begin: int, end: int) -> np.ndarray:
    """Reads bytes of an object, in several ranges at the same time."""
    content = np.empty(end - begin, np.uint8)
    starts = range(begin, end, _RANGE_BYTES)
    for first in range(0, len(starts), _NUM_RANGES):
        some = starts[first : first + _NUM_RANGES]
        ends = [min(start + _RANGE_BYTES, end) for start in some]
        with hub.reading(address):
            parts = system.cat_ranges([name] * len(some), list(some), ends, on_error="raise")
        for start, stop, part in zip(some, ends, parts, strict=True):
            if len(part) != stop - start:
                raise UserError(f"{address} changed while it was read")
            content[start - begin : stop - begin] = np.frombuffer(part, np.uint8)
    return content
