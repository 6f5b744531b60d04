"""Preparation of datasets from local or published files: atomic, all or nothing."""

import contextlib
import io
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from dvaojax import files, hub
from dvaojax.data import builders, jsonl, own_files, prepared, sources
from dvaojax.data.prepared import PreparedSet
from dvaojax.data.records import ProblemRecord
from dvaojax.data.sources import DataSet, File
from dvaojax.errors import UserError, nearest

Existing = Literal["keep", "replace"]


def prepare(
    name: str,
    *,
    source: Path | None = None,
    data_dir: Path | str = "",
    columns: Mapping[str, str] | None = None,
    existing: Existing = "keep",
) -> PreparedSet:
    """Prepares a dataset, unless it is prepared already.

    Args:
        name: a published dataset, or with a source the user's own.
        source: a file or a directory of files; None downloads the published files. For the source
            of the user's own dataset see `own_files.by_split`, for its rows `jsonl.read`.
        data_dir: as in `prepared.directory`, but not a bucket.
        columns: field -> column of the user's own rows, see `jsonl.read`.
        existing: "keep" keeps a dataset that was prepared from the same files, "replace" prepares
            it again; readers see the old dataset or the new one, never a part.

    Raises:
        UserError: there is no such dataset or file, a row is malformed, the dataset was prepared
            from other files before, or `data_dir` is a bucket. No partial output remains.
    """
    parent = prepared.parent_directory(data_dir)
    if hub.is_address(parent):
        raise UserError(
            f"{parent}: datasets are prepared in a local directory; choose one with --data-dir, "
            "and copy it (gcloud storage cp --recursive)"
        )
    data_set, paths = _dataset_and_files(name, source, columns)
    path = prepared.directory(name, data_dir=data_dir)
    if existing == "keep" and (summary := prepared.describe(name, data_dir=data_dir)):
        _check_same(name, path, paths, columns)
        return summary
    with _scratch(path.parents[1]) as scratch:
        builder = builders.builder(data_set, paths=paths, columns=columns, data_dir=scratch)
        with _quiet():
            builder.download_and_prepare(download_dir=scratch / "downloads")
        path.parent.mkdir(exist_ok=True)
        files.exchange(scratch / name / path.name, path)  # the old one is deleted with the scratch
    summary = prepared.describe(name, data_dir=data_dir)
    assert summary is not None
    return summary._replace(is_new=True)


def _dataset_and_files(
    name: str, source: Path | None, columns: Mapping[str, str] | None
) -> tuple[DataSet, dict[str, Path] | None]:
    """The dataset and its local files by key; None instead of files to download them."""
    data_set = sources.BY_NAME.get(name)
    if data_set is not None:
        if columns:
            raise UserError(f"--columns is for your own data, and {name} is a published dataset")
        return data_set, None if source is None else _local_files(data_set, source)
    if source is None:
        close = nearest(name, sources.BY_NAME)
        raise UserError(
            f"there is no published dataset {name!r}; did you mean {close!r}? For your own, add "
            "--source FILE"
        )
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(
            f"{name!r} is not a valid dataset name: use lower-case letters, digits and _"
        )
    splits = own_files.by_split(source)
    keys = {split: _part_names(split, len(paths)) for split, paths in splits.items()}
    paths = {
        key: path for split in splits for key, path in zip(keys[split], splits[split], strict=True)
    }
    return _own_dataset(name, keys, paths, columns), paths


def _part_names(split: str, count: int) -> list[str]:
    """The keys of the files of a split: its name, or numbered names of its parts."""
    return [split] if count == 1 else [f"{split} {i} of {count}" for i in range(1, count + 1)]


def _local_files(data_set: DataSet, source: Path) -> dict[str, Path]:
    """Key -> file in `source`, for the files of a published dataset that are present."""
    published = data_set.files
    if source.is_file():
        keys = [k for k, f in published.items() if source.name in {Path(n).name for n in f.names}]
        if len(published) == 1:
            return {next(iter(published)): source}
        if len(keys) == 1:
            return {keys[0]: source}
        raise UserError(
            f"{source} matches none of the files of {data_set.name} by name, which are "
            f"{_names(published)}: rename it"
        )
    if not source.is_dir():
        raise UserError(f"{source}: no such file or directory")
    paths = {
        key: next(source / name for name in file.names if (source / name).is_file())
        for key, file in published.items()
        if any((source / name).is_file() for name in file.names)
    }
    if not paths:
        raise UserError(f"{source} has none of the files of {data_set.name}: {_names(published)}")
    return paths


def _names(published: Mapping[str, File]) -> str:
    return ", ".join(file.names[0] for file in published.values())


def _own_dataset(
    name: str,
    keys: Mapping[str, list[str]],
    paths: Mapping[str, Path],
    columns: Mapping[str, str] | None,
) -> DataSet:
    """The user's own dataset, with the keys of the files of each split."""

    def parse(paths: Mapping[str, Path], noted: Counter[str]) -> dict[str, list[ProblemRecord]]:
        splits: dict[str, list[ProblemRecord]] = {split: [] for split in keys}
        for split, records in splits.items():
            for key in keys[split]:
                read = partial(jsonl.read, source=name, columns=columns, first=len(records))
                records += read(paths[key])
        return splits

    return DataSet(
        name=name,
        title="user-provided dataset",
        licence="",
        files={key: File((path.name,), "") for key, path in paths.items()},
        parse=parse,
        version=prepared.FIRST_VERSION,
    )


@contextlib.contextmanager
def _scratch(data_dir: Path) -> Iterator[Path]:
    """A temporary directory in `data_dir`, on the file system of the result.

    After a failure the directories created here are removed too, if they are empty.
    """
    with files.removing_empty(data_dir):
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".preparing-", dir=data_dir) as scratch:
                yield Path(scratch)
        except OSError as error:
            raise UserError(f"{error.filename or data_dir}: {error.strerror or error}") from error


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


def _check_same(
    name: str,
    directory: Path,
    paths: Mapping[str, Path] | None,
    columns: Mapping[str, str] | None,
) -> None:
    """Raises a `UserError` if the dataset was prepared from other files or columns than these."""
    if paths is None:
        return
    kept = prepared.read_metadata(directory)
    before, is_own = kept["files"], name not in sources.BY_NAME
    remedy = "--overwrite replaces it, --data-dir takes another directory"
    for key, path in paths.items():
        if before.get(key, {}).get("sha256") != files.sha256(path):
            raise UserError(
                f"{name} is prepared in {directory} from another file than {path}: {remedy}"
            )
    if is_own and before.keys() != paths.keys():
        raise UserError(f"{name} is prepared in {directory} from more files than these: {remedy}")
    if kept.get("columns", {}) != dict(columns or {}):
        raise UserError(f"{name} is prepared in {directory} with other columns: {remedy}")
