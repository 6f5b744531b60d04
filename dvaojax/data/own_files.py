"""Files of the user's own datasets by split: single files, directories and saved `datasets`."""

import re
from pathlib import Path
from typing import Any

from dvaojax import files
from dvaojax.errors import UserError

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")

# Files that `datasets` writes with `save_to_disk`.
_STATE, _SPLITS = "state.json", "dataset_dict.json"

_SHARD = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})")
_SPLIT = re.compile(r"\w[\w-]*")


def by_split(source: Path) -> dict[str, list[Path]]:
    """The files of each split, in the order of their rows.

    Args:
        source: a file or a saved dataset, which become the split "train"; or a directory with a
            file for each split, which may be in parts (`train-00000-of-00002.parquet`), or with a
            saved dataset for each split. Files may also be in its directory `data`.

    Raises:
        UserError: there is no such file, the directory has none, or a part of a split is missing.
    """
    if source.is_file():
        return {"train": [source]}
    if not source.is_dir():
        raise UserError(f"{source}: no such file or directory")
    if (source / _STATE).is_file():
        splits = {"train": _saved(source)}
    elif (source / _SPLITS).is_file():
        names = _entry(source / _SPLITS, "splits")
        splits = {name: _saved(source / _plain(source / _SPLITS, name)) for name in names}
    else:
        splits = _in_directory(source)
    for split in splits:
        if not _SPLIT.fullmatch(split) or split == "all":
            raise UserError(f"{source}: {split!r} cannot be the name of a split: rename its file")
    return splits


def _in_directory(source: Path) -> dict[str, list[Path]]:
    """The files of a directory with one file, or several parts, for each split."""
    paths = [path for path in sorted(source.iterdir()) if path.name.endswith(SUFFIXES)]
    if not paths and (source / "data").is_dir():
        return _in_directory(source / "data")
    if not paths:
        raise UserError(f"{source} has no file that ends in {', '.join(SUFFIXES)}")
    splits: dict[str, list[Path]] = {}
    for path in paths:
        splits.setdefault(_split_of(path), []).append(path)
    for split, parts in splits.items():
        shard = _SHARD.fullmatch(_stem(parts[0]))
        expected = [f"{split}-{i:05}-of-{shard[3]}" for i in range(int(shard[3]))] if shard else []
        if shard and [_stem(path) for path in parts] != expected:
            raise UserError(f"{source} has {len(parts)} parts of {split}, not {len(expected)}")
        if not shard and len(parts) > 1:
            raise UserError(f"{parts[0]} and {parts[1].name} are the same split: keep one")
    return splits


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def _split_of(path: Path) -> str:
    shard = _SHARD.fullmatch(_stem(path))
    return shard[1] if shard else _stem(path)


def _saved(directory: Path) -> list[Path]:
    """The Arrow files of a dataset that `datasets` saved."""
    state = directory / _STATE
    names = [file.get("filename") for file in _entry(state, "_data_files")]
    if files.read_json(state).get("_indices_data_files"):
        raise UserError(f"{directory} has rows in another order: save it after flatten_indices()")
    return [directory / _plain(state, name) for name in names]


def _entry(path: Path, key: str) -> list[Any]:
    """A list in a file of JSON: of names, or of objects with names."""
    content = files.read_json(path)
    value = content.get(key) if isinstance(content, dict) else None
    kind = str if key == "splits" else dict
    if not isinstance(value, list) or not value or not all(isinstance(v, kind) for v in value):
        raise UserError(f"{path} has no list {key!r} of {'names' if kind is str else 'files'}")
    return value


def _plain(path: Path, name: Any) -> str:
    """A name of a file or directory next to the file that lists it."""
    if not files.is_plain_name(name):
        raise UserError(f"{path}: {repr(name)[:100]} is not the name of a file in its directory")
    return str(name)
