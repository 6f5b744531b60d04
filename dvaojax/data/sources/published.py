"""Description of a published dataset: its files, their addresses, and their parser."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from dvaojax.data import rows
from dvaojax.data.records import ProblemRecord
from dvaojax.data.rows import SourceRow

# (files by key, counter of notes) -> split -> records. The counter is updated with a short
# description of rows that were repaired or dropped.
Parse = Callable[[Mapping[str, Path], Counter[str]], Mapping[str, list[ProblemRecord]]]
ParseRows = Callable[[Iterable[SourceRow], Counter[str]], Iterable[ProblemRecord]]

GITHUB = "https://raw.githubusercontent.com"


class File(NamedTuple):
    """One file of a dataset.

    Attributes:
        names: accepted names of a local copy; the first is the published name.
        url: address of the published file, at a fixed commit.
        sha256: of the published file; empty if unknown.
    """

    names: tuple[str, ...]
    url: str
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A dataset that can be prepared.

    Attributes:
        name: identifier, in lower case.
        title: short description.
        licence: as stated by the publishers, with open questions.
        files: key -> file. Missing local files are skipped and reported.
        parse: conversion of the files, by the same keys, into splits.
        version: of the records; increased when the same files give other records.
    """

    name: str
    title: str
    licence: str
    files: Mapping[str, File]
    parse: Parse
    version: str = "1.0.0"


def by_split(parse: ParseRows) -> Parse:
    """A parser for datasets with one file per split, whose key is the split's name."""

    def parse_files(
        paths: Mapping[str, Path], noted: Counter[str]
    ) -> dict[str, list[ProblemRecord]]:
        return {split: list(parse(rows.read(path), noted)) for split, path in paths.items()}

    return parse_files
