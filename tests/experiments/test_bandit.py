"""The bandit: exact values, runs against a NumPy loop, saved cells, and the published results."""

import json
import re
from pathlib import Path

import bandit
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from tabular import cells, learning, measures, problem, report

from dvaojax.aggregators import METHODS
from dvaojax.errors import UserError

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results" / "bandit.json"

SIZE = learning.Size(num_steps=4, prompts_per_step=3, group_size=4)
TINY = cells.Settings(
    num_seeds=3, accuracy_weights=(0.2, 0.6), rates=(0.5, 2.0), num_tuning_seeds=3, size=SIZE
)


SEEDS = jnp.array([11, 12, 13], jnp.int32)


@pytest.fixture(scope="module")
def table():
    """A table with scale and noise, and logits."""
    variant = problem.variants()["noisy"]._replace(scale=jnp.array([1.0, 10.0, 1.0]))
    problems = learning.problems_of(SEEDS, variant)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=problem.NUM_COMPLETIONS), jnp.float32)
    return jax.tree.map(lambda field: jnp.asarray(np.asarray(field)[0]), problems), logits


def softmax(logits):
    weights = [np.exp(float(logit)) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def expected_in_a_loop(drawn, logits):
    """Expected objectives, prompt by prompt and completion by completion, in float64."""
    policy, success = softmax(logits), np.asarray(drawn.success, np.float64)
    expected = [0.0] * len(problem.OBJECTIVES)
    for table in success:
        for probability, earned in zip(policy, table, strict=True):
            for k, chance in enumerate(earned):
                expected[k] += probability * chance / len(success)
    return np.array(expected)


def test_expected_objectives_match_a_loop(table):
    actual = jax.jit(problem.expected)(*table)
    np.testing.assert_allclose(actual, expected_in_a_loop(*table), rtol=1e-5)


def test_samples_have_the_distribution_of_the_table(table):
    size = learning.Size(prompts_per_step=20_000, group_size=4)
    drawn = jax.jit(lambda key: learning.batch_of(*table, learning.draw(key, size)))
    batch = drawn(jax.random.key(1))
    frequencies = np.bincount(np.ravel(batch.chosen), minlength=problem.NUM_COMPLETIONS) / 80_000
    np.testing.assert_allclose(frequencies, softmax(table[1]), atol=0.006)
    # There are 20,000 independent groups, whose means have a standard deviation of at most 1.
    expected, rewards = expected_in_a_loop(*table), np.asarray(batch.rewards)
    np.testing.assert_allclose(rewards.mean(axis=(0, 1)) / [1.0, 10.0, 1.0], expected, atol=0.012)
    mean = expected[problem.FORMAT]
    assert rewards[..., problem.FORMAT].var() == pytest.approx(1 + mean * (1 - mean), rel=0.03)


def test_gradients_match_automatic_differentiation(table):
    drawn, logits = table
    weights = jnp.array([0.5, 0.2, 0.3])
    chosen, advantages = jnp.array([[3, 5], [3, 0]]), jnp.array([[1.0, -2.0], [0.5, 0.25]])

    def weighted(logits):
        return jnp.sum(problem.expected(drawn, logits) * weights)

    def surrogate(logits):
        return jnp.mean(advantages * jax.nn.log_softmax(logits)[chosen])

    @jax.jit
    def gradients(logits):
        value = jnp.sum(problem.worth(drawn) * weights[None], axis=-1)
        pushed = learning.policy_gradient(logits, chosen, advantages)
        ours = learning.exact_gradient(value, logits), pushed
        return ours, (jax.grad(weighted)(logits), jax.grad(surrogate)(logits))

    for ours, by_jax in zip(*gradients(logits), strict=True):
        np.testing.assert_allclose(ours, by_jax, atol=1e-6)


def dvao_of_a_group(rewards, weights):
    scale = sum(w * rewards[:, k].std() for k, w in enumerate(weights))
    centred = (rewards - rewards.mean(axis=0)) @ weights
    return centred / scale if scale > 0 else 0 * centred


def z_scores_of_a_group(rewards, weights):
    total = np.zeros(len(rewards))
    for k, weight in enumerate(weights):
        deviation = rewards[:, k].std(ddof=1)
        if deviation > 0:
            total += weight * (rewards[:, k] - rewards[:, k].mean()) / (deviation + 1e-4)
    return total


def loop(method, drawn, draws, weights, rate, is_equalised):
    """A run in NumPy, one completion at a time, with a given table and random numbers."""
    success, scale = np.asarray(drawn.success, np.float64), np.asarray(drawn.scale)
    theta, mean_squares, cosine = np.zeros(problem.NUM_COMPLETIONS), [], None
    for t in range(SIZE.num_steps):
        policy = np.array(softmax(theta))
        chosen = np.zeros(SIZE.batch, int)
        rewards = np.zeros((*SIZE.batch, len(problem.OBJECTIVES)))
        for b, i in np.ndindex(chosen.shape):
            prompt = int(draws.prompt[t, b] * problem.NUM_PROMPTS)
            while draws.choice[t, b, i] >= policy[: chosen[b, i] + 1].sum():
                chosen[b, i] += 1
            for k in range(rewards.shape[2]):
                earned = draws.reward[t, b, i, k] < success[prompt, chosen[b, i], k]
                noise = float(drawn.noise[k]) * float(draws.noise[t, b, i, k])
                rewards[b, i, k] = earned * scale[k] + noise
        if method == "dvao":
            advantages = np.array([dvao_of_a_group(group, weights) for group in rewards])
        else:
            totals = np.array([z_scores_of_a_group(group, weights) for group in rewards])
            advantages = (totals - totals.mean()) / (totals.std(ddof=1) + 1e-4)
        mean_squares.append((advantages**2).mean())
        if is_equalised:
            advantages = advantages / np.sqrt(mean_squares[-1])
        gradient = np.zeros_like(theta)
        for b, i in np.ndindex(advantages.shape):
            one = np.arange(len(theta)) == chosen[b, i]
            gradient += advantages[b, i] * (one - policy) / advantages.size
        if cosine is None:
            value = success.mean(axis=0) @ weights
            exact = policy * (value - policy @ value)
            cosine = gradient @ exact / np.linalg.norm(gradient) / np.linalg.norm(exact)
        theta = theta + rate * gradient
    return np.array(softmax(theta)) @ success.mean(axis=0), np.mean(mean_squares), cosine


@pytest.mark.parametrize("method", ["dvao", pytest.param("gdpo", marks=pytest.mark.slow)])
def test_batched_runs_match_numpy(method):
    weights, rates = np.array([[0.2, 0.4, 0.4], [0.6, 0.2, 0.2]]), [0.5, 3.0]
    draws = learning.draws_of(SEEDS, size=SIZE)
    for name, is_equalised in (("noisy", False), ("scaled", True)):
        problems = learning.problems_of(SEEDS, problem.variants()[name])
        runs = learning.run_seeds(
            method,
            problems,
            draws,
            jnp.asarray(weights, jnp.float32),
            jnp.array(rates),
            jnp.full(len(rates), is_equalised),
            size=SIZE,
            mesh=jax.sharding.Mesh(np.array(jax.devices()[:1]), ("seeds",)),
        )
        table = jax.tree.map(lambda a: a[1], problems)
        numbers = learning.Draws(*(np.asarray(a[1]) for a in draws[:-1]), key=draws.key[1])
        for w, rate in enumerate(rates):
            alone = loop(method, table, numbers, weights[w], rate, is_equalised)
            for field, expected in zip(runs, alone, strict=True):
                np.testing.assert_allclose(field[1, w], expected, rtol=2e-4)


def test_progress_is_0_untrained_and_1_at_the_optimum():
    variant, weights = problem.variants()["conflict"], TINY.weights
    ends = measures.ends(variant, TINY.seeds, weights)
    np.testing.assert_allclose(measures.progress(ends.best, weights, ends), 1, rtol=1e-6)
    untrained = np.repeat(ends.untrained[:, None], len(weights), axis=1)
    np.testing.assert_allclose(measures.progress(untrained, weights, ends), 0, atol=1e-6)
    np.testing.assert_allclose(measures.hypervolumes(ends.best, ends).mean(), 1)
    # The hypervolume of one point is its box.
    one = ends._replace(best=ends.best[:, :1])
    box = untrained[:, 0].prod(axis=1) / ends.best[:, 0].prod(axis=1).mean()
    np.testing.assert_allclose(measures.hypervolumes(untrained, one), box)
    # No completion has a larger weighted sum.
    success = learning.problems_of(jnp.asarray(TINY.seeds), variant).success
    sums = np.einsum("spvk,wk->swv", success, weights) / problem.NUM_PROMPTS
    np.testing.assert_allclose(
        np.einsum("swk,wk->sw", ends.best, weights), sums.max(axis=-1), rtol=1e-6
    )


def test_intervals_match_the_normal_distribution():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=(1000, 4))
    mean, low, high = measures.intervals(values, measures.resampling(1000)).T
    np.testing.assert_allclose(mean, values.mean(axis=0))
    half = 1.96 * values.std(axis=0) / np.sqrt(1000)
    np.testing.assert_allclose(mean - low, half, rtol=0.1)
    np.testing.assert_allclose(high - mean, half, rtol=0.1)


class Stopped(Exception):
    """Simulates a kill."""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Runs the experiment on DVAO in miniature; returns its files and the number of new cells.

    With `stop_after` the run is killed after that many cells.
    """
    computed = []

    def run(directory, *, stop_after=None):
        compute = cells.compute

        def counted(*arguments):
            if stop_after is not None and len(computed) == stop_after:
                raise Stopped
            computed.append(arguments)
            return compute(*arguments)

        computed.clear()
        with monkeypatch.context() as patch:
            patch.setattr(cells, "compute", counted)
            kept = bandit.compute_missing(["dvao"], TINY, tmp_path / directory, Console(quiet=True))
        out = tmp_path / f"{directory} out"
        out.mkdir(exist_ok=True)
        report.write(report.summarise(kept, TINY, command="a test"), out)
        return {path.name: path.read_bytes() for path in out.iterdir()}, len(computed)

    return run


def test_resumed_experiment_is_byte_identical(written, tmp_path):
    unbroken, num_cells = written("unbroken")
    assert num_cells == len(problem.variants()) * len(cells.STEPS)
    assert set(unbroken) == {"bandit.json", "bandit.md"}
    with pytest.raises(Stopped):
        written("broken", stop_after=7)
    # A partial file, as left by a kill, and a damaged cell.
    first, *others = sorted((tmp_path / "broken" / "dvao").iterdir())
    first.with_name(f".{first.name}.partial").write_bytes(first.read_bytes()[:100])
    others[0].write_bytes(b"no cell")
    resumed, computed = written("broken")
    assert computed == num_cells - 6
    assert resumed == unbroken
    assert written("broken") == (unbroken, 0)


def test_added_methods_keep_the_rows_of_the_others(results, tmp_path):
    def rows(method, **changed):
        kept = [row for row in results["cells"] if row["method"] == method]
        return [row | changed for row in kept]

    kept = [row for row in results["cells"] if row["method"] != "gdpo"]
    before = dict(results, cells=kept, additions=[])
    added = dict(results, cells=rows("gdpo") + rows("dvao", rate=7), command="c", commit="0" * 12)
    merged = report.merged(before, added)
    assert merged["cells"] == results["cells"]
    addition = {"methods": ["gdpo"], "command": "c", "commit": "0" * 12}
    assert merged["additions"] == [addition]
    report.write(merged, tmp_path)
    assert report.read(tmp_path, cells.Settings()) == merged
    with pytest.raises(UserError, match="other settings"):
        report.read(tmp_path, TINY)


def test_cells_of_other_settings_or_code_are_not_loaded(tmp_path):
    cell = cells.Cell(*(np.zeros(1) for _ in cells.Cell._fields))
    path = cells.path_of(tmp_path, "dvao", "plain", "own")
    digest = cells.digest("dvao", TINY)
    cells.save(path, cell, digest)
    assert cells.load(path, digest) is not None
    assert cells.load(path, cells.digest("dvao", cells.Settings())) is None
    assert cells.load(path, cells.digest("gdpo", TINY)) is None


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--methods", "dvap", "--out", "."], "did you mean 'dvao'?"),
        (["--methods", "dvao_of_repeats", "--out", "."], "needs several scores of each completion"),
        (["--methods", "dvao"], "--out DIR"),
        (["--add", "dvao", "--out", "."], "no bandit.json to add to"),
        (["--seeds", "130", "--out", "."], "130 seeds: fewer than 125, or a multiple"),
    ],
)
def test_errors_are_one_line(arguments, complaint, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bandit.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def results():
    """The results in the repository."""
    return json.loads(RESULTS.read_text())


def test_results_match_the_settings_and_are_small(results):
    assert report.settings_of(results) == cells.Settings()
    keys = {(row["method"], row["variant"], row["step"]) for row in results["cells"]}
    methods = {method for method, _, _ in keys}
    assert methods <= set(METHODS)
    assert len(keys) == len(methods) * len(problem.variants()) * len(cells.STEPS)
    assert RESULTS.stat().st_size < 360_000
    for run in (results, *results.get("additions", [])):
        assert re.fullmatch(r"[0-9a-f]{12}", run["commit"])
    assert RESULTS.with_suffix(".md").read_text() == report.tables(results)


def test_constant_factor_has_no_effect_at_equal_length(results):
    rows = {(row["method"], row["variant"], row["step"]): row for row in results["cells"]}
    for variant in problem.variants():
        for one, other in (("dr_grpo", "rloo"), ("grpo", "reward_combination")):
            same = [rows[name, variant, "equal"]["progress"] for name in (one, other)]
            np.testing.assert_allclose(*same, atol=0.002)


def test_readme_has_these_numbers(results):
    text = (ROOT / "experiments" / "README.md").read_text()
    section = text.partition("\n### Bandit")[2]
    methods = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert "dvao" in methods
    assert report.measured(results, "progress", methods) in section


def test_conclusions_of_the_readme(results):
    rows = {(row["method"], row["variant"], row["step"]): row for row in results["cells"]}

    def beyond(method, variant, step, measure="progress"):
        """Difference from DVAO in points, 0 if the interval contains 0."""
        mean, low, high = rows[method, variant, step][f"{measure}_beyond_dvao"]
        return 100 * mean if low > 0 or high < 0 else 0.0

    for variant in ("plain", "noisy", "scaled"):
        assert -1 < beyond("reward_combination", variant, "equal") < 0
    for variant in ("conflict", "rare", "saturated"):
        assert 0 < beyond("reward_combination", variant, "equal") < 1
    for variant in ("plain", "noisy", "conflict", "rare", "saturated"):
        assert 1 < beyond("dr_grpo", variant, "equal") < 3.5
        assert 1 < beyond("lite_ppo", variant, "equal") < 3.5
        assert 0.5 < beyond("dvao_shrunk", variant, "equal") < 2.5
    for method in ("advantage_combination", "gdpo"):
        assert beyond(method, "scaled", "equal") > 10
        assert beyond(method, "scaled", "own") > 17
        assert beyond(method, "noisy", "equal") > 7
        assert beyond(method, "noisy", "own") < -1
        assert beyond(method, "saturated", "equal") > 1
    assert beyond("dvao_denoised", "noisy", "equal") > 5
    assert beyond("dvao_denoised", "noisy", "own") < -3
    assert beyond("rvpo", "conflict", "equal") < 0
    assert beyond("reward_combination", "conflict", "own", "hypervolume") < -1
    specialists = ("gdpo", "dara_symmetric", "sa_mrpo")
    ahead = [beyond(method, "rare", "own", "hypervolume") for method in specialists]
    assert 0 < ahead[0] < ahead[1] < ahead[2]
    for variant in problem.variants():
        assert beyond("gd2po_hard", variant, "equal") < -4
        reached = {m: rows[m, variant, "equal"]["progress"][0] for m, _, _ in rows}
        assert 0.009 < reached["james_stein"] - reached["dr_grpo"] < 0.014
        assert -0.0075 < reached["oblr_po"] - reached["rloo"] < 0
        assert -0.0075 < reached["corr_gdpo"] - reached["gdpo"] < -0.002
        if variant in ("plain", "conflict", "saturated"):
            assert max(reached, key=lambda m: reached[m]) == "james_stein"
    assert beyond("dro", "rare", "own") < -40
    for variant in ("plain", "noisy", "conflict", "rare"):
        assert beyond("hvpo", variant, "own") < beyond("gd2po_hard", variant, "own")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "variant", "step"),
    [("dvao", "noisy", "own"), ("gdpo", "rare", "equal"), ("constrained_grpo", "plain", "common")],
)
def test_results_are_reproducible(method, variant, step, results):
    (kept,) = (
        row
        for row in results["cells"]
        if (row["method"], row["variant"], row["step"]) == (method, variant, step)
    )
    settings = cells.Settings()
    again = cells.compute(method, problem.variants()[variant], step, settings)
    assert float(again.rate) == pytest.approx(kept["rate"], abs=1e-4)
    # Rounding differs between machines, which occasionally changes a draw and that seed's run.
    np.testing.assert_allclose(
        again.values.mean(axis=0), np.array(kept["per_mille"]) / 1000, atol=0.003
    )
    assert again.alignment.mean() == pytest.approx(kept["alignment"], abs=2e-3)
