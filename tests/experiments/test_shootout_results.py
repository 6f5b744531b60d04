"""The saved results of the sweeps match their files, and the README has their conclusions."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from dvaojax.config import overrides
from dvaojax.sweep.directory import (
    DESCRIPTION,
    SweepDirectory,
    describe,
    migrate_description,
)
from dvaojax.sweep.execution import REPORT
from dvaojax.sweep.report import report
from dvaojax.sweep.statistics import findings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["shootout"])
def saved(request):
    """The sweep of a file, the directory of its results, and its findings."""
    file = ROOT / "experiments" / f"{request.param}.py"
    directory = ROOT / "experiments" / "results" / request.param
    sweep = overrides.load_experiment(file, function="get_sweep")
    results = findings(sweep, SweepDirectory(directory).rows())
    return SimpleNamespace(sweep=sweep, directory=directory, results=results)


def test_every_method_has_at_least_five_seeds_in_each_situation(saved):
    tried = [(s, method) for s in saved.sweep.situations for method in saved.sweep.methods_in(s)]
    assert set(saved.results) == set(tried)
    assert min(finding.seeds for finding in saved.results.values()) >= 5


def test_results_match_this_sweep_and_name_their_commit(saved):
    kept = json.loads((saved.directory / DESCRIPTION).read_text())
    now = json.loads(json.dumps(describe(saved.sweep)))
    before = migrate_description(kept["sweep"])
    # The base may lack fields that were added later.
    for part in before.keys() - {"base"}:
        assert before[part] == now[part]
    for start in kept["starts"]:
        assert len(start["commit"]) == 12  # of a clean checkout
        assert start["command"].startswith(f"dvaojax sweep experiments/{saved.sweep.name}.py")


def test_tables_and_plots_match_the_cells(saved):
    assert (saved.directory / REPORT).read_text() == report(saved.sweep, saved.results)
    assert {path.stem for path in saved.directory.glob("*.png")} == set(saved.sweep.situations)


def test_one_difference_of_the_shootout_is_significant(saved):
    if saved.sweep.name == "shootout":
        verdicts = {key: value.verdict for key, value in saved.results.items() if value.verdict}
        assert verdicts == {("noisy", "gdpo"): "+"}
        assert len([value for value in saved.results.values() if value.gain is not None]) == 45
