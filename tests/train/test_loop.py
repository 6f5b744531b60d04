"""The training loop on a small run: its files, invalid settings, stopping and resuming."""

import dataclasses
import json
import os
import signal
from pathlib import Path
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits_run import Digits, digits_config, make_mesh_of, quick_programs
from slowness import nightly_but

from dvaojax import aggregators, files
from dvaojax.config import AggregatorConfig, make_aggregator
from dvaojax.errors import UserError
from dvaojax.learning.gradients import Learner
from dvaojax.numerics import Mean
from dvaojax.rollout.sampling import Sampling
from dvaojax.run.metrics import SampleRecord
from dvaojax.run.rows import RENAMED_METRICS, read_rows
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.train import Interrupted, TrainingError, loop, train
from dvaojax.train.collect import Collector
from dvaojax.train.program import make_program
from dvaojax.train.progress import checkpoint_shapes
from dvaojax.train.step_log import StepLog
from dvaojax.train.warm_start import run_warm_start

# Truncated sampling in the evaluation, a reference policy, and a checkpoint every step.
CONFIG = digits_config(
    num_steps=2,
    samples_per_step=3,
    aggregator={"shadows": ("gdpo", "rvpo:sharpness=2.0:ddof=0")},
    optimizer={"learning_rate": 0.5, "warmup_updates": 0},
    loss={"kl_weight": 0.1},
    checkpoints={"every": 1, "keep_latest": 5},
    evaluation={"samples": 2, "sampling": Sampling(top_p=0.9)},
)
QUICK = digits_config(num_steps=2, warm_start={"num_steps": 0}, checkpoints={"every": 1})


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with quick_programs():
        yield


@pytest.fixture
def no_plots():
    with mock.patch.object(loop, "plot_run", return_value=[]):
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The parent directory of a finished run, and its summary."""
    runs = tmp_path_factory.mktemp("finished")
    return runs, train(CONFIG, runs)


def rows(runs):
    return files.read_json_lines(runs / "mini" / files.METRICS)


def checkpoint(config, runs, step=None):
    with make_mesh_of(1):
        shapes = checkpoint_shapes(config, make_program(config, make_aggregator(config)))
    checkpoints = SavedCheckpoints(runs / "mini" / files.CHECKPOINTS, best_metric="merit")
    return checkpoints.restore(shapes, step=step)


def test_run_writes_all_files(finished):
    runs, summary = finished
    path = runs / "mini"
    assert {entry.name for entry in path.iterdir()} == {
        *(files.CONFIG, files.METRICS, files.SAMPLES, files.SUMMARY),
        *(files.TENSORBOARD, files.CHECKPOINTS, files.PLOTS),
    }
    recorded = files.read_json(path / files.CONFIG)
    assert recorded["config"]["loss"]["kl_weight"] == 0.1
    assert recorded["config"]["task"]["class"] == "digits_run:Digits"
    assert recorded["starts"][0]["versions"].keys() >= {"jax", "flax", "optax"}
    assert sorted(p.name for p in (path / files.CHECKPOINTS).iterdir()) == ["0", "1", "2"]
    assert list((path / files.PLOTS).glob("*.png"))
    assert list((path / files.TENSORBOARD).iterdir())
    assert files.read_json(path / files.SUMMARY) == json.loads(json.dumps(summary))


def test_summary_has_settings_and_evaluations(finished):
    _, summary = finished
    expected = {
        "name": "mini",
        "aggregator": "dvao",
        "objectives": ["digits", "largest", "brevity"],
        "weights": CONFIG.weights,
        "seed": 0,
        "steps": 2,
        "problems": 4,
        "samples": 2,
    }
    assert {name: summary[name] for name in expected} == expected
    assert summary["wall_seconds"] > 0
    for when in ("before", "after"):
        assert summary[when].keys() == {"digits", "largest", "brevity", "length"}
        for measured in summary[when].values():
            assert measured["low"] <= measured["mean"] <= measured["high"]
        assert 1 <= summary[when]["length"]["mean"] <= CONFIG.max_new_tokens
    assert summary["before"] != summary["after"]


def test_every_step_has_a_row_with_all_metrics(finished):
    metrics = rows(finished[0])
    assert [row["step"] for row in metrics] == [1, 2]
    per_objective = {
        f"{name}/{objective}"
        for name in ("reward", "spread", "effective_weight")
        for objective in CONFIG.objectives
    }
    others = (
        "agreement zero_variance_groups advantage_mean_square entropy kl clip_fraction grad_norm "
        "completion_length truncated rollout_seconds reward_seconds train_seconds "
        "tokens_per_second loss ratio skipped_updates skipped_in_a_row weighted_reward"
    )
    per_objective |= {
        f"shadow/{name}/effective_weight/{objective}"
        for name in CONFIG.aggregator.shadows
        for objective in CONFIG.objectives
    }
    per_shadow = {
        f"shadow/{name}/{what}"
        for name in CONFIG.aggregator.shadows
        for what in ("cosine", "sign_agreement", "mean_square")
    }
    for row in metrics:
        assert per_objective | per_shadow | set(others.split()) <= row.keys()
        assert all(value is not None for value in row.values())
        weighted = sum(CONFIG.weights[k] * row[f"reward/{k}"] for k in CONFIG.objectives)
        assert row["weighted_reward"] == pytest.approx(weighted)
    assert metrics[0]["kl"] == 0.0, "before its first update the policy is the reference"
    assert metrics[0]["grad_norm"] > 0


def test_samples_have_every_reward_and_the_advantage(finished):
    """Trap 12: an objective that does not apply is null, not zero and not left out."""
    samples = files.read_json_lines(finished[0] / "mini" / files.SAMPLES)
    assert [s["step"] for s in samples] == [1] * 3 + [2] * 3
    for sample in samples:
        assert sample.keys() == {"step", *SampleRecord._fields}
        assert list(sample["rewards"]) == list(CONFIG.objectives)
        has_digit = any(c.isdigit() for c in sample["completion"])
        assert (sample["rewards"]["largest"] is None) == (not has_digit)
    assert any(sample["advantage"] != 0 for sample in samples)


def test_reference_is_the_initial_policy_and_does_not_change(finished):
    first, _ = checkpoint(CONFIG, finished[0], step=0)
    last, extra = checkpoint(CONFIG, finished[0])
    chex.assert_trees_all_equal(first["reference"], first["state"].learner.params)
    chex.assert_trees_all_equal(last["reference"], first["reference"])
    moved = jax.tree.map(
        lambda a, b: bool(np.any(a != b)), last["state"].learner.params, last["reference"]
    )
    assert moved["embedding"]
    assert extra["step"] == 2
    assert extra["before"] == finished[1]["before"]
    assert 0 < extra["seconds"] <= finished[1]["wall_seconds"]


def test_refuses_an_existing_run_and_a_resume_with_other_settings(finished):
    runs, _ = finished
    with pytest.raises(UserError, match="--resume continues it, --overwrite deletes it"):
        train(CONFIG, runs)
    other = dataclasses.replace(CONFIG, seed=1)
    with pytest.raises(UserError, match="was started with seed=0, not 1"):
        train(other, runs, start="resume")
    with pytest.raises(UserError, match="there is no run"):
        train(dataclasses.replace(CONFIG, name="mina"), runs, start="resume")
    assert len(rows(runs)) == 2


@pytest.mark.slow
def test_resume_of_a_finished_run_evaluates_again_and_overwrite_starts_again(no_plots, tmp_path):
    first = train(QUICK, tmp_path)
    before = rows(tmp_path)
    resumed = train(QUICK, tmp_path, start="resume")
    assert rows(tmp_path) == before
    assert resumed["after"] == first["after"]
    earlier = checkpoint(QUICK, tmp_path)[1]["seconds"]
    assert resumed["wall_seconds"] > earlier > 0, "earlier starts are counted"
    overwritten = train(dataclasses.replace(QUICK, seed=3), tmp_path, start="overwrite")
    assert [row["step"] for row in rows(tmp_path)] == [1, 2]
    assert rows(tmp_path) != before
    assert overwritten["seed"] == 3


@pytest.mark.slow
def test_settings_without_effect_on_numbers_may_change_on_resume(no_plots, tmp_path):
    train(QUICK, tmp_path)
    other = dataclasses.replace(
        QUICK,
        aggregator=AggregatorConfig(check_invariants=True),
        max_skipped_in_a_row=9,
        samples_per_step=1,
        checkpoints=dataclasses.replace(QUICK.checkpoints, every=7, keep_latest=1),
    )
    train(other, tmp_path, start="resume")
    recorded = files.read_json(tmp_path / "mini" / files.CONFIG)
    assert recorded["config"]["samples_per_step"] == 1


class Killed(BaseException):
    """Ends a run in the middle of a step, like a kill."""


@pytest.mark.slow
def test_resumes_a_run_of_an_earlier_version(no_plots, tmp_path):
    """In the old files the aggregator is not a section, and a metric has its old name."""
    add = StepLog.add

    def die(self, step):
        add(self, step)
        if step.number == 2:
            raise Killed

    with mock.patch.object(StepLog, "add", die), pytest.raises(Killed):
        train(QUICK, tmp_path)
    path = tmp_path / "mini"
    description = files.read_json(path / files.CONFIG)
    section = description["config"].pop("aggregator")
    description["config"] |= {
        "aggregator": section["name"],
        "aggregator_options": section["options"],
        "shadows": section["shadows"],
        "check_invariants": section["check_invariants"],
    }
    files.write_json(path / files.CONFIG, description)
    ((old, new),) = RENAMED_METRICS.items()
    text = (path / files.METRICS).read_text()
    assert text.count("\n") == text.count(new) == 1
    (path / files.METRICS).write_text(text.replace(new, old))

    train(QUICK, tmp_path, start="resume")
    assert [old in row for row in rows(tmp_path)] == [True, False]
    assert [row["step"] for row in read_rows(path / files.METRICS)] == [1, 2]
    assert all(0 <= row[new] <= 1 for row in read_rows(path / files.METRICS))


def test_signal_before_the_first_step(no_plots, tmp_path):
    begin = loop._begin

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return begin(*arguments)

    with (
        mock.patch.object(loop, "_begin", interrupted),
        pytest.raises(Interrupted, match="after step 0 of 2 by SIGTERM") as stop,
    ):
        train(QUICK, tmp_path)
    assert stop.value.signal_number == signal.SIGTERM
    assert rows(tmp_path) == []
    train(QUICK, tmp_path, start="resume")
    assert [row["step"] for row in rows(tmp_path)] == [1, 2]


def test_signal_in_the_last_step_does_not_interrupt(no_plots, tmp_path):
    add = StepLog.add

    def interrupted(self, step):
        if step.number == 2:
            os.kill(os.getpid(), signal.SIGINT)
        add(self, step)

    with mock.patch.object(StepLog, "add", interrupted):
        assert train(QUICK, tmp_path)["steps"] == 2


# Aggregators that need more than rewards: lengths, a random key, gradient norms or a state.
WITH_EXTRA_INPUTS = sorted(
    {*aggregators.STATEFUL, *aggregators.RANDOM}
    | {
        name
        for name in aggregators.BY_NAME
        if aggregators.further_arguments(aggregators.BY_NAME[name])
    }
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", nightly_but(["gdpo_token_weighted", "vpo", "oblr_po"], [*WITH_EXTRA_INPUTS, "sc_ppo"])
)
def test_aggregator_trains_with_checked_invariants(no_plots, tmp_path, name):
    """All aggregators with extra inputs; the other runs use `dvao`, which has none."""
    config = dataclasses.replace(QUICK, aggregator=AggregatorConfig(name, check_invariants=True))
    assert train(config, tmp_path)["steps"] == 2
    metrics = rows(tmp_path)
    assert all(row["grad_norm"] > 0 for row in metrics)
    assert all(row["skipped_updates"] == 0 for row in metrics)


@pytest.mark.nightly
@pytest.mark.slow
def test_every_aggregator_works_as_a_shadow(no_plots, tmp_path):
    """All in one program."""
    config = dataclasses.replace(
        QUICK,
        aggregator=AggregatorConfig(shadows=tuple(sorted(aggregators.METHODS))),
        rewards=dataclasses.replace(QUICK.rewards, repeats=2),
    )
    train(config, tmp_path)
    for row in rows(tmp_path):
        assert row["shadow/dvao/cosine"] == pytest.approx(1.0, abs=1e-5)
        for name in aggregators.METHODS:
            assert np.isfinite(row[f"shadow/{name}/cosine"]), name
            assert row[f"shadow/{name}/mean_square"] > 0, name


def broken_dvao(rewards, weights, *, mask=None, ddof=0, epsilon=0.0):
    """DVAO with doubled advantages of the second group."""
    advantages = aggregators.dvao(rewards, weights, mask=mask, ddof=ddof, epsilon=epsilon)
    return advantages.at[1].multiply(2.0)


def test_broken_aggregator_stops_the_run_and_names_step_group_and_invariant(no_plots, tmp_path):
    config = dataclasses.replace(QUICK, aggregator=AggregatorConfig(check_invariants=True))
    with (
        mock.patch.dict(aggregators.BY_NAME, {"dvao": broken_dvao}),
        pytest.raises(TrainingError) as error,
    ):
        train(config, tmp_path)
    line = str(error.value).splitlines()[0]
    assert line.startswith("step 1, dvao: ")
    assert "invariant " in line
    assert "group 1" in line
    assert len(rows(tmp_path)) == 1, "row and samples of the step were written"


@pytest.mark.slow
def test_invariants_are_not_checked_by_default(no_plots, tmp_path):
    with mock.patch.dict(aggregators.BY_NAME, {"dvao": broken_dvao}):
        assert train(QUICK, tmp_path)["steps"] == 2


def test_invariants_are_checked_with_the_configured_knobs(no_plots, tmp_path):
    config = dataclasses.replace(
        QUICK,
        num_steps=1,
        aggregator=AggregatorConfig(options=("ddof=1", "epsilon=0.5"), check_invariants=True),
    )
    train(config, tmp_path)


@pytest.mark.slow
def test_too_many_non_finite_updates_stop_the_run(no_plots, tmp_path):
    checkpoints = dataclasses.replace(QUICK.checkpoints, keep_latest=9)
    config = dataclasses.replace(
        QUICK, num_steps=9, max_skipped_in_a_row=2, checkpoints=checkpoints
    )
    collect = Collector.collect

    def poisoned(self, params, rollout, data):
        collected, data = collect(self, params, rollout, data)
        if rollout.first == 0:
            return collected, data
        logprobs = jnp.full_like(collected.experience.logprobs, jnp.nan)
        experience = collected.experience._replace(logprobs=logprobs)
        return collected._replace(experience=experience), data

    with (
        mock.patch.object(Collector, "collect", poisoned),
        pytest.raises(TrainingError, match=r"^step 4: .* 3 updates in a row, more than max_skip"),
    ):
        train(config, tmp_path)
    metrics = rows(tmp_path)
    assert [row["skipped_updates"] for row in metrics] == [0, 1, 1, 1]
    assert [row["loss"] is None for row in metrics] == [False, True, True, True]
    assert all(row["reward/digits"] is not None for row in metrics)
    good, _ = checkpoint(config, tmp_path, step=1)
    last, _ = checkpoint(config, tmp_path)
    chex.assert_trees_all_equal(good["state"].learner.params, last["state"].learner.params)
    assert int(last["state"].learner.skipped) == 2


class StuckProgram:
    """A program whose warm start never has a finite loss."""

    by_group = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])

    def begin_warm_start(self, params):
        zero = jnp.zeros((), jnp.int32)
        return Learner(params, (), zero, zero)

    def warm_start(self, learner, batch):
        skipped = learner.skipped + 1
        return learner._replace(skipped=skipped, skipped_in_a_row=skipped), {
            "loss": Mean(jnp.zeros(()), jnp.zeros(()))
        }


def test_too_many_non_finite_updates_stop_the_warm_start():
    config = digits_config(warm_start={"num_steps": 60, "batch_size": 2})
    with pytest.raises(TrainingError, match=r"^warm start 51: .*smaller warm_start.learning_rate"):
        run_warm_start(config, StuckProgram(), {}, mock.Mock())


def test_too_long_demonstration_names_the_setting():
    config = digits_config(max_new_tokens=1, warm_start={"num_steps": 1})
    with pytest.raises(UserError, match="max_new_tokens=1"):
        run_warm_start(config, StuckProgram(), {}, mock.Mock())


def test_without_warm_start_parameters_do_not_change():
    params = {"a": jnp.ones(3)}
    assert run_warm_start(QUICK, StuckProgram(), params, mock.Mock()) is params


@dataclasses.dataclass(frozen=True)
class Unsendable(Digits):
    """A task whose objective cannot be pickled."""

    @property
    def objectives(self):
        return {"digits": lambda completion, reference: 1.0}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (digits_config(aggregator={"name": "dvoa"}), "did you mean 'dvao'"),
        (digits_config(sampling={"top_k": 3}), "^sampling: "),
        (digits_config(mesh={"data": 3}), "^mesh replica=1 x data=3"),
        (
            digits_config(task=Unsendable(), weights={"digits": 1.0}, rewards={"workers": 1}),
            "^rewards.workers=1: ",
        ),
        (digits_config(wandb_project="somewhere"), r"\.\[wandb\]"),
    ],
)
def test_invalid_settings_are_rejected_in_one_line_before_writing(tmp_path, config, message):
    with (
        mock.patch.dict("sys.modules", {"wandb": None}),
        pytest.raises(UserError, match=message) as error,
    ):
        train(config, tmp_path / "runs")
    assert "\n" not in str(error.value)
    assert not Path(tmp_path / "runs").exists()
