"""The results that are kept are those of the sweep as it stands, and the README tells them."""

import json
from pathlib import Path

import pytest

from dvaojax.config import overrides
from dvaojax.sweep.record import DESCRIPTION, Record, describe
from dvaojax.sweep.report import report, summary
from dvaojax.sweep.statistics import findings
from dvaojax.sweep.sweeping import REPORT

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results" / "shootout"


@pytest.fixture(scope="module")
def sweep():
    return overrides.load_experiment(ROOT / "experiments/shootout.py", function="get_sweep")


@pytest.fixture(scope="module")
def found(sweep):
    return findings(sweep, Record(RESULTS).rows())


def test_every_method_has_at_least_five_seeds_in_each_situation(sweep, found):
    tried = [(s, method) for s in sweep.situations for method in sweep.methods_in(s)]
    assert set(found) == set(tried)
    assert min(finding.seeds for finding in found.values()) >= 5


def test_they_are_of_this_sweep_and_say_where_they_come_from(sweep):
    kept = json.loads((RESULTS / DESCRIPTION).read_text())
    now = json.loads(json.dumps(describe(sweep)))
    # A field that all configurations have since then makes it no other sweep.
    for part in kept["sweep"].keys() - {"base"}:
        assert kept["sweep"][part] == now[part]
    for start in kept["starts"]:
        assert len(start["commit"]) == 12  # of a clean checkout
        assert start["command"].startswith("dvaojax sweep experiments/shootout.py")


def test_tables_and_pictures_are_those_of_the_cells(sweep, found):
    assert (RESULTS / REPORT).read_text() == report(sweep, found)
    assert {path.stem for path in RESULTS.glob("*.png")} == set(sweep.situations)


def test_the_readme_has_the_table(sweep, found):
    readme = (ROOT / "README.md").read_text()
    assert summary(sweep, found) in readme
