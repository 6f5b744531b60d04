"""Selection of the cases of a test that are in the default run, and in that of slow tests."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(quick: Iterable[Any], every: Iterable[Any]) -> list[Any]:
    """Every case as a parameter; those that are not in `quick` are marked as slow."""
    return _marked(quick, every, pytest.mark.slow)


def nightly_but(selected: Iterable[Any], every: Iterable[Any]) -> list[Any]:
    """Every case as a parameter; those that are not in `selected` are marked as nightly."""
    return _marked(selected, every, pytest.mark.nightly)


def _marked(unmarked: Iterable[Any], every: Iterable[Any], mark: pytest.MarkDecorator) -> list[Any]:
    unmarked = list(unmarked)
    return [pytest.param(case, marks=[] if case in unmarked else [mark]) for case in every]
