"""Real rows and tokenizers, which stand beside the checkout and never in it."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3] / "shared" / "data"


def shared(*parts: str) -> Path:
    """A file or directory of the real data; the test that asks is skipped where it is absent."""
    path = ROOT.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {Path('shared', 'data', *parts)} beside the checkout")
    return path
