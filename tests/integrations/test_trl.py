"""Aggregators in TRL: the replaced advantages, and training runs with TRL's trainer.

The runs are slow tests and need `trl`. The other tests use a stub that does what TRL's trainer
does around the replaced methods: rewards of all processes, zero-sum advantages, and a log.
"""

import collections
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from tiny_run import child_environment

from dvaojax.aggregators import make
from dvaojax.errors import UserError
from dvaojax.integrations import trl

B, G, K = 2, 4, 3
NAMES, WEIGHTS = ["right", "short", "polite"], [1.0, 0.5, 0.25]
REWARDS = np.random.default_rng(0).random((B * G, K)).astype(np.float32)
REWARDS[1, 2] = REWARDS[4:, 0] = np.nan
LENGTHS = np.array([3, 1, 4, 1, 5, 9, 2, 6])


class StubTrainer:
    """TRL's trainer in one of two processes, each with one group."""

    def __init__(self, tmp_path, rank=1, rewards=REWARDS, **settings):
        defaults = {"scale_rewards": "group", "multi_objective_aggregation": "sum_then_normalize"}
        self.args = SimpleNamespace(**{**defaults, "should_save": True, **settings})
        self.accelerator = SimpleNamespace(process_index=rank, gather=self.gather)
        self.model = SimpleNamespace(training=True)
        self.state = SimpleNamespace(global_step=7)
        self.reward_func_names = NAMES
        self.reward_weights = torch.tensor(settings.get("weights", WEIGHTS))
        self.num_generations = self.num_generations_eval = G
        self._metrics = collections.defaultdict(lambda: collections.defaultdict(list))
        self._logs = {"advantages": collections.deque(maxlen=2 * B * G)}
        self.rewards, self.rank, self.path = torch.from_numpy(rewards), rank, tmp_path

    def gather(self, own):
        np.testing.assert_array_equal(own, LENGTHS.reshape(B, G)[self.rank])
        return torch.from_numpy(LENGTHS)

    def _calculate_rewards(self, inputs):
        return self.rewards

    def _generate_and_score_completions(self, inputs):
        assert self._calculate_rewards(inputs) is self.rewards
        sums = (self.rewards * self.reward_weights).nansum(dim=1).reshape(B, G)
        own = (sums - sums.mean(dim=1, keepdim=True)).reshape(-1)
        self._logs["advantages"].extend(own.tolist())
        # A token of a tool, which does not count, and the sampled ones.
        lengths = torch.from_numpy(LENGTHS.reshape(B, G)[self.rank])
        tool_mask = (torch.arange(10)[None] > 0).int().expand(G, 10)
        mask = (torch.arange(10)[None] <= lengths[:, None]).int()
        batch = {"advantages": own.reshape(B, G)[self.rank], "tool_mask": tool_mask}
        return {**batch, "completion_mask": mask}

    def _get_output_dir(self, trial):
        return self.path

    def _save_checkpoint(self, model, trial):
        (self.path / "checkpoint-7").mkdir()

    def _load_optimizer_and_scheduler(self, checkpoint):
        self.loaded = checkpoint


class Trainer(trl.AggregatedAdvantages, StubTrainer):
    """The stub with the advantages of an aggregator."""


def expected(method, state=(), **knobs):
    aggregator = make(method, jnp.array(WEIGHTS), **knobs)
    rewards = REWARDS.reshape(B, G, K)
    return jax.jit(aggregator.update)(
        np.nan_to_num(rewards),
        ~np.isnan(rewards),
        state or aggregator.init(K),
        jax.random.split(jax.random.key(0))[1],
        lengths=LENGTHS.astype(np.float32).reshape(B, G),
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_each_process_gets_its_part_of_the_advantages_of_all(tmp_path, rank):
    """`opo` weights by length and does not add up to zero, which TRL's own advantages do."""
    trainer = Trainer(tmp_path, rank, aggregator="opo")
    batch = trainer._generate_and_score_completions(None)
    advantages, _ = expected("opo")
    assert np.abs(np.asarray(advantages).sum(axis=1)).max() > 0.05
    np.testing.assert_allclose(batch["advantages"], advantages[rank], rtol=1e-6)
    assert batch["advantages"].dtype == torch.float32
    np.testing.assert_allclose(trainer._logs["advantages"], np.ravel(advantages), rtol=1e-6)
    trainer._generate_and_score_completions(None)
    assert len(trainer._logs["advantages"]) == 2 * B * G


def test_metrics_of_the_objectives_are_in_the_log_of_trl(tmp_path):
    trainer = Trainer(tmp_path, aggregator="dvao", knobs={"ddof": 1})
    trainer._generate_and_score_completions(None)
    logged = {name: value for name, (value,) in trainer._metrics["train"].items()}
    assert logged.keys() == {
        *(f"{kind}/{name}" for kind in ("spread", "effective_weight") for name in NAMES),
        *("agreement", "zero_variance_groups", "advantage_mean_square"),
    }
    square = np.mean(np.square(expected("dvao", ddof=1)[0]))
    assert logged["advantage_mean_square"] == pytest.approx(float(square))
    shares = sum(logged[f"effective_weight/{name}"] for name in NAMES)
    assert shares == pytest.approx(1.0)


KNOBS = {"threshold": (0.9, 0.1, 0.5), "rate": 5.0}


def test_state_changes_in_training_only_and_is_in_checkpoints(tmp_path):
    first, state = expected("lagrangian", **KNOBS)
    second, _ = expected("lagrangian", state, **KNOBS)
    assert not np.allclose(first, second, atol=1e-3)
    trainer = Trainer(tmp_path, aggregator="lagrangian", knobs=KNOBS)

    def advantages(trainer, training=True):
        trainer.model.training = training
        return trainer._generate_and_score_completions(None)["advantages"]

    for training, right in ((False, first), (False, first), (True, first)):
        np.testing.assert_allclose(advantages(trainer, training), right[1], rtol=1e-5)
    assert set(trainer._metrics) == {"train", "eval"}
    trainer._save_checkpoint(None, None)

    resumed = Trainer(tmp_path, aggregator="lagrangian", knobs=KNOBS)
    resumed._load_optimizer_and_scheduler(None)
    np.testing.assert_allclose(advantages(resumed, training=False), first[1], rtol=1e-5)
    resumed._load_optimizer_and_scheduler(str(tmp_path / "checkpoint-7"))
    assert resumed.loaded == str(tmp_path / "checkpoint-7")
    jax.tree.map(np.testing.assert_array_equal, resumed.aggregator_state, trainer.aggregator_state)
    np.testing.assert_array_equal(advantages(resumed), advantages(trainer))


def test_unreadable_states_are_refused_in_one_line(tmp_path):
    trainer = Trainer(tmp_path, aggregator="lagrangian")
    trainer._save_checkpoint(None, None)
    checkpoint = tmp_path / "checkpoint-7"
    with pytest.raises(UserError, match="has the state of lagrangian, and not that of hvpo"):
        Trainer(tmp_path, aggregator="hvpo")._load_optimizer_and_scheduler(str(checkpoint))
    file = checkpoint / trl.STATE_FILE
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], whole[:-200], b"\x80\x04K\x01."):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="cannot be read") as error:
            trainer._load_optimizer_and_scheduler(str(checkpoint))
        assert "\n" not in str(error.value)
    file.unlink()
    with pytest.raises(UserError, match="was saved by another trainer"):
        trainer._load_optimizer_and_scheduler(str(checkpoint))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale_rewards": "batch"}, "scale_rewards='batch' has no effect with an aggregator"),
        (
            {"multi_objective_aggregation": "normalize_then_sum"},
            "multi_objective_aggregation='normalize_then_sum' has no effect",
        ),
        ({"weights": [1.0, -0.5, 1.0]}, "reward_weights: -0.5 of short"),
        ({"aggregator": "dvaoo"}, "the nearest is dvao|did you mean.*dvao"),
        ({"knobs": {"ddoff": 1}}, "ddof"),
    ],
)
def test_settings_without_effect_are_refused(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        Trainer(tmp_path, **settings)


def test_infinite_rewards_are_refused(tmp_path):
    rewards = REWARDS.copy()
    rewards[3, 1] = np.inf
    with pytest.raises(UserError, match="short returned an infinite reward"):
        Trainer(tmp_path, rewards=rewards)._generate_and_score_completions(None)


def test_missing_or_other_trl_is_named(monkeypatch):
    monkeypatch.delitem(vars(trl), "AggregatedGRPOTrainer", raising=False)
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(UserError, match=r"pip install '.\[trl\]'"):
        _ = trl.AggregatedGRPOTrainer
    monkeypatch.setitem(sys.modules, "trl", SimpleNamespace(GRPOTrainer=object))
    with pytest.raises(UserError, match="this version of TRL has no _calculate_rewards"):
        _ = trl.AggregatedGRPOTrainer
    monkeypatch.setitem(sys.modules, "trl", SimpleNamespace(GRPOTrainer=StubTrainer))
    made = trl.AggregatedGRPOTrainer
    assert made is trl.AggregatedGRPOTrainer
    assert made.__mro__[1:3] == (trl.AggregatedAdvantages, StubTrainer)
    monkeypatch.delitem(vars(trl), "AggregatedGRPOTrainer")


def trained(method, directory, *options):
    """A run of TRL's trainer, recorded by `trl_child`."""
    if importlib.util.find_spec("trl") is None:
        pytest.skip("TRL is not installed; it is in the extra trl")
    child = Path(__file__).parents[1] / "helpers" / "trl_child.py"
    command = [sys.executable, str(child), method, str(directory), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment())
    assert done.returncode == 0, done.stderr
    return json.loads((directory / "result.json").read_text())


@pytest.fixture(
    scope="module", params=["dvao", "reward_combination", "reinforce_plus_plus", "lagrangian"]
)
def run(request, tmp_path_factory):
    """A run, with its method and directory."""
    directory = tmp_path_factory.mktemp("trl")
    result = trained(request.param, directory)
    return {"method": request.param, "directory": directory, **result}


KNOBS_OF_CHILD = {
    "reward_combination": {"ddof": 1, "epsilon": 1e-4},
    "lagrangian": {"threshold": 0.9, "rate": 5.0},
}


def letters_scored(prompt, completion):
    """The rewards of `trl_child`, NaN where one does not apply."""
    return [
        completion.count("a") / 8,
        1 - completion.count("b") / 8,
        float(completion.startswith("c")) if "c" in prompt else np.nan,
    ]


@pytest.mark.slow
def test_trl_trains_on_these_advantages(run):
    """Recomputed from the texts; the loss gets them, and the log has them."""
    aggregator = make(run["method"], jnp.array(WEIGHTS), **KNOBS_OF_CHILD.get(run["method"], {}))
    update, state = jax.jit(aggregator.update), aggregator.init(K)
    assert run["objectives"] == ["many_a", "few_b", "begins_with_c"]
    modes = [batch["mode"] for batch in run["batches"]]
    assert modes == ["train", "train", "eval", "train", "train", "eval"]
    in_loss = iter(run["in_loss"])
    for batch in run["batches"]:
        group = 4 if batch["mode"] == "train" else 2
        pairs = zip(batch["prompts"], batch["completions"], strict=True)
        rewards = np.array([letters_scored(*pair) for pair in pairs], np.float32)
        rewards = rewards.reshape(-1, group, K)
        lengths = np.array(batch["lengths"], np.float32).reshape(-1, group)
        assert batch["lengths"] == batch["tokens"]
        given = (np.nan_to_num(rewards), ~np.isnan(rewards), state)
        advantages, after = update(*given, None, lengths=lengths)
        np.testing.assert_allclose(batch["returned"], np.ravel(advantages), rtol=1e-4, atol=1e-5)
        count = len(batch["returned"])
        assert batch["logged"][-count:] == batch["returned"]
        assert len(batch["logged"]) == 8 or batch is run["batches"][0]
        if batch["mode"] == "train":
            state = after
        used = [next(in_loss)["advantages"] for _ in range(count // 4)]
        np.testing.assert_allclose(np.sort(np.ravel(used)), np.sort(batch["returned"]), rtol=1e-6)
        if run["method"] == "reward_combination":
            # TRL's default is this method with its own guard of the division.
            np.testing.assert_allclose(batch["returned"], batch["of_trl"], atol=2e-3)
    assert run["moved"] > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("run", ["reinforce_plus_plus"], indirect=True)
def test_groups_need_not_add_up_to_zero(run):
    sums = [
        np.reshape(batch["returned"], (-1, 4)).sum(axis=1)
        for batch in run["batches"]
        if batch["mode"] == "train"
    ]
    assert np.abs(sums).max() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("run", ["lagrangian"], indirect=True)
def test_state_is_resumed_from_a_checkpoint_of_trl(run, tmp_path):
    checkpoint = run["directory"] / "out" / "checkpoint-2"
    resumed = trained("lagrangian", tmp_path, "--resume", str(checkpoint))
    assert run["states"][0] != run["states"][2] != run["states"][5]
    assert resumed["batches"] == run["batches"][3:]
    assert resumed["states"] == run["states"][3:]


@pytest.mark.slow
@pytest.mark.parametrize("run", ["dvao"], indirect=True)
def test_trl_logs_the_objectives_and_satisfies_the_extra(run):
    steps = [entry for entry in run["log"] if "loss" in entry]
    assert len(steps) == 4
    for entry in steps:
        shares = [entry[f"effective_weight/{name}"] for name in run["objectives"]]
        assert sum(shares) == pytest.approx(1.0)
        assert 0.0 <= entry["agreement"] <= 1.0
        assert {"rewards/many_a/mean", "spread/few_b", "advantage_mean_square"} <= entry.keys()
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (line,) = project["optional-dependencies"]["trl"]
    assert Requirement(line).specifier.contains(importlib.metadata.version("trl"))
