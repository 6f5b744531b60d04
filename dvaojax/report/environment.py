"""Section with devices, versions and commands of the runs."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dvaojax import files
from dvaojax.report.blocks import Section, folded, run_name, section, table
from dvaojax.report.contents import RunContents
from dvaojax.report.markup import element
from dvaojax.report.numbers import NOTHING, size

_READ = (files.CONFIG, files.METRICS, files.SAMPLES, files.SUMMARY)


def environment(runs: Sequence[RunContents]) -> Section:
    """All starts of all runs, versions of packages, and the files that the report was made from."""
    names = [run_name(index, run) for index, run in enumerate(runs)]
    starts = [
        [name, _time(start), _devices(start), element("code", _command(start))]
        for name, run in zip(names, runs, strict=True)
        for start in run.starts
    ]
    versions = [_versions(run) for run in runs]
    packages = list(dict.fromkeys(package for run_versions in versions for package in run_versions))
    rows = [
        [name, *(run_versions.get(name, NOTHING) for run_versions in versions)] for name in packages
    ]
    sizes = [[name, *(_size(run.path / name) for run in runs)] for name in _READ]
    return section(
        "environment",
        "Environment",
        "",
        table(["run", "started", "devices", "command"], starts, kind="words", name="starts"),
        table(["package", *names], rows, kind="words", name="versions"),
        folded("files read", table(["file", *names], sizes, kind="words", name="files")),
    )


def _time(start: Mapping[str, Any]) -> str:
    """`2026-11-21 17:37:55 UTC`."""
    return str(start.get("time", NOTHING)).replace("T", " ").replace("+00:00", " UTC")


def _devices(start: Mapping[str, Any]) -> str:
    """`1 x cpu`, `8 x TPU v5e in 2 processes`."""
    devices = start.get("devices") or {}
    processes = devices.get("processes", 1)
    spread = f" in {processes} processes" if processes != 1 else ""
    return f"{devices.get('count', NOTHING)} x {devices.get('kind', NOTHING)}{spread}"


def _command(start: Mapping[str, Any]) -> str:
    """The command line, with the program's name instead of its path."""
    program, *arguments = [str(word) for word in start.get("argv") or [NOTHING]]
    path = Path(program)
    name = path.parent.name if path.name == "__main__.py" else path.name
    return shlex.join([name, *arguments])


def _versions(run: RunContents) -> Mapping[str, str]:
    """Version of each package; if starts differ, all versions in order."""
    versions: dict[str, list[str]] = {}
    for start in run.starts:
        for package, version in (start.get("versions") or {}).items():
            if version not in versions.setdefault(package, []):
                versions[package].append(version)
    return {package: ", then ".join(listed) for package, listed in versions.items()}


def _size(path: Path) -> str:
    return size(path.stat().st_size) if path.is_file() else "missing"
