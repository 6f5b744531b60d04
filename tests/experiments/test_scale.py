"""The tables of `scale.py` in the README of the planner are those it prints."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTHING = "0.00 (0.0 GB)"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "experiments" / "scale.py"))


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(("rows", "left_out"), [("one_size_at_a_time", 4), ("chips", 5)])
def test_the_readme_has_the_table(script, rows, left_out):
    """Each table leaves out one column: of slices, and of memory."""
    readme = (ROOT / "dvaojax" / "plan" / "README.md").read_text()
    documented = [cells(line)[1:] for line in readme.splitlines() if line.startswith("| ")]
    printed = [cells(line)[1:] for line in script["table"](script[rows]()).splitlines()[2:]]
    assert len(printed) >= 6
    for row in printed:
        del row[left_out]
        assert [cell.replace(NOTHING, "") for cell in row] in documented, row
