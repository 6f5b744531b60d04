"""The import layers of the package, and a reader of its imports.

A top-level module or package of `dvaojax/` belongs to one layer. It imports only from lower layers;
modules of one package may import each other, without cycles.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "dvaojax"

LAYERS = {
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
    """The modules of the package that one module imports, at any place in its code.

    A string constant that is a module's dotted name counts too: it may be passed to `importlib`.
    """
    root = name.partition(".")[0]
    for node in ast.walk(trees[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == root)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            source = node.module or ""
            if source.partition(".")[0] == root:
                for alias in node.names:
                    inner = f"{source}.{alias.name}"
                    yield inner if inner in trees else source
        elif isinstance(node, ast.Constant) and node.value in trees and node.value != root:
            yield str(node.value)


def top_level(module: str) -> str:
    """The top-level module or package that a module belongs to; "" is the package itself."""
    return module.partition(".")[2].partition(".")[0]


def upward_imports(trees: Mapping[str, ast.Module], layers: Mapping[str, int]) -> list[str]:
    """Imports from the same or a higher layer, and modules without a layer."""
    lines = [f"{name} has no layer" for name in trees if top_level(name) not in layers]
    for name in trees:
        for imported in imports(name, trees):
            importer, source = top_level(name), top_level(imported)
            if importer != source and not layers.get(source, 0) < layers.get(importer, 0):
                lines.append(f"{name} imports {imported}")
    return lines


def cycles(trees: Mapping[str, ast.Module]) -> list[str]:
    """Modules that import themselves through others."""
    reached, before = {name: set(imports(name, trees)) for name in trees}, None
    while reached != before:
        before = reached
        reached = {
            name: known.union(*(before.get(other, set()) for other in known))
            for name, known in before.items()
        }
    return [name for name, known in reached.items() if name in known]


def imports_in_functions(trees: Mapping[str, ast.Module]) -> list[str]:
    """Import statements inside functions, as `module:line`."""
    return [
        f"{name}:{inner.lineno}"
        for name, tree in trees.items()
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(outer)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
