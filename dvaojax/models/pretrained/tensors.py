"""Reading and writing of safetensors files, one tensor at a time, or the rows of one.

A file has eight bytes with the length of the header, the header (JSON: name -> dtype, shape and
byte range), and the bytes of all tensors in row-major order. A checkpoint of several files has an
index from tensor to file (https://huggingface.co/docs/safetensors).
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from dvaojax import files, hub
from dvaojax.errors import UserError
from dvaojax.models.pretrained.weight_storage import WeightFile, weight_files

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

# The largest header that the format allows, in bytes.
_MAX_HEADER = 100_000_000

_MAX_AXES = 8  # of a tensor; those of decoders have one or two

DTYPES: Mapping[str, np.dtype] = {
    "F32": np.dtype(np.float32),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
}


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, not loaded into memory.

    Attributes:
        name: name of the tensor.
        file: the file.
        dtype: dtype of its elements.
        shape: shape of the tensor.
        offset: offset of its first byte in the file.
    """

    name: str
    file: WeightFile
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in the file."""
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, first: int, last: int) -> np.ndarray:
        """The part from `first` to before `last` of the first axis."""
        row = self.nbytes // self.shape[0] if self.nbytes else 0
        content = self.file.read(self.offset + first * row, self.offset + last * row)
        return content.view(self.dtype).reshape(last - first, *self.shape[1:])


def read_headers(path: str) -> dict[str, StoredTensor]:
    """All tensors of a checkpoint, by name; of a bucket, the headers alone are read.

    In a checkpoint of several files, `weight_map` of the index decides in which file a tensor is.
    Another tensor of the same name in another file is ignored.

    Args:
        path: see `hub.local_directory`.

    Raises:
        UserError: there is no checkpoint, a file is invalid or truncated, a file lacks a tensor of
            the index, or has one that the index does not list; the message names file and tensor.
    """
    stored = weight_files(path)
    if SINGLE in stored:
        return _read_header(stored[SINGLE])
    directory = hub.local_directory(path, ("config.json", INDEX))
    if not (directory / INDEX).is_file():
        raise UserError(f"{path} has neither {SINGLE} nor {INDEX}; other formats are not supported")
    weight_map = _read_index(directory / INDEX)
    for file in weight_map.values():
        if file not in stored:
            raise UserError(f"{path} has no regular file {file}, which {INDEX} names")
    headers = {file: _read_header(stored[file]) for file in sorted(set(weight_map.values()))}
    for name, file in weight_map.items():
        if name not in headers[file]:
            raise UserError(f"{stored[file].path} lacks {name}, which {INDEX} expects there")
    for file, header in headers.items():
        for name in header.keys() - weight_map.keys():
            raise UserError(f"{stored[file].path} contains {name}, which {INDEX} does not list")
    return {name: headers[file][name] for name, file in weight_map.items()}


def _read_index(path: Path) -> dict[str, str]:
    """Tensor -> name of the file in the directory of the index."""
    index = files.read_json(path)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{path} has no weight_map")
    for file in weight_map.values():
        if not files.is_plain_name(file):
            shown = repr(file)[:100]
            raise UserError(f"{path}: {shown} is not the name of a file in its directory")
    return weight_map


def _read_header(file: WeightFile) -> dict[str, StoredTensor]:
    """The tensors of one file, each checked against the file's size."""
    path, size = file.path, file.size
    length = int.from_bytes(file.read(0, min(8, size)).tobytes(), "little")
    start = 8 + length
    text = file.read(8, start).tobytes() if start <= min(size, _MAX_HEADER) else b""
    if not text:
        raise UserError(f"{path} is truncated in its header, or is not a safetensors file")
    header = _parse_header(path, text)
    header.pop("__metadata__", None)
    tensors = {name: _parse_entry(file, name, e, start, size) for name, e in header.items()}
    _check_ranges(path, tensors.values(), start, size)
    return tensors


def _parse_header(path: Path | str, text: bytes) -> dict[str, Any]:
    """The entries of a header, in which no name may be repeated."""
    try:
        header = json.loads(text, object_pairs_hook=files.unique_keys)
    except files.RepeatedKey as error:
        raise UserError(f"{path} is damaged: in its header {error}") from error
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise UserError(f"{path} is not a safetensors file: its header is not a JSON object")
    return header


def _parse_entry(file: WeightFile, name: str, entry: Any, start: int, size: int) -> StoredTensor:
    """Parses an entry of a header; the tensors begin at byte `start` of a file of `size` bytes."""
    path = file.path
    try:
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, begin, end)
    except (KeyError, TypeError, ValueError):
        code, shape, begin, end, numbers = "", (), 0, 0, (-1,)
    is_valid = all(type(number) is int and number >= 0 for number in numbers)
    if not is_valid or len(shape) > _MAX_AXES:
        raise UserError(f"{path}: the header has no valid dtype, shape and data_offsets of {name}")
    if not isinstance(code, str) or code not in DTYPES:
        raise UserError(
            f"{path}: {name} has dtype {str(code)[:40]}, not one of {', '.join(DTYPES)}"
        )
    dtype = DTYPES[code]
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise UserError(
            f"{path}: {name} has {end - begin} bytes, which does not match {code}{[*shape]}"
        )
    if start + end > size:
        raise UserError(
            f"{path} is truncated: {name} ends at byte {start + end}, but the file has {size} bytes"
        )
    return StoredTensor(name, file, dtype, shape, start + begin)


def _check_ranges(path: Path | str, tensors: Iterable[StoredTensor], start: int, size: int) -> None:
    """Raises an error unless the tensors fill the file from byte `start` without overlaps."""
    end = start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset != end:
            fault = "overlaps another tensor" if tensor.offset < end else "follows unused bytes"
            raise UserError(f"{path} is damaged: {tensor.name} {fault}")
        end += tensor.nbytes
    if end != size:
        raise UserError(f"{path} is damaged: {size - end} bytes after the last tensor are unused")


@dataclasses.dataclass(frozen=True)
class TensorToWrite:
    """A tensor to be written to a file.

    Attributes:
        name: name of the tensor.
        dtype: dtype of its elements in the file.
        shape: shape of the tensor.
        make: copies it to the host; called when the tensor is written.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_tensors(
    directory: Path, tensors: Iterable[TensorToWrite], *, max_file_bytes: int
) -> list[Path]:
    """Writes a checkpoint, one tensor at a time, as one file or as several with an index.

    Args:
        directory: an existing directory without a checkpoint.
        tensors: the tensors in the order in which they are written.
        max_file_bytes: tensors of more bytes in total are split into several files; a single tensor
            of more bytes gets a separate file.

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
    weight_map = {t.name: name for name, part in zip(names, parts, strict=True) for t in part}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    files.write_json(directory / INDEX, index)
    return [directory / name for name in names]


def _split(tensors: Iterable[TensorToWrite], max_bytes: int) -> list[list[TensorToWrite]]:
    """Splits tensors into consecutive parts of at most `max_bytes`, or of one larger tensor."""
    parts: list[list[TensorToWrite]] = [[]]
    num_bytes = 0
    for tensor in tensors:
        if parts[-1] and num_bytes + tensor.nbytes > max_bytes:
            parts.append([])
            num_bytes = 0
        parts[-1].append(tensor)
        num_bytes += tensor.nbytes
    return parts


def _write_file(path: Path, tensors: Sequence[TensorToWrite]) -> None:
    codes = {dtype: code for code, dtype in DTYPES.items()}
    # `transformers` requires the format in the metadata.
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        begin, end = end, end + tensor.nbytes
        shape = list(tensor.shape)
        header[tensor.name] = {
            "dtype": codes[tensor.dtype], "shape": shape, "data_offsets": [begin, end]
        }  # fmt: skip
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            values = np.ascontiguousarray(tensor.make())
            if (values.shape, values.dtype) != (tensor.shape, tensor.dtype):
                raise ValueError(
                    f"{tensor.name} is {values.dtype}{values.shape}, not "
                    f"{tensor.dtype}{tensor.shape}"
                )
            file.write(values.view(np.uint8).data)
