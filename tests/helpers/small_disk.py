"""A disk of a few kilobytes: a temporary file system in memory, mounted for one test."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(path: Path, *, kilobytes: int) -> Iterator[Path]:
    """Mounts an empty file system of that size at a new path; skips where that is not permitted."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(path)]
    try:
        done = subprocess.run(mount, capture_output=True)
    except FileNotFoundError:
        pytest.skip("the system has no command to mount a file system")
    if done.returncode:
        pytest.skip("mounting a file system needs the rights of root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def enlarge(path: Path) -> None:
    """Makes a small disk large enough for everything."""
    subprocess.run(["mount", "-o", "remount,size=64m", str(path)], check=True)


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Makes a small disk read-only for a while."""
    subprocess.run(["mount", "-o", "remount,ro", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(path)], check=True)
