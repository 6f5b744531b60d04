"""A new method takes one file and one row of the table: shown in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dvaojax

FILE = '''
"""Rewards above the median of their group; without a paper."""

import jax.numpy as jnp


def above_the_median(rewards, weights, *, mask=None, factor=1.0):
    r"""The weighted reward above the median of the group.

    $$ A_i = f (R_i - \\operatorname{median}_j R_j) $$

    Not to be confused with: `dr_grpo`, which subtracts the mean.

    Args:
        rewards: `[..., G, K]`.
        weights: `[K]`.
        mask: ignored.
        factor: multiplies the advantages.

    Returns:
        `[..., G]`.
    """
    total = rewards @ weights
    return factor * (total - jnp.median(total, axis=-1, keepdims=True))
'''
IMPORT = "from dvaojax.aggregators.above_the_median import above_the_median as above_the_median\n"
ROW = """    _own(above_the_median, None, "`f (R_i - median_j R_j)`", credit="no paper"),
"""
SCRIPT = """
import jax.numpy as jnp

import dvaojax
from dvaojax import aggregators, cli
from dvaojax.aggregators import above_the_median
from dvaojax.config import Config, make_aggregator, overrides, validate

print(dvaojax.__file__)
rewards = jnp.array([[[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]])
print(above_the_median(rewards, jnp.ones(2)))
aggregator = aggregators.make("above_the_median", jnp.ones(2), factor=2.0)
print(aggregator.update(rewards, None, (), None)[0])
settings = ["aggregator=above_the_median", "aggregator.options=factor=3"]
config = overrides.apply(Config(), settings)
validate(config)
make_aggregator(config)
assert cli.main(["methods"]) == 0
assert cli.main(["methods", "above_the_median"]) == 0
assert cli.main(["methods", "--markdown", "aggregators"]) == 0
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package with one more file and one more row."""
    root = tmp_path_factory.mktemp("copy")
    copy = root / "dvaojax"
    shutil.copytree(
        Path(dvaojax.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__")
    )
    (copy / "aggregators" / "above_the_median.py").write_text(FILE)
    table = copy / "aggregators" / "methods.py"
    text = table.read_text()
    first_import = text.index("from dvaojax.aggregators.advantage_combination import")
    text = text[:first_import] + IMPORT + text[first_import:]
    text, count = re.subn(r"(?<=AggregatorRow, ...\] = \(\n)", ROW, text)
    assert count == 1
    table.write_text(text)
    return root


def test_one_file_and_one_row_are_enough(package):
    # Coverage is that of the package itself, not of the copy.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        cwd=package,
        env={**environment, "PYTHONPATH": str(package), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    path, alone, aggregated, *rest = done.stdout.splitlines()
    assert path.startswith(str(package))
    assert (alone, aggregated) == ("[[ 1.  0. -1.]]", "[[ 2.  0. -2.]]")
    listed = [line for line in rest if line.startswith("   above_the_median ")]
    assert len(listed) == 1
    output = "\n".join(rest)
    assert "Rewards above the median of their group; without a paper." in output
    assert "Not to be confused with\n  `dr_grpo`, which subtracts the mean." in output
    assert "factor=1.0  multiplies the advantages." in output
    assert "| `above_the_median` | `f (R_i - median_j R_j)` | no paper |" in output
