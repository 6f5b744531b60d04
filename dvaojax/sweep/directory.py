"""The directory of a sweep: one line per finished cell, so that a killed sweep can continue.

DIRECTORY/
  sweep.json      the sweep, and every start: commit, command, versions, devices
  cells.jsonl     results of the finished cells
  cells-I.jsonl   results of process I, while it is running
  report.md       tables
  SITUATION.png   a plot of each situation
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvaojax import files
from dvaojax.config import migrate, migrate_settings
from dvaojax.errors import UserError
from dvaojax.run import lock
from dvaojax.run.description import (
    config_to_json,
    describe_start,
    first_difference,
    with_defaults,
)
from dvaojax.sweep.grid import CellKey, Sweep, cell_keys

DESCRIPTION = "sweep.json"
CELLS = "cells.jsonl"
_PART = "cells-{}.jsonl"
_AXES = ("situations", "methods", "trade_offs")

# The result of a cell: the fields of its `CellKey`, `step`, and the fields of `CellOutcome`.
CellRow = Mapping[str, Any]


class SweepDirectory:
    """Reads and writes the results of a sweep.

    The first process holds the directory's lock (`run.lock`), and each process that of its part.

    Attributes:
        path: parent of the files listed above.
    """

    def __init__(self, path: Path):
        self.path = path

    def claim(self, sweep: Sweep) -> None:
        """Records a start in the directory, which is created if it does not exist.

        A sweep may continue with additional values on its axes; values that both starts have must
        have the same settings.

        Raises:
            UserError: the directory holds another sweep, or other files.
        """
        path, now, starts = self.path / DESCRIPTION, describe(sweep), []
        if path.is_file():
            before = files.read_json(path)
            if not _is_description(before, now):
                raise UserError(f"{path} was not written by dvaojax; choose another --out")
            recorded = migrate_description(before["sweep"])
            recorded["base"] = with_defaults(recorded["base"], sweep.base)
            _compare(self.path, recorded, json.loads(json.dumps(now)))
            starts = before["starts"]
        elif self.path.exists() and not self._is_unused():
            raise UserError(f"{self.path} exists and is not a sweep: it has no {DESCRIPTION}")
        with files.creating(self.path):
            files.write_json(path, {"sweep": now, "starts": [*starts, _describe_start()]})

    def rows(self) -> dict[CellKey, CellRow]:
        """The results of all finished cells, from all processes."""
        paths = [path for path in (self.path / CELLS, *self._parts()) if path.is_file()]
        return {_key(row): row for path in paths for row in files.read_json_lines(path)}

    def part(self, number: int) -> files.JsonLines:
        """The file to which process `number` writes its results."""
        return files.JsonLines(self.path / _PART.format(number))

    def gather(self, sweep: Sweep) -> None:
        """Merges all results into one file, in the order of the grid; no process may be running."""
        parts, rows = self._parts(), self.rows()
        known = [key for key in cell_keys(sweep) if key in rows]
        others = [key for key in rows if key not in set(known)]
        whole = self.path / CELLS
        gathering = files.partial_path(whole)
        gathering.unlink(missing_ok=True)
        lines = files.JsonLines(gathering)
        for key in (*known, *others):
            lines.write(rows[key]["step"], {k: v for k, v in rows[key].items() if k != "step"})
        lines.close()
        gathering.replace(whole)
        for part in parts:
            part.unlink()

    def _is_unused(self) -> bool:
        partial = files.partial_path(self.path / DESCRIPTION).name
        return self.path.is_dir() and all(
            entry.name == partial or entry.name.startswith(lock.LOCK)
            for entry in self.path.iterdir()
        )

    def _parts(self) -> list[Path]:
        return sorted(self.path.glob(_PART.format("*")))


def describe(sweep: Sweep) -> dict[str, Any]:
    """A sweep as JSON."""
    return {
        "name": sweep.name,
        "base": config_to_json(sweep.base),
        **{axis: {k: list(v) for k, v in getattr(sweep, axis).items()} for axis in _AXES},
        "seeds": list(sweep.seeds),
        "against": sweep.against,
        "only": dict(sweep.only),
        "expected": dict(sweep.expected),
    }


def migrate_description(described: Mapping[str, Any]) -> dict[str, Any]:
    """A sweep as JSON, as this or an earlier version recorded it, in the form of this version."""
    axes = {
        axis: {label: migrate_settings(settings) for label, settings in described[axis].items()}
        for axis in _AXES
    }
    return {**described, "base": migrate(described["base"]), **axes}


def _is_description(value: Any, now: Mapping[str, Any]) -> bool:
    """Whether a JSON value is the content of a `sweep.json`."""
    if not isinstance(value, dict) or not isinstance(value.get("starts"), list):
        return False
    sweep = value.get("sweep")
    return isinstance(sweep, dict) and all(
        isinstance(sweep.get(key), dict) for key, item in now.items() if isinstance(item, dict)
    )


def _compare(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises a UserError if a setting of the sweep has changed since the start `before`."""
    old, new = {"base": before["base"]}, {"base": now["base"]}
    for axis in _AXES:  # a sweep may gain and lose labels
        labels = before[axis].keys() & now[axis].keys()
        old[axis], new[axis] = ({k: d[axis][k] for k in labels} for d in (before, now))
    different = first_difference(old, new)
    if different is not None:
        key, was, is_now = different
        raise UserError(
            f"{path} holds another sweep: {key} was {was!r} and is {is_now!r}; choose another --out"
        )


def _key(row: CellRow) -> CellKey:
    return CellKey(*(row[name] for name in CellKey._fields))


def _describe_start() -> dict[str, Any]:
    """Like the start of a run, with the commit, and with a command without local paths."""
    start = describe_start()
    del start["argv"]
    return {"commit": _commit(), "command": shlex.join(["dvaojax", *sys.argv[1:]]), **start}


def _commit() -> str:
    """The commit of the running source; empty if it is not a git checkout."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""
