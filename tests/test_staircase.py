"""The staircase: a room imports from lower floors only, and rooms of one floor do not meet."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dvaojax"

# A room is a module or package directly under `dvaojax/`. Every one stands on the package itself.
FLOORS = {
    "": -1,
    "types": 0,
    "numerics": 0,
    "errors": 0,
    "papers": 0,
    "files": 1,
    "hub": 1,
    "devices": 1,
    "options": 1,
    "plugins": 1,
    "rewards": 1,
    "sharding": 1,
    "aggregators": 2,
    "allocation": 2,
    "losses": 2,
    "models": 2,
    "data": 2,
    "integrations": 3,
    "rollout": 3,
    "tasks": 3,
    "learning": 4,
    "config": 5,
    "run": 5,
    "evaluation": 6,
    "train": 7,
    "report": 7,
    "plan": 8,
    "sweep": 8,
    "cli": 9,
    "__main__": 10,
}


def modules(package: Path) -> dict[str, ast.Module]:
    """Dotted name -> syntax tree of every module of a package."""
    trees = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(), str(path))
    return trees


def imports(name: str, trees: Mapping[str, ast.Module]) -> Iterator[str]:
    """The package's modules that one of them imports, wherever the import stands.

    A string that is a module's dotted name counts, for `importlib` may take it.
    """
    root = name.partition(".")[0]
    for node in ast.walk(trees[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == root)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            source = node.module or ""
            if source.partition(".")[0] == root:
                for alias in node.names:
                    inner = f"{source}.{alias.name}"
                    yield inner if inner in trees else source
        elif isinstance(node, ast.Constant) and node.value in trees and node.value != root:
            yield str(node.value)


def room(module: str) -> str:
    """The room a module belongs to."""
    return module.partition(".")[2].partition(".")[0]


def misplaced(trees: Mapping[str, ast.Module], floors: Mapping[str, int]) -> list[str]:
    """Every import that does not lead downwards, and every room without a floor."""
    found = [f"{name} has no floor" for name in trees if room(name) not in floors]
    for name in trees:
        for imported in imports(name, trees):
            here, there = room(name), room(imported)
            if here != there and not floors.get(there, 0) < floors.get(here, 0):
                found.append(f"{name} imports {imported}")
    return found


def circles(trees: Mapping[str, ast.Module]) -> list[str]:
    """Modules that import themselves in the end."""
    reached = {name: set(imports(name, trees)) for name in trees}
    for _ in trees:
        for name, known in reached.items():
            reached[name] = known.union(*(reached.get(other, set()) for other in known))
    return [name for name, known in reached.items() if name in known]


def hidden(trees: Mapping[str, ast.Module]) -> list[str]:
    """Imports inside functions."""
    return [
        f"{name}:{inner.lineno}"
        for name, tree in trees.items()
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(outer)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]


def test_every_import_leads_downwards():
    assert misplaced(modules(PACKAGE), FLOORS) == []


def test_every_floor_belongs_to_a_room():
    assert set(FLOORS) == {room(name) for name in modules(PACKAGE)}


def test_no_module_imports_itself_in_the_end():
    assert circles(modules(PACKAGE)) == []


def test_no_import_hides_in_a_function():
    assert hidden(modules(PACKAGE)) == []


FLOORS_OF_A_HOUSE = {"": -1, "low": 1, "high": 2, "beside": 2}


def house(directory: Path, **sources: str) -> dict[str, ast.Module]:
    """A package of three rooms, two of them on one floor."""
    package = directory / "house"
    package.mkdir()
    for name in ("__init__", "low", "high", "beside"):
        (package / f"{name}.py").write_text(sources.pop(name, ""))
    for name, source in sources.items():
        (package / f"{name}.py").write_text(source)
    return modules(package)


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        ("low", "import house.high", "house.low imports house.high"),
        ("low", "from house import high", "house.low imports house.high"),
        ("low", "from house.high import something", "house.low imports house.high"),
        ("low", "def f():\n    from house import high", "house.low imports house.high"),
        ("low", "importlib.import_module('house.high')", "house.low imports house.high"),
        ("high", "from house import beside", "house.high imports house.beside"),
        ("__init__", "from house import low", "house imports house.low"),
        ("attic", "", "house.attic has no floor"),
    ],
)
def test_a_spoilt_house_is_found_out(tmp_path, name, source, complaint):
    assert misplaced(house(tmp_path, **{name: source}), FLOORS_OF_A_HOUSE) == [complaint]


def test_a_house_in_order_is_left_alone(tmp_path):
    trees = house(tmp_path, high="import house\nfrom house import low", low="import house")
    assert misplaced(trees, FLOORS_OF_A_HOUSE) == circles(trees) == hidden(trees) == []


def test_a_circle_is_found(tmp_path):
    trees = house(tmp_path, low="from house import high", high="from house import low")
    assert circles(trees) == ["house.high", "house.low"]


def test_a_hidden_import_is_found(tmp_path):
    assert hidden(house(tmp_path, low="def f():\n    import json")) == ["house.low:2"]
