"""Time and dependencies of imports, each measured in a new interpreter, and package metadata."""

import ast
import importlib.metadata
import statistics
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import dvaojax
from dvaojax import cli

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def run_python(code: str) -> str:
    """The output of a new interpreter started outside the checkout."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_import_takes_less_than_a_tenth_of_a_second():
    code = "import time; t = time.perf_counter(); import dvaojax; print(time.perf_counter() - t)"
    assert statistics.median(float(run_python(code)) for _ in range(5)) < 0.1


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("dvaojax", {"jax", "numpy"}),
        ("dvaojax.cli", {"jax", "numpy", "rich", "tyro"}),
        ("dvaojax.aggregators", {"flax", "optax", "orbax", "matplotlib", "tyro", "rich"}),
        ("dvaojax.losses", {"flax", "optax", "orbax", "matplotlib", "tyro", "rich"}),
        ("dvaojax.integrations.tunix", {"tunix", "flax", "optax", "orbax"}),
        ("dvaojax.rewards", {"jax", "jaxlib", "flax", "optax", "orbax"}),
    ],
)
def test_a_package_imports_only_what_it_needs(module, absent):
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = set(run_python(code).split())
    assert "dvaojax" in loaded
    assert loaded & absent == set()


def test_names_are_imported_on_first_use():
    code = """
import sys, dvaojax
assert not any(name.startswith("dvaojax.") for name in sys.modules)
assert {"aggregators", "losses", "rollout", "train", "Config"} <= set(dir(dvaojax))
print(dvaojax.Prompt.__module__, dvaojax.Completion.__name__, "jax" in sys.modules)
print(dvaojax.aggregators.dvao.__name__, dvaojax.losses.gspo.__name__)
print(dvaojax.rollout.__name__, dvaojax.train.__name__, dvaojax.Config.__name__)
"""
    assert run_python(code).splitlines() == [
        "dvaojax.types Completion False",
        "dvao gspo",
        "dvaojax.rollout dvaojax.train Config",
    ]
    with pytest.raises(AttributeError, match="module 'dvaojax' has no attribute 'agregators'"):
        _ = dvaojax.agregators


def test_stub_declares_the_names_that_are_imported_on_first_use():
    stub = ast.parse(resources.files("dvaojax").joinpath("__init__.pyi").read_text())
    declared = {
        alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert declared == {*dvaojax._PACKAGES, *dvaojax._MEMBERS}


def test_the_command_is_installed():
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="dvaojax")
    assert command.load() is cli.main


def test_the_versions_agree():
    assert importlib.metadata.version("dvaojax") == dvaojax.__version__


def test_the_package_is_typed():
    assert resources.files("dvaojax").joinpath("py.typed").is_file()


def requirements() -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """Requirements of the package, and those of each extra."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    return (
        [Requirement(line) for line in project["dependencies"]],
        {name: [Requirement(line) for line in lines] for name, lines in extras.items()},
    )


def test_every_requirement_has_an_upper_bound():
    needed, extras = requirements()
    foreign = [r for added in extras.values() for r in added if r.name != "dvaojax"]
    for requirement in [*needed, *foreign]:
        operators = {s.operator for s in requirement.specifier} - {"!="}
        assert operators in ({">=", "<"}, {"=="}), requirement


def test_installed_versions_are_within_the_ranges():
    needed, extras = requirements()
    for requirement in [*needed, *extras["dev"]]:
        installed = importlib.metadata.version(requirement.name)
        assert requirement.specifier.contains(installed), (requirement, installed)
