"""Argument types shared by the benchmarks."""

import argparse
from pathlib import Path


def new_file(text: str) -> Path:
    """An output file; checks before a long run that its directory exists."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {path.parent}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a directory")
    return path
