"""Tests that run programs compile in a hurry, and what they compile they share."""

import pytest
from tiny_run import compiled_once


@pytest.fixture(autouse=True, scope="package")
def _compiled_once(tmp_path_factory):
    with compiled_once(tmp_path_factory.getbasetemp() / "compiled"):
        yield
