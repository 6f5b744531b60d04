"""Runs a system on a workload, in a process of its own, and brings back what it measured."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
OURS = "dvaojax"
SCRIPTS = {OURS: "our_step.py", "trl": "trl_step.py", "tunix": "tunix_step.py"}  # by module
OUT_OF_MEMORY = "out of memory"
INSTALL = "pip install 'dvaojax[bench]'"


class Outcome(NamedTuple):
    """What became of a system.

    Attributes:
        system: its name.
        report: what its script measured; empty where it did not run.
        complaint: one line that says why there is no report; empty where there is one.
        failed: whether it is installed and still gave none.
    """

    system: str
    report: dict[str, Any]
    complaint: str
    failed: bool = False


def run(
    system: str, workload: Path, *, python: str = sys.executable, options: Sequence[str] = ()
) -> Outcome:
    """The report of one system. One that is missing or fails is an outcome and not an error.

    Args:
        system: a key of `SCRIPTS`.
        workload: the file that says what to do.
        python: an interpreter that has the system installed.
        options: passed on to its script.
    """
    if not is_installed(system, python):
        return Outcome(system, {}, f"not installed: {INSTALL}")
    command = [python, str(HERE / SCRIPTS[system]), str(workload), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return Outcome(system, {}, _complaint(done), failed=True)
    return Outcome(system, json.loads(_last_line(done.stdout)), "")


def is_installed(module: str, python: str) -> bool:
    """Whether an interpreter finds a module; nothing is imported."""
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", look], check=False).returncode == 0


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    if "RESOURCE_EXHAUSTED" in done.stderr or "OutOfMemoryError" in done.stderr:
        return OUT_OF_MEMORY
    return f"failed: {_last_line(done.stderr) or f'exit code {done.returncode}'}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
