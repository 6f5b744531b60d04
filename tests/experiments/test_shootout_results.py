"""The saved results of the sweeps match their files, and the README has their conclusions."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dvaojax.config import overrides
from dvaojax.evaluation.comparisons import holm, paired_p_value
from dvaojax.run.description import with_defaults
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


@pytest.fixture(scope="module", params=["shootout", "tension"])
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
    before["base"] = with_defaults(before["base"], saved.sweep.base)
    for part in before:
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


def test_objectives_are_in_tension():
    file = ROOT / "experiments" / "tension.py"
    sweep = overrides.load_experiment(file, function="get_sweep")
    sums = [int(p.reference) for split in ("train", "test") for p in sweep.base.task.prompts(split)]
    share = sum(total >= sweep.base.task.written_out_from for total in sums) / len(sums)
    assert share == pytest.approx(0.8, abs=0.02)
    rows = SweepDirectory(ROOT / "experiments" / "results" / "tension").rows()
    ends = [row["after"] for row in rows.values()]
    # Each is reached alone, never both.
    assert max(end["accuracy"] for end in ends) > 0.8
    assert max(end["brevity"] for end in ends) > 0.9
    assert max(min(end["accuracy"], end["brevity"]) for end in ends) < 0.6


def test_readme_has_the_table_of_the_tension(saved):
    if saved.sweep.name == "tension":
        readme = (ROOT / "experiments" / "README.md").read_text()
        assert summary(saved.sweep, saved.results) in readme
        significant = {method for (_, method), f in saved.results.items() if f.verdict}
        assert significant == {"reward_combination"}
        assert {finding.seeds for finding in saved.results.values()} == {20}
        behind = saved.results["tension", "reward_combination"]
        assert behind.gain.mean == pytest.approx(-0.033, abs=5e-4)
        assert behind.p_value == pytest.approx(0.041, abs=5e-4)


TENSION = ROOT / "experiments" / "results" / "tension"


def ends_of_the_tension(method, accuracy):
    """The mean rewards of the held-out problems, for each seed."""
    rows = SweepDirectory(TENSION).rows()
    return [
        row["after"]
        for key, row in sorted(rows.items())
        if (key.method, key.trade_off) == (method, str(accuracy))
    ]


def weighted_rewards(method, accuracy):
    """The weighted rewards of the seeds."""
    other = (1 - accuracy) / 2
    return np.array(
        [
            accuracy * end["accuracy"] + other * (end["brevity"] + end["format"])
            for end in ends_of_the_tension(method, accuracy)
        ]
    )


@pytest.fixture(scope="module")
def different_rewards():
    """Method and weight of accuracy where the weighted reward is not that of `dvao`."""
    methods = {key.method for key in SweepDirectory(TENSION).rows()} - {"dvao"}
    cells = [(method, weight) for method in sorted(methods) for weight in (0.3, 0.5, 0.7)]
    p_values = [
        paired_p_value(weighted_rewards(*cell) - weighted_rewards("dvao", cell[1]))
        for cell in cells
    ]
    return {cell for cell, p in zip(cells, holm(p_values), strict=True) if p < 0.05}


def test_rewards_of_the_tension_are_those_of_the_document(different_rewards):
    for method, weight, gain in (
        ("reward_combination", 0.5, 0.008),
        ("gdpo", 0.5, 0.0125),
        ("gdpo", 0.7, 0.026),
        ("rvpo", 0.3, -0.008),
    ):
        gained = weighted_rewards(method, weight) - weighted_rewards("dvao", weight)
        assert gained.mean() == pytest.approx(gain, abs=6e-4)
    at_half = {(m, 0.5) for m in ("advantage_combination", "dr_grpo", "gdpo", "reward_combination")}
    assert different_rewards == {*at_half, ("gdpo", 0.7), ("rvpo", 0.3)}


def test_the_readme_has_the_table_of_the_tension(saved, different_rewards):
    if saved.sweep.name == "tension":
        readme = (ROOT / "README.md").read_text()
        for method in saved.sweep.methods:
            finding, ends = saved.results["tension", method], ends_of_the_tension(method, 0.5)
            volume = [f"{100 * value:.1f}" for value in finding.volume]
            reward = f"{100 * weighted_rewards(method, 0.5).mean():.1f}"
            marks = [" *" * bool(finding.verdict), " *" * ((method, 0.5) in different_rewards)]
            right, brief = (np.mean([end[o] for end in ends]) for o in ("accuracy", "brevity"))
            row = f"| `{method}` | {volume[0]} [{volume[1]}, {volume[2]}]{marks[0]} | "
            row += f"{reward}{marks[1]} | {100 * right:.0f} | {100 * brief:.0f} |"
            assert row in readme, row
