"""The project is written in plain, field-standard English; see `language_rules`."""

import pytest
from documentation import ROOT
from language_rules import complaints, files
from slowness import slow_but

AREAS = [
    ".ci/run",
    "dvaojax",
    "experiments",
    "colab",
    "tests",
    ".github",
    "README.md",
    "pyproject.toml",
]
# The rules quote the words that they reject; results are output of earlier versions.
EXEMPT = {"language_rules.py", "test_language.py"}


@pytest.mark.parametrize("area", slow_but([a for a in AREAS if a != "tests"], AREAS))
def test_follows_the_language_rules(area):
    checked = [path for path in files([ROOT / area]) if path.name not in EXEMPT]
    lines = [
        line
        for path in checked
        if "results" not in path.relative_to(ROOT).parts
        for line in complaints(path)
    ]
    assert checked
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ('"""What a step returns."""', "begins with"),
        ("# What is left.\nx = 1", "begins with"),
        ('raise ValueError("whoever calls this")', "'whoever'"),
        ('"""Runs beside the trainer."""', "'beside'"),
        ('"""The value stands in a row."""', "'stands'"),
        ("found = 1", "identifier 'found'"),
        ("def of_group(x): ...", "identifier 'of_group'"),
        ("def add_door(x): ...", "identifier 'add_door'"),
        ("class SilentGroups: ...", "identifier 'silent_groups'"),
        ("def f(seen): ...", "identifier 'seen'"),
    ],
)
def test_rejects(tmp_path, source, complaint):
    path = tmp_path / "module.py"
    path.write_text(f"{source}\n")
    assert any(complaint in line for line in complaints(path))


def test_accepts_plain_text_and_marked_quotations(tmp_path):
    path = tmp_path / "module.py"
    path.write_text('"""Returns the floor of x."""\n\nquote = "a house"  # language: quoted\n')
    assert complaints(path) == []
