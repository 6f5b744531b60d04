"""The regimes of the bandit: their tables, their comparisons, and the published results."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import regimes
from scipy import stats
from tabular import axes, cells, measures, problem, regime_cells, regime_report

from dvaojax.evaluation.comparisons import holm

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results" / "regimes.json"
OTHERS = regime_report.OTHERS


def test_objectives_have_the_correlation_of_the_regime():
    drawn = jax.random.normal(jax.random.key(0), (100_000, 4))
    for correlation in (-0.9, 0.0, 0.6):
        values = problem._correlated(drawn, axes.Regime(correlation, 4).variant.correlation)
        expected = np.full((4, 4), correlation**2)
        expected[0], expected[:, 0] = correlation, correlation
        np.fill_diagonal(expected, 1.0)
        np.testing.assert_allclose(np.corrcoef(values, rowvar=False), expected, atol=0.015)
        np.testing.assert_allclose(np.std(values, axis=0), 1.0, atol=0.015)


def test_regimes_vary_one_property_at_a_time():
    points = axes.points()
    for point in points:
        regime = point.regime
        np.testing.assert_allclose(regime.weights.sum(), 1)
        table = jax.eval_shape(problem.draw_problem, jax.random.key(0), regime.variant)
        assert table.success.shape[-1] == regime.size.num_objectives == len(regime.weights)
        base = axes.Regime(regime.correlation)
        changed = {k for k in base._fields if getattr(regime, k) != getattr(base, k)}
        if point.axis in ("noise", "group size", "weight"):
            assert len(changed) <= 1, point
        else:
            assert changed <= {"num_objectives", "weight"}, point
            np.testing.assert_allclose(regime.weights, 1 / regime.num_objectives)
    assert len({p.regime.name for p in points}) == len({p.regime for p in points})


@pytest.mark.slow
def test_base_regime_is_the_plain_bandit():
    design = regime_cells.Design(num_seeds=20, num_tuning_seeds=20, rates=(2.0, 6.0))
    outcome = regime_cells.compute("dvao", axes.Regime(), design)
    settings = cells.Settings(
        num_seeds=20, accuracy_weights=(1 / 3,), num_tuning_seeds=20, rates=(6.0,)
    )
    plain = problem.variants()["plain"]
    for step, actual in (("equal", outcome.equal), ("own", outcome.tuned)):
        values = cells.compute("dvao", plain, step, settings).values
        ends = measures.ends(plain, settings.seeds, settings.weights)
        expected = measures.progress(values, settings.weights, ends)[:, 0]
        np.testing.assert_allclose(actual, expected, rtol=1e-4)
    assert float(outcome.rate) == 6.0


def outcomes_with(gained):
    """Artificial outcomes: DVAO's progress is that of the others plus `gained` `[S]`."""
    rng = np.random.default_rng(0)
    results = {}
    for regime in dict.fromkeys(point.regime for point in axes.points()):
        for name in regime_cells.METHODS:
            noise = rng.normal(0, 0.01, (2, len(gained)))
            plus = gained if name == "dvao" else 0 * gained
            results[name, regime] = regime_cells.Outcome(*(0.5 + noise + plus), np.array(2.0))
    return results


def test_only_differences_beyond_chance_are_called_differences(tmp_path):
    design = regime_cells.Design(num_seeds=20)
    for gain in (-0.1, 0.0, 0.1):
        gained = np.full(20, gain)
        report = regime_report.summarise(outcomes_with(gained), design, command="a test")
        entries = [entry for row in report["cells"] for entry in row["ahead_of"].values()]
        assert {regime_report.verdict(entry) for entry in entries} == {int(np.sign(gain))}
        assert np.mean([entry[0] for entry in entries]) == pytest.approx(100 * gain, abs=0.2)
    regime_report.write(report, tmp_path)
    assert json.loads((tmp_path / "regimes.json").read_text()) == report


def test_errors_are_one_line(capsys):
    for arguments, complaint in (
        (["--seeds", "10"], "--out DIR"),
        (["--seeds", "1", "--out", "."], "1 seeds: from 2 to 125"),
    ):
        assert regimes.main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert complaint in line


@pytest.fixture(scope="module")
def results():
    """The results in the repository."""
    return json.loads(RESULTS.read_text())


def test_results_are_of_this_design_and_adjusted(results):
    assert results["settings"] == json.loads(json.dumps(vars(regime_cells.Design())))
    assert len(results["commit"]) == 12  # of a clean checkout
    rows = regime_report.rows_of(results)
    wanted = {point.regime for point in axes.points()}
    assert set(rows) == {(regime, step) for regime in wanted for step in regime_report.STEPS}
    entries = [row["ahead_of"][name] for row in rows.values() for name in OTHERS]
    degrees = results["settings"]["num_seeds"] - 1
    # The p-values again, from the rounded means and intervals; without borderline cases.
    means, halves = np.array([entry[:2] for entry in entries]).T
    errors = np.maximum(halves, 0.005) / stats.t.ppf(0.975, degrees)
    adjusted = holm(2 * stats.t.sf(np.abs(means) / errors, degrees))
    for entry, p in zip(entries, adjusted, strict=True):
        if entry[1] > 0.04 and not 0.005 < p < 0.3:
            assert (entry[2] < 0.05) == (p < 0.05), (entry, p)
    assert RESULTS.with_suffix(".md").read_text() == regime_report.document(results)


def test_readme_has_the_summary(results):
    text = (ROOT / "experiments" / "README.md").read_text()
    assert regime_report.summary(results) in text


def test_conclusions_of_the_readme(results):
    rows = regime_report.rows_of(results)

    def gained(step, name, regimes):
        """DVAO's advantage in each regime where it is significant."""
        entries = {regime: rows[regime, step]["ahead_of"][name] for regime in regimes}
        return {regime: e[0] for regime, e in entries.items() if regime_report.verdict(e)}

    every = {regime for regime, _ in rows}
    for step in regime_report.STEPS:
        for regime in every:
            signs = map(regime_report.verdict, rows[regime, step]["ahead_of"].values())
            assert min(signs) < 1, regime
    assert len(gained("equal", "james_stein", every)) == 43
    assert not gained("tuned", "reward_combination", every)
    won = gained("equal", "reward_combination", every)
    ahead = {regime for regime, points in won.items() if points > 0}
    assert {regime for regime in every if regime.num_objectives == 8} <= ahead
    assert {regime for regime in every if regime.weight >= 0.9} <= ahead
    assert {regime for regime in every if regime.group_size == 64} <= ahead
    assert not {regime for regime in ahead if regime.num_objectives == 2}
    assert min(won.values()) > -2.3
    assert max(won.values()) < 2.3
    noisy = {regime for regime in every if regime.noise}
    for name in ("gdpo", "corr_gdpo", "advantage_combination"):
        tuned = gained("tuned", name, noisy)
        assert {(regime.correlation, regime.noise) for regime in tuned} == {
            (-0.6, 1.0), (-0.6, 2.0), (0.0, 2.0)
        }  # fmt: skip
        assert 7 < min(tuned.values()) < max(tuned.values()) < 12
        assert min(gained("equal", name, noisy).values()) > -18
        large = [regime for regime in every if regime.group_size == 64]
        assert min(gained("equal", name, large).values()) > 0.5
    for name in OTHERS[1:]:
        skewed = {regime for regime in every if regime.weight == 0.97}
        for step, low, high in (("equal", -7.45, -1.35), ("tuned", -5.85, -3.35)):
            behind = gained(step, name, skewed)
            assert set(behind) == skewed
            assert low < min(behind.values()) <= max(behind.values()) < high
    for name in ("dr_grpo", "dvao_shrunk"):
        (first, last) = (
            [rows[axes.Regime(c, group_size=size), "equal"]["ahead_of"][name][0] for c in (-0.6, 0)]
            for size in (4, 64)
        )
        assert -3 < min(first) < max(first) < -1.8
        assert min(last) > -0.45
