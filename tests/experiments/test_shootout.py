"""The shoot-out's variants of the built-in task, and its sweep."""

from pathlib import Path

import numpy as np
import pytest

from dvaojax.config import overrides
from dvaojax.sweep.grid import cell_at, cell_keys, check
from dvaojax.types import Completion, Prompt

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
BRIEF = "7+5=12;4+3+1=8;[82]"
WRITTEN_OUT = f"47+35=;{BRIEF}"


@pytest.fixture(scope="module")
def sweep():
    return overrides.load_experiment(EXPERIMENTS / "shootout.py", function="get_sweep")


def scores(sweep, texts, *, index, reference="82", **strain):
    """The rewards of a group of completions of one problem."""
    strain = {"budget": 20, **strain}
    task = overrides.apply(sweep.base, [f"task.{k}={v}" for k, v in strain.items()]).task
    tokens = [(*task.tokenizer.encode(text), 1) for text in texts]
    group = [Completion(text, ids, True) for text, ids in zip(texts, tokens, strict=True)]
    return task.scorer().score([group], [Prompt("47+35=", reference, index)]).rewards[0]


def test_default_is_the_embedded_task(sweep):
    rewards = scores(sweep, [BRIEF, WRITTEN_OUT, "[82"], index=10**4)
    np.testing.assert_array_equal(rewards, [[1, 1, 1], [1, 0, 1], [0, 1, 0]])


def test_noise_has_its_size_in_training_only(sweep):
    clean = scores(sweep, [BRIEF] * 8, index=0, noise=1.0)
    np.testing.assert_array_equal(clean, np.ones((8, 3)))
    drawn = np.array([scores(sweep, [BRIEF] * 8, index=300 + i, noise=2.0) for i in range(500)])
    np.testing.assert_array_equal(drawn[..., :2], 1.0)
    noise = drawn[..., 2] - 1.0
    assert np.abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(2.0, rel=0.05)
    # Every completion has its own noise, even if the texts are the same.
    assert len(np.unique(noise)) == noise.size
    again = scores(sweep, [WRITTEN_OUT] * 8, index=300, noise=2.0)
    np.testing.assert_array_equal(again[:, 2], drawn[0, :, 2])


def test_scale_applies_to_one_reward_in_training_only(sweep):
    for index, brevity in ((0, 1.0), (10**4, 10.0)):
        rewards = scores(sweep, [BRIEF], index=index, scale=10)
        np.testing.assert_array_equal(rewards, [[1.0, brevity, 1.0]])


@pytest.mark.parametrize("index", [0, 10**4])
def test_conflict_excludes_right_and_brief_large_sums(sweep, index):
    for least, brief_is_right in ((82, 0.0), (83, 1.0)):
        rewards = scores(sweep, [BRIEF, WRITTEN_OUT], index=index, written_out_from=least)
        np.testing.assert_array_equal(rewards, [[brief_is_right, 1, 1], [1, 0, 1]])


@pytest.mark.slow
def test_sweep_is_valid_and_weights_sum_to_one(sweep):
    check(sweep)
    for place in cell_keys(sweep)[:5]:
        assert sum(cell_at(sweep, place).config.weights.values()) == pytest.approx(1.0)
    assert set(sweep.expected) == set(sweep.situations)
    assert len(sweep.seeds) >= 5


def test_accelerator_uses_the_full_embedded_task(sweep, monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    full = overrides.load_experiment(EXPERIMENTS / "shootout.py", function="get_sweep").base
    assert (full.task.digits, full.num_steps, full.model.width) == (3, 120, 128)
    assert (sweep.base.task.digits, sweep.base.model.width) == (2, 32)


def test_no_carries_on_a_cpu(sweep):
    task = sweep.base.task
    for prompt in (*task.prompts("train"), *task.prompts("test")):
        assert set(prompt.text) <= set("01234+=")
