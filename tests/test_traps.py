"""The table of traps in TRAPS.md is complete, and every test that it names exists."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in (TESTS / "TRAPS.md").read_text().splitlines()
    if re.match(r"\| \d", line)
]


def test_every_trap_has_a_row():
    assert [number for number, _, _ in ROWS] == [str(n) for n in range(1, 54)]
    assert all(trap for _, trap, _ in ROWS)


@pytest.mark.parametrize(
    ("trap", "covered"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_tests_that_cover_a_trap_exist(trap, covered):
    named = re.findall(r"`([^`]+)`", covered)
    assert named, trap
    for test in named:
        path, _, function = test.partition("::")
        tree = ast.parse((TESTS.parent / path).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function.startswith("test_")
        assert function in functions, test
