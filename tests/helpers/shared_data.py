"""Paths of real data sets and tokenizers, in a directory next to the checkout."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3] / "shared" / "data"


def shared(*parts: str) -> Path:
    """Path of a file or directory of the real data; skips the calling test if it is missing."""
    path = ROOT.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {Path('shared', 'data', *parts)} next to the checkout")
    return path
