"""Preparation of datasets from local or published files: atomic, all or nothing."""

import contextlib
import io
import json
import logging
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dvaojax.data import builders, jsonl, prepared, sources
from dvaojax.data.records import ProblemRecord
from dvaojax.data.sources import DataSet, File
from dvaojax.errors import UserError, nearest

_SUFFIXES = (".jsonl", ".jsonl.gz")  # of the user's own files


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


def prepare(name: str, *, source: Path | None = None, data_dir: Path | str = "") -> PreparedSet:
    """Prepares a dataset, unless it is prepared already.

    Args:
        name: a published dataset, or with a source the user's own.
        source: a file or a directory of files; None downloads the published files. The source of
            the user's own dataset is JSON lines (see `jsonl.read`): one file, which becomes the
            split "train", or a directory with one file per split.
        data_dir: as in `prepared.directory`.

    Raises:
        UserError: there is no such dataset or file, a row is malformed, or the dataset was prepared
            from other files before. No partial output remains.
    """
    data_set, paths = _dataset_and_files(name, source)
    path = prepared.directory(name, data_dir=data_dir)
    if prepared.is_prepared(name, data_dir=data_dir):
        _check_same(name, path, paths)
        return _summary(path, is_new=False)
    with _scratch(path.parents[1]) as scratch:
        builder = builders.builder(data_set, paths=paths, data_dir=scratch)
        with _quiet():
            builder.download_and_prepare(download_dir=scratch / "downloads")
        path.parent.mkdir(exist_ok=True)
        if path.exists():
            shutil.rmtree(path)  # incomplete, since `is_prepared` was false
        (scratch / name / path.name).replace(path)
    return _summary(path, is_new=True)


def describe(name: str, *, data_dir: Path | str = "") -> PreparedSet | None:
    """Summary of a dataset; None if it is not prepared."""
    if not prepared.is_prepared(name, data_dir=data_dir):
        return None
    return _summary(prepared.directory(name, data_dir=data_dir), is_new=False)


def _dataset_and_files(name: str, source: Path | None) -> tuple[DataSet, dict[str, Path] | None]:
    """The dataset and its local files by key; None instead of files to download them."""
    data_set = sources.BY_NAME.get(name)
    if data_set is not None:
        return data_set, None if source is None else _local_files(data_set, source)
    if source is None:
        close = nearest(name, sources.BY_NAME)
        raise UserError(
            f"there is no published dataset {name!r}; did you mean {close!r}? For your own, add "
            "--source FILE.jsonl"
        )
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(
            f"{name!r} is not a valid dataset name: use lower-case letters, digits and _"
        )
    paths = _own_files(source)
    return _own_dataset(name, paths), paths


def _local_files(data_set: DataSet, source: Path) -> dict[str, Path]:
    """Key -> file in `source`, for the files of a published dataset that are present."""
    files = data_set.files
    if source.is_file():
        keys = [k for k, f in files.items() if source.name in {Path(n).name for n in f.names}]
        if len(files) == 1:
            return {next(iter(files)): source}
        if len(keys) == 1:
            return {keys[0]: source}
        raise UserError(
            f"{source} matches none of the files of {data_set.name} by name, which are "
            f"{_names(files)}: rename it"
        )
    if not source.is_dir():
        raise UserError(f"{source}: no such file or directory")
    paths = {
        key: next(source / name for name in file.names if (source / name).is_file())
        for key, file in files.items()
        if any((source / name).is_file() for name in file.names)
    }
    if not paths:
        raise UserError(f"{source} has none of the files of {data_set.name}: {_names(files)}")
    return paths


def _names(files: Mapping[str, File]) -> str:
    return ", ".join(file.names[0] for file in files.values())


def _own_files(source: Path) -> dict[str, Path]:
    """Split -> file of the user's own dataset."""
    if source.is_file():
        return {"train": source}
    if not source.is_dir():
        raise UserError(f"{source}: no such file or directory")
    paths = [path for path in sorted(source.iterdir()) if path.name.endswith(_SUFFIXES)]
    if not paths:
        raise UserError(f"{source} has no file that ends in {' or '.join(_SUFFIXES)}")
    return {path.name.partition(".")[0]: path for path in paths}


def _own_dataset(name: str, files: Mapping[str, Path]) -> DataSet:
    """The user's own dataset."""

    def parse(paths: Mapping[str, Path], noted: Counter[str]) -> dict[str, list[ProblemRecord]]:
        return {split: jsonl.read(path, source=name) for split, path in paths.items()}

    return DataSet(
        name=name,
        title="user-provided dataset",
        licence="",
        files={split: File((path.name,), "") for split, path in files.items()},
        parse=parse,
        version=prepared.FIRST_VERSION,
    )


@contextlib.contextmanager
def _scratch(data_dir: Path) -> Iterator[Path]:
    """A temporary directory in `data_dir`, on the file system of the result.

    After a failure the directories created here are removed too, if they are empty.
    """
    created = [path for path in (data_dir, *data_dir.parents) if not path.exists()]
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".preparing-", dir=data_dir) as scratch:
            yield Path(scratch)
    except OSError as error:
        raise UserError(f"{error.filename or data_dir}: {error.strerror or error}") from error
    finally:
        for path in created:
            with contextlib.suppress(OSError):  # not empty after a success
                path.rmdir()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the libraries' own output; failures are reported once, by an exception."""
    builders.tfds.disable_progress_bar()
    connections = logging.getLogger("urllib3")
    level = connections.level
    connections.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        connections.setLevel(level)


def _check_same(name: str, directory: Path, paths: Mapping[str, Path] | None) -> None:
    """Raises a `UserError` if the dataset was prepared from other files than these."""
    sources_before = _metadata(directory)["files"]
    for key, path in (paths or {}).items():
        if sources_before.get(key, {}).get("sha256") != builders.sha256(path):
            raise UserError(
                f"{name} is prepared in {directory} from another file than {path}: delete that "
                "directory to prepare it again, or pass another --data-dir"
            )


def _summary(directory: Path, *, is_new: bool) -> PreparedSet:
    splits = builders.tfds.builder_from_directory(directory).info.splits
    kept = _metadata(directory)
    counts = {split: info.num_examples for split, info in splits.items()}
    return PreparedSet(directory, counts, tuple(kept["absent"]), kept["noted"], is_new)


def _metadata(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "metadata.json").read_bytes())
