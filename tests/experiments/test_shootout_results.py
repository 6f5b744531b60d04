"""The saved results of the shoot-out match the current sweep, and the README has their table."""

import json
from pathlib import Path

import pytest

from dvaojax.config import overrides
from dvaojax.sweep.directory import (
    DESCRIPTION,
    SweepDirectory,
    describe,
    migrate_description,
)
from dvaojax.sweep.execution import REPORT
from dvaojax.sweep.report import report, summary
from dvaojax.sweep.statistics import findings

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results" / "shootout"


@pytest.fixture(scope="module")
def sweep():
    return overrides.load_experiment(ROOT / "experiments/shootout.py", function="get_sweep")


@pytest.fixture(scope="module")
def results(sweep):
    return findings(sweep, SweepDirectory(RESULTS).rows())


def test_every_method_has_at_least_five_seeds_in_each_situation(sweep, results):
    tried = [(s, method) for s in sweep.situations for method in sweep.methods_in(s)]
    assert set(results) == set(tried)
    assert min(finding.seeds for finding in results.values()) >= 5


def test_results_match_this_sweep_and_name_their_commit(sweep):
    kept = json.loads((RESULTS / DESCRIPTION).read_text())
    now = json.loads(json.dumps(describe(sweep)))
    before = migrate_description(kept["sweep"])
    # The base may lack fields that were added later.
    for part in before.keys() - {"base"}:
        assert before[part] == now[part]
    for start in kept["starts"]:
        assert len(start["commit"]) == 12  # of a clean checkout
        assert start["command"].startswith("dvaojax sweep experiments/shootout.py")


def test_tables_and_plots_match_the_cells(sweep, results):
    assert (RESULTS / REPORT).read_text() == report(sweep, results)
    assert {path.stem for path in RESULTS.glob("*.png")} == set(sweep.situations)


def test_readme_has_the_table(sweep, results):
    readme = (ROOT / "experiments" / "README.md").read_text()
    assert summary(sweep, results) in readme
