"""Aggregators in Tunix: the reward manager, and a training run with Tunix's learner.

The run is a slow test and needs `google-tunix`. The other tests use a stub that behaves like
Tunix's documented manager: the sum without NaN, and the values of every reward function.
"""

import functools
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from packaging.requirements import Requirement

from dvaojax import aggregators
from dvaojax.aggregators import diagnostics, make
from dvaojax.errors import UserError
from dvaojax.integrations import tunix

OBJECTIVES = ("right", "short")
WEIGHTS = jnp.array([1.0, 0.5])
SHAPE = B, G, K = 3, 4, 2
PROMPTS = [prompt for prompt in "xyz" for _ in range(G)]
COMPLETIONS = ["a" * n for n in range(1, 1 + B * G)]


def summing(rewards):
    """A stub of Tunix's manager that returns the given rewards `[B, G, K]`."""
    rows = rewards.reshape(-1, K)

    def manager(prompts, completions, **columns):
        single = {f"rewards/{name}": (rows[:, k], np.mean) for k, name in enumerate(OBJECTIVES)}
        metrics = {**single, "columns": (sorted(columns), None)}
        return {"rewards": np.nansum(rows, axis=1), "log_metrics": metrics}

    return manager


@functools.cache
def made(method, **knobs):
    """Creates an aggregator; cached, so that it is compiled once."""
    aggregator = make(method, WEIGHTS, **knobs)
    return aggregator._replace(update=jax.jit(aggregator.update))


def expected_advantages(method, rewards, mask=None):
    lengths = np.arange(1, 1 + B * G).reshape(B, G)
    given = np.nan_to_num(rewards).astype(np.float32)
    mask = np.ones(SHAPE, bool) if mask is None else mask
    return made(method).update(given, mask, (), None, lengths=lengths)[0]


def make_manager(rewards, method="dvao", **knobs):
    return tunix.VectorRewardManager(
        summing(rewards),
        OBJECTIVES,
        WEIGHTS,
        made(method, **knobs),
        group_size=G,
        count_tokens=len,
        key=jax.random.key(0),
    )


def advantages(manager, mode="train"):
    rewards = manager(PROMPTS, COMPLETIONS, mode=mode)["rewards"]
    return tunix.extract_advantages(rewards=rewards, num_generations=G).reshape(B, G)


@pytest.fixture
def rewards():
    return np.random.default_rng(0).random(SHAPE)


@pytest.mark.parametrize("method", ["dvao", "reinforce_plus_plus"])
def test_advantages_are_computed_from_reward_vectors(method, rewards):
    expected = expected_advantages(method, rewards)
    np.testing.assert_allclose(advantages(make_manager(rewards, method)), expected, atol=1e-6)


def test_rewards_are_the_sums_of_tunix(rewards):
    result = make_manager(rewards)(PROMPTS, COMPLETIONS, mode="train", answer=["1"] * B * G)
    assert result["log_metrics"]["columns"][0] == ["answer", "mode"]
    sums = result["rewards"]
    assert isinstance(sums, np.ndarray)
    np.testing.assert_array_equal(sums, rewards.sum(-1).reshape(-1))
    assert float(np.mean(sums)) == pytest.approx(rewards.sum(-1).mean())
    np.testing.assert_array_equal(jnp.asarray(sums), np.asarray(sums, np.float32))


def test_nan_means_not_applicable(rewards):
    rewards[0, 1, 1] = rewards[2, :, 0] = np.nan
    manager = make_manager(rewards)
    masked = expected_advantages("dvao", rewards, ~np.isnan(rewards))
    np.testing.assert_allclose(advantages(manager), masked, atol=1e-6)
    logged = manager(PROMPTS, COMPLETIONS, mode="train")["log_metrics"]
    values, combine = logged["rewards/short"]
    assert combine(values) == pytest.approx(np.nanmean(rewards[..., 1]))


def test_logs_every_objective(rewards):
    logged = make_manager(rewards)(PROMPTS, COMPLETIONS, mode="train")["log_metrics"]
    measured = jax.jit(diagnostics)(rewards.astype(np.float32), WEIGHTS)
    expected = {
        "agreement": measured.mean_agreement.value,
        "zero_variance_groups": 0.0,
        "advantage_mean_square": np.mean(advantages(make_manager(rewards)) ** 2),
    }
    for k, name in enumerate(OBJECTIVES):
        expected[f"spread/{name}"] = measured.spread.value[k]
        expected[f"effective_weight/{name}"] = measured.effective_weight.value[k]
    for name, value in expected.items():
        measured, combine = logged[name]
        assert combine([measured]) == pytest.approx(float(value), abs=1e-6), name


def test_state_changes_in_training_only(rewards):
    knobs = {"threshold": (0.9, 0.1), "rate": 5.0}
    aggregator = made("lagrangian", **knobs)
    given = (rewards.astype(np.float32), np.ones(SHAPE, bool))
    first, state = aggregator.update(*given, aggregator.init(K), None)
    second, _ = aggregator.update(*given, state, None)
    assert not np.allclose(first, second, atol=1e-3)
    manager = make_manager(rewards, "lagrangian", **knobs)
    for mode, expected in (("eval", first), ("eval", first), ("train", first), ("eval", second)):
        np.testing.assert_allclose(advantages(manager, mode), expected, atol=1e-6)
    jax.tree.map(np.testing.assert_allclose, manager.state, state)


def test_refuses_infinite_rewards_and_split_groups(rewards):
    with pytest.raises(UserError, match="12 completions are not groups of 4 with the same prompt"):
        make_manager(rewards)(["x", "y", "z"] * G, COMPLETIONS, mode="train")
    rewards[1, 2, 1] = np.inf
    with pytest.raises(UserError, match="short returned an infinite reward"):
        advantages(make_manager(rewards))


def test_refuses_rewards_of_another_manager(rewards):
    sums = make_manager(rewards)(PROMPTS, COMPLETIONS, mode="train")["rewards"]
    for other in (np.asarray(sums), sums[:G], sums * 2):
        with pytest.raises(UserError, match="set the reward_manager returned by register"):
            tunix.extract_advantages(other, G)


def test_reward_functions_need_unique_names():
    def right(prompts, completions):
        return [1.0] * len(completions)

    assert tunix.objective_names([right]) == ["right"]
    with pytest.raises(UserError, match="2 reward functions have the name 'right'"):
        tunix.objective_names([right, right])
    with pytest.raises(UserError, match="has no __name__"):
        tunix.objective_names([functools.partial(right)])


def test_missing_tunix_names_the_extra(monkeypatch):
    for module in ("tunix", "tunix.rl.function_registry", "tunix.rl.reward_manager"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install '.\[tunix\]'"):
        tunix.register("dvao", {"right": 1.0})


@pytest.fixture(scope="module", params=["dvao", "grpo", "reinforce_plus_plus", "lagrangian"])
def run(request, tmp_path_factory):
    """A run of Tunix's learner, recorded by `tunix_child`."""
    if importlib.util.find_spec("tunix") is None:
        pytest.skip("google-tunix is not installed; it is in the extra tunix")
    child = Path(__file__).parents[1] / "helpers" / "tunix_child.py"
    result = tmp_path_factory.mktemp("tunix") / "result.json"
    steps = 24 if request.param == "dvao" else 3
    command = [sys.executable, str(child), request.param, str(steps), str(result)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {"method": request.param, "steps": steps, **json.loads(result.read_text())}


def letters_scored(prompt, completion):
    """The rewards of `tunix_child`, in the order of its learner, NaN where one does not apply."""
    return [
        1 - completion.count("b") / 8,
        completion.count("a") / 8,
        float(completion[:1] == "c") if "c" in prompt else np.nan,
    ]


@pytest.mark.slow
def test_tunix_trains_on_these_advantages(run):
    weights = aggregators.named_weights(run["weights"], run["objectives"])
    assert run["objectives"] == ["few_b", "many_a", "begins_with_c"]
    assert len(run["calls"]) == run["steps"]
    aggregator = make(run["method"], weights, **run["knobs"])
    update, state = jax.jit(aggregator.update), aggregator.init(3)
    for call in run["calls"]:
        pairs = zip(call["prompts"], call["completions"], strict=True)
        rewards = np.array([letters_scored(*pair) for pair in pairs]).reshape(4, 8, 3)
        sums = np.nansum(rewards, axis=-1)
        np.testing.assert_allclose(np.reshape(call["rewards"], (4, 8)), sums, atol=1e-6)
        lengths = jnp.array([len(text) for text in call["completions"]]).reshape(4, 8)
        vectors = np.nan_to_num(rewards).astype(np.float32)
        expected, state = update(vectors, ~np.isnan(rewards), state, None, lengths=lengths)
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(
            np.reshape(call["advantages"], (4, 8)), expected, rtol=1e-4, atol=1e-5
        )
        if run["method"] == "grpo":
            # Tunix adds 1e-4 to the standard deviation up to 0.1.6, then 1e-6, as here.
            np.testing.assert_allclose(call["advantages"], call["tunix_grpo"], atol=5e-3)
    assert max(run["moved"]) > 0.01  # largest change of each parameter array


@pytest.mark.slow
def test_objectives_are_in_the_log_of_tunix(run):
    logged = {}
    for event, value in run["scalars"]:
        logged.setdefault(event, []).append(value)
    for name in run["objectives"]:
        for kind in ("rewards", "spread", "effective_weight"):
            assert len(logged[f"{kind}/train/{name}"]) == run["steps"]
    for k, name in enumerate(run["objectives"]):
        scored = [
            [letters_scored(*pair)[k] for pair in zip(c["prompts"], c["completions"], strict=True)]
            for c in run["calls"]
        ]
        values = logged[f"rewards/train/{name}"]
        np.testing.assert_allclose(values, np.nanmean(scored, axis=1), rtol=1e-5)
    shares = [logged[f"effective_weight/train/{name}"] for name in run["objectives"]]
    np.testing.assert_allclose(np.sum(shares, axis=0), 1, atol=1e-5)
    for name in ("agreement", "zero_variance_groups", "advantage_mean_square"):
        values = np.array(logged[f"global/train/{name}"])
        assert len(values) == run["steps"]
        assert (values >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("run", ["dvao"], indirect=True)
def test_rewarded_behaviour_is_learnt(run):
    counts = [np.mean([text.count("a") for text in call["completions"]]) for call in run["calls"]]
    assert np.mean(counts[-4:]) > 2 * np.mean(counts[:4])


@pytest.mark.slow
def test_installed_version_satisfies_the_extra(run):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (line,) = project["optional-dependencies"]["tunix"]
    installed = importlib.metadata.version("google-tunix")
    assert Requirement(line).specifier.contains(installed)
