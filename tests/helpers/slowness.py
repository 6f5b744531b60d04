"""Selection of the cases of a test that are in the default run."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(quick: Iterable[Any], every: Iterable[Any]) -> list[Any]:
    """Every case as a parameter; those that are not in `quick` are marked as slow."""
    quick = list(quick)
    return [pytest.param(case, marks=[] if case in quick else [pytest.mark.slow]) for case in every]
