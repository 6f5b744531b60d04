"""Modules import only from lower layers, without cycles and at the top of the file."""

import ast
from collections import Counter

import pytest
from import_layers import (
    LAYERS,
    PACKAGE,
    cycles,
    imports_in_functions,
    modules,
    top_level,
    upward_imports,
)


@pytest.fixture(scope="module")
def trees():
    return modules(PACKAGE)


def test_imports_lead_to_lower_layers(trees):
    assert upward_imports(trees, LAYERS) == []


def test_every_layer_entry_exists(trees):
    assert set(LAYERS) == {top_level(name) for name in trees}


def test_there_are_no_cycles(trees):
    assert cycles(trees) == []


def test_no_two_classes_have_the_same_name(trees):
    classes = [
        node.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    assert [name for name, count in Counter(classes).items() if count > 1] == []


def test_no_import_is_inside_a_function(trees):
    assert imports_in_functions(trees) == []


def test_the_top_level_has_at_most_34_entries():
    entries = [path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 34, sorted(entries)


# The checks themselves, on a small package with a violation.
SAMPLE_LAYERS = {"": -1, "low": 1, "high": 2, "next": 2}


def sample_package(directory, **sources):
    """A package with three modules, two of them in one layer."""
    package = directory / "sample"
    package.mkdir()
    for name in ("__init__", "low", "high", "next"):
        (package / f"{name}.py").write_text(sources.pop(name, ""))
    for name, source in sources.items():
        (package / f"{name}.py").write_text(source)
    return modules(package)


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        ("low", "import sample.high", "sample.low imports sample.high"),
        ("low", "from sample import high", "sample.low imports sample.high"),
        ("low", "from sample.high import something", "sample.low imports sample.high"),
        ("low", "def f():\n    from sample import high", "sample.low imports sample.high"),
        ("low", "importlib.import_module('sample.high')", "sample.low imports sample.high"),
        ("high", "from sample import next", "sample.high imports sample.next"),
        ("__init__", "from sample import low", "sample imports sample.low"),
        ("unknown", "", "sample.unknown has no layer"),
    ],
)
def test_reports_an_upward_import(tmp_path, name, source, complaint):
    trees = sample_package(tmp_path, **{name: source})
    assert upward_imports(trees, SAMPLE_LAYERS) == [complaint]


def test_accepts_downward_imports(tmp_path):
    trees = sample_package(
        tmp_path, high="import sample\nfrom sample import low", low="import sample"
    )
    assert upward_imports(trees, SAMPLE_LAYERS) == []
    assert cycles(trees) == imports_in_functions(trees) == []


def test_reports_a_cycle(tmp_path):
    trees = sample_package(tmp_path, low="from sample import high", high="from sample import low")
    assert cycles(trees) == ["sample.high", "sample.low"]


def test_reports_an_import_inside_a_function(tmp_path):
    trees = sample_package(tmp_path, low="def f():\n    import json")
    assert imports_in_functions(trees) == ["sample.low:2"]
