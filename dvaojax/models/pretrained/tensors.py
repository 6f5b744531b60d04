"""Tensors in safetensors files, read and written one at a time.

A file is eight bytes with the length of a header, the header (JSON: name -> dtype, shape and where
its bytes are), and the bytes of all tensors, row by row. A checkpoint of several files has an index
that says which tensor is in which (https://huggingface.co/docs/safetensors).
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from dvaojax import files
from dvaojax.errors import UserError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

DTYPES: Mapping[str, np.dtype] = {
    "F32": np.dtype(np.float32),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
}


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is; nothing of it is in memory.

    Attributes:
        name: of the tensor.
        path: of its file.
        dtype: of its numbers.
        shape: of the tensor.
        offset: of its first byte in the file.
    """

    name: str
    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    def mapped(self) -> np.ndarray:
        """The tensor, of which the system reads what is looked at."""
        return np.memmap(self.path, self.dtype, mode="r", offset=self.offset, shape=self.shape)


def read_headers(directory: Path) -> dict[str, StoredTensor]:
    """Every tensor of a checkpoint, by name.

    Raises:
        UserError: there is no checkpoint, a file is none or was cut off, or the index promises
            what its file does not hold; the line names file and tensor.
    """
    if (directory / SINGLE).is_file():
        return _read_header(directory / SINGLE)
    if not (directory / INDEX).is_file():
        raise UserError(f"{directory} has neither {SINGLE} nor {INDEX}; other formats are not read")
    index = files.read_json(directory / INDEX)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places:
        raise UserError(f"{directory / INDEX} has no weight_map")
    headers: dict[str, dict[str, StoredTensor]] = {}
    for file in sorted(set(map(str, places.values()))):
        if Path(file).name != file:
            raise UserError(f"{directory / INDEX}: {file!r} is not the name of a file beside it")
        headers[file] = _read_header(directory / file)
    for name, file in places.items():
        if name not in headers[file]:
            raise UserError(f"{directory / file} lacks {name}, which {INDEX} says it has")
    return {name: tensor for header in headers.values() for name, tensor in header.items()}


def _read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file, each held against the file's size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= size - 8 else b""
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if not text:
        raise UserError(f"{path} is cut off in its header, or no safetensors file")
    try:
        header = json.loads(text)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise UserError(f"{path} is no safetensors file: its header is not a JSON object")
    entries = ((name, entry) for name, entry in header.items() if name != "__metadata__")
    start = 8 + length
    return {name: _described(path, name, entry, start, size) for name, entry in entries}


def _described(path: Path, name: str, entry: Any, start: int, size: int) -> StoredTensor:
    """One entry of a header whose tensors' bytes begin at `start`, in a file of `size` bytes."""
    try:
        word, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, begin, end)
    except (KeyError, TypeError, ValueError):
        word, shape, begin, end, numbers = "", (), 0, 0, (-1,)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise UserError(f"{path}: the header does not say where {name} is")
    if word not in DTYPES:
        raise UserError(f"{path}: {name} is of type {word}, none of {', '.join(DTYPES)}")
    dtype = DTYPES[word]
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise UserError(f"{path}: {name} has {end - begin} bytes, not those of {word}{[*shape]}")
    if start + end > size:
        raise UserError(
            f"{path} is cut off: {name} ends at byte {start + end}, and the file has {size}"
        )
    return StoredTensor(name, path, dtype, shape, start + begin)


@dataclasses.dataclass(frozen=True)
class Writable:
    """A tensor to be written.

    Attributes:
        name: of the tensor.
        dtype: of its numbers in the file.
        shape: of the tensor.
        make: brings it to the host, when its turn has come.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Of what is written."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_tensors(
    directory: Path, tensors: Iterable[Writable], *, max_file_bytes: int
) -> list[Path]:
    """Writes a checkpoint, one tensor after the other: one file, or several with an index.

    Args:
        directory: exists and holds no checkpoint.
        tensors: in the order of the files.
        max_file_bytes: tensors that together have more go into several files; a single tensor
            that has more gets a file of its own.

    Returns:
        The files with tensors.
    """
    parts = _split(tensors, max_file_bytes)
    count = len(parts)
    if count == 1:
        _write_file(directory / SINGLE, parts[0])
        return [directory / SINGLE]
    names = [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]
    for name, part in zip(names, parts, strict=True):
        _write_file(directory / name, part)
    total = sum(tensor.nbytes for part in parts for tensor in part)
    places = {t.name: name for name, part in zip(names, parts, strict=True) for t in part}
    files.write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
    return [directory / name for name in names]


def _split(tensors: Iterable[Writable], max_bytes: int) -> list[list[Writable]]:
    """Runs of tensors, each of which fits a file if any two of it do."""
    parts: list[list[Writable]] = [[]]
    held = 0
    for tensor in tensors:
        if parts[-1] and held + tensor.nbytes > max_bytes:
            parts.append([])
            held = 0
        parts[-1].append(tensor)
        held += tensor.nbytes
    return parts


def _write_file(path: Path, tensors: Sequence[Writable]) -> None:
    words = {dtype: word for word, dtype in DTYPES.items()}
    # Readers of PyTorch's ask for the format.
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        begin, end = end, end + tensor.nbytes
        shape = list(tensor.shape)
        header[tensor.name] = {
            "dtype": words[tensor.dtype], "shape": shape, "data_offsets": [begin, end]
        }  # fmt: skip
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin where eight bytes do
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            values = np.ascontiguousarray(tensor.make())
            if (values.shape, values.dtype) != (tensor.shape, tensor.dtype):
                raise ValueError(f"{tensor.name} is {values.dtype}{values.shape} after all")
            file.write(values.view(np.uint8).data)
