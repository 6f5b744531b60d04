"""A sweep on disk: one line a cell, written when it is measured, so that a killed one goes on.

DIRECTORY/
  sweep.json      what is compared, and every start: commit, command, versions, devices
  cells.jsonl     what every cell came to
  cells-I.jsonl   the same of process I, while it is at work
  report.md       tables
  SITUATION.png   a picture of each situation
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvaojax import files
from dvaojax.errors import UserError
from dvaojax.run import directory as run_directory
from dvaojax.sweep.grid import Place, Sweep, places

DESCRIPTION = "sweep.json"
CELLS = "cells.jsonl"
_PART = "cells-{}.jsonl"
_AXES = ("situations", "methods", "trade_offs")

# What a cell came to: its place, `step`, and the fields of `runner.Outcome`.
Row = Mapping[str, Any]


class Record:
    """The directory of a sweep.

    Attributes:
        path: the directory.
    """

    def __init__(self, path: Path):
        self.path = path

    def claim(self, sweep: Sweep) -> None:
        """Notes a start in the directory, which is created where it does not exist.

        A sweep may go on with further values on its axes; what both starts have must be alike.

        Raises:
            UserError: another sweep stands there, or something else.
        """
        place, now, starts = self.path / DESCRIPTION, describe(sweep), []
        if place.is_file():
            before = files.read_json(place)
            _compare(self.path, before["sweep"], json.loads(json.dumps(now)))
            starts = before["starts"]
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise UserError(f"{self.path} exists and is not a sweep: it has no {DESCRIPTION}")
        self.path.mkdir(parents=True, exist_ok=True)
        files.write_json(place, {"sweep": now, "starts": [*starts, _describe_start()]})

    def rows(self) -> dict[Place, Row]:
        """What was measured so far, by whichever process."""
        paths = [path for path in (self.path / CELLS, *self._parts()) if path.is_file()]
        return {_place(row): row for path in paths for row in files.read_json_lines(path)}

    def part(self, number: int) -> files.JsonLines:
        """Where process `number` writes what it measures."""
        return files.JsonLines(self.path / _PART.format(number))

    def gather(self, sweep: Sweep) -> None:
        """Brings all lines into one file, in the order of the grid, when no process is at work."""
        parts, rows = self._parts(), self.rows()
        known = [place for place in places(sweep) if place in rows]
        others = [place for place in rows if place not in set(known)]
        whole = self.path / CELLS
        gathering = files.partial(whole)
        gathering.unlink(missing_ok=True)
        lines = files.JsonLines(gathering)
        for place in (*known, *others):
            lines.write(rows[place]["step"], {k: v for k, v in rows[place].items() if k != "step"})
        lines.close()
        gathering.replace(whole)
        for part in parts:
            part.unlink()

    def _parts(self) -> list[Path]:
        return sorted(self.path.glob(_PART.format("*")))


def describe(sweep: Sweep) -> dict[str, Any]:
    """A sweep as JSON."""
    return {
        "name": sweep.name,
        "base": run_directory.config_to_json(sweep.base),
        **{axis: {k: list(v) for k, v in getattr(sweep, axis).items()} for axis in _AXES},
        "seeds": list(sweep.seeds),
        "against": sweep.against,
        "only": dict(sweep.only),
        "expected": dict(sweep.expected),
    }


def _compare(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses a sweep in which something that was there before is another now."""
    bases = [run_directory.flatten(described["base"], "base") for described in (before, now)]
    pairs = [(key, bases[0].get(key), bases[1].get(key)) for key in sorted({*bases[0], *bases[1]})]
    for axis in _AXES:
        for label in before[axis].keys() & now[axis].keys():
            pairs.append((f"{axis}.{label}", before[axis][label], now[axis][label]))
    for key, was, is_now in pairs:
        if was != is_now:
            raise UserError(
                f"{path} holds another sweep: {key} was {was!r} and is {is_now!r}; "
                "name another --out"
            )


def _place(row: Row) -> Place:
    return Place(*(row[name] for name in Place._fields))


def _describe_start() -> dict[str, Any]:
    """Like a run's, with the commit and a command that holds no machine's paths."""
    start = run_directory.describe_start()
    del start["argv"]
    return {"commit": _commit(), "command": shlex.join(["dvaojax", *sys.argv[1:]]), **start}


def _commit() -> str:
    """Of the source that runs; empty where that is no checkout."""
    asked = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]
    try:
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""
