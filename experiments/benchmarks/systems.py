"""Runs a system on a workload in a subprocess, and returns its measurements."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
OURS = "dvaojax"
SCRIPTS = {OURS: "our_step.py", "trl": "trl_step.py", "tunix": "tunix_step.py"}  # by module
# A tenth of a step on a CPU is spent on page faults otherwise, in every system.
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
OUT_OF_MEMORY = "out of memory"
INSTALL = "pip install '.[bench]' in the checkout of dvaojax"


class Outcome(NamedTuple):
    """Result of running a system.

    Attributes:
        system: its name.
        report: measurements of its script; empty if it did not run.
        complaint: one line with the reason why there is no report; empty if there is one.
        failed: whether it is installed but failed.
    """

    system: str
    report: dict[str, Any]
    complaint: str
    failed: bool = False


def run(
    system: str,
    workload: Path,
    *,
    python: str = sys.executable,
    options: Sequence[str] = (),
    timeout: float | None = None,
) -> Outcome:
    """Runs one system; if it is missing or fails, the outcome says so.

    Args:
        system: a key of `SCRIPTS`.
        workload: the file of the workload.
        python: an interpreter in which the system is installed.
        options: further arguments of its script.
        timeout: seconds after which it is ended; None for no limit.
    """
    if not is_installed(system, python):
        return Outcome(system, {}, f"not installed: {INSTALL}")
    command = [python, str(HERE / SCRIPTS[system]), str(workload), *options]
    start = partial(subprocess.run, capture_output=True, text=True, check=False, timeout=timeout)
    try:
        done = start(command, env={**LARGE_PAGES, **os.environ})
    except subprocess.TimeoutExpired:
        return Outcome(system, {}, f"ended after {timeout:.0f} s", failed=True)
    if done.returncode != 0:
        return Outcome(system, {}, _complaint(done), failed=True)
    return Outcome(system, json.loads(_last_line(done.stdout)), "")


def is_installed(module: str, python: str) -> bool:
    """Whether an interpreter finds a module, without importing it."""
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", look], check=False).returncode == 0


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    if "RESOURCE_EXHAUSTED" in done.stderr or "OutOfMemoryError" in done.stderr:
        return OUT_OF_MEMORY
    return f"failed: {_last_line(done.stderr) or f'exit code {done.returncode}'}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
