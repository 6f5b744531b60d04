"""Prepared datasets: their directories, and random access to their records without TensorFlow."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

from dvaojax import files, hub
from dvaojax.data import sources
from dvaojax.data.records import ProblemRecord
from dvaojax.errors import UserError, import_extra

# Version of every dataset that the user brings.
FIRST_VERSION = "1.0.0"

_INFO = "dataset_info.json"


def directory(name: str, *, data_dir: Path | str = "") -> Path:
    """Directory of a prepared dataset, whether it exists or not.

    Args:
        name: a published dataset or the user's own.
        data_dir: parent directory of the prepared datasets; empty for the default of
            `tensorflow-datasets`, TFDS_DATA_DIR or else `~/tensorflow_datasets`. Of a dataset in a
            bucket, `gs://...`, a local copy is made.

    Raises:
        UserError: the bucket cannot be read, or has no such dataset.
    """
    parent = parent_directory(data_dir)
    known = sources.BY_NAME.get(name)
    version = known.version if known else FIRST_VERSION
    if hub.is_address(parent):
        return hub.local_directory(f"{parent.rstrip('/')}/{name}/{version}", ("*",))
    return Path(parent).expanduser() / name / version


def parent_directory(data_dir: Path | str) -> str:
    """Directory or address of all prepared datasets; `data_dir` as in `directory`."""
    return str(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def is_prepared(name: str, *, data_dir: Path | str = "") -> bool:
    """Whether the dataset is prepared completely."""
    return (directory(name, data_dir=data_dir) / _INFO).is_file()


class PreparedSet(NamedTuple):
    """Summary of a prepared dataset.

    Attributes:
        path: its directory.
        splits: name -> number of records.
        absent: keys of the files that were missing.
        noted: description of repaired or dropped rows -> count.
        is_new: false if it had been prepared before.
    """

    path: Path
    splits: Mapping[str, int]
    absent: tuple[str, ...]
    noted: Mapping[str, int]
    is_new: bool


def describe(name: str, *, data_dir: Path | str = "") -> PreparedSet | None:
    """Summary of a dataset; None if it is not prepared.

    Needs no extra.

    Args:
        name: a published dataset or the user's own.
        data_dir: as in `directory`.

    Raises:
        UserError: its files are damaged.
    """
    path = directory(name, data_dir=data_dir)
    if not is_prepared(name, data_dir=data_dir):
        return None
    kept = read_metadata(path)
    try:
        splits = {
            split["name"]: sum(map(int, split["shardLengths"]))
            for split in files.read_json(path / _INFO)["splits"]
        }
        return PreparedSet(path, splits, tuple(kept["absent"]), kept["noted"], is_new=False)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged: prepare it again with --overwrite") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """The record of a dataset's files by its preparation, see `builders.RecordBuilder`.

    Args:
        path: the dataset's directory.

    Raises:
        UserError: the file is damaged, or is not one of this package.
    """
    content = files.read_json(path / "metadata.json")
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        raise UserError(f"{path} is damaged: prepare it again with --overwrite")
    return content


def read(name: str, split: str, *, data_dir: Path | str = "") -> Sequence[ProblemRecord]:
    """The records of one split of a prepared dataset, in the order of their source.

    Lazy: a record is read from disk when it is indexed.

    Args:
        name: a published dataset or the user's own.
        split: such as "train" or "test".
        data_dir: as in `directory`.

    Raises:
        UserError: the dataset is not prepared or has no such split, or the extra `data` is not
            installed.
    """
    path = directory(name, data_dir=data_dir)
    if not is_prepared(name, data_dir=data_dir):
        own = "" if name in sources.BY_NAME else " --source FILE"
        where = f" --data-dir {data_dir}" if data_dir else ""
        raise UserError(
            f"{name} is not prepared, there is no {path}: dvaojax data prepare {name}{own}{where}"
        )
    tfds = import_extra("tensorflow_datasets", extra="data")
    builder = tfds.builder_from_directory(path)
    if split not in builder.info.splits:
        raise UserError(
            f"{name} has no split {split!r}; the splits prepared in {path} are "
            f"{', '.join(sorted(builder.info.splits))}"
        )
    return PreparedRecords(builder.as_data_source(split=split))


class PreparedRecords(Sequence[ProblemRecord]):
    """One split of a prepared dataset."""

    def __init__(self, rows: Any):
        """
        Args:
            rows: the `data_source` of the split.
        """
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> ProblemRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[ProblemRecord]: ...
    def __getitem__(self, index: int | slice) -> ProblemRecord | list[ProblemRecord]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]  # resolves negative indices
        row = {name: json.loads(text) for name, text in self._rows[position].items()}
        return ProblemRecord(tuple(row["prompt"]), row["answer"], row["metadata"])
