"""Runs with groups of unequal size, and with refills of zero-variance groups."""

import dataclasses
from unittest import mock

import chex
import digits_run
import jax
import numpy as np
import pytest
from digits_run import Digits, improbability, make_mesh_of, quick_programs

from dvaojax import files
from dvaojax.config import make_aggregator
from dvaojax.rewards import RewardSuite
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.train import loop, program, train
from dvaojax.train.collect import Collector
from dvaojax.train.program import make_program
from dvaojax.train.progress import checkpoint_shapes
from dvaojax.train.scoring import score_groups
from dvaojax.train.step_log import StepLog
from dvaojax.types import Completion, Prompt

pytestmark = pytest.mark.slow

G, CAP, STEPS = 4, 6, 5


def begins_low(completion, reference):
    """1 if the first character is a digit below the reference: likelier for later problems."""
    first = completion.text[:1]
    return float(first.isdigit() and int(first) < int(reference))


def is_short(completion, reference):
    """1 for at most four tokens; does not apply to the first problems."""
    return float(completion.length <= 4) if int(reference) > 2 else None


@dataclasses.dataclass(frozen=True)
class Binary(Digits):
    """A task with rewards of 0 and 1, so that many groups have zero variance."""

    num_train: int = 7

    name = "binary"

    @property
    def objectives(self):
        return {"low": begins_low, "short": is_short}


def binary(**allocation):
    return digits_run.digits_config(
        task=Binary(),
        weights={"low": 1.0, "short": 0.5},
        num_steps=STEPS,
        prompts_per_step=4,
        group_size=G,
        warm_start={"num_steps": 0},
        checkpoints={"every": 2, "keep_latest": 9},
        aggregator={"check_invariants": True},
        allocation=allocation,
    )


NEYMAN = binary(name="neyman", floor=2, cap=CAP, refills=2)


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with quick_programs(), mock.patch.object(loop, "plot_run", return_value=[]):
        yield


class Recording:
    """Experience and advantages of every step of a run, and the arguments of its sampler calls."""

    def __init__(self):
        self.collected, self.advantages, self.sampler_calls = [], [], []


def run(config, runs, **how):
    """Runs a configuration, and returns a recording."""
    recording = Recording()
    add, sample = StepLog.add, Collector._sample

    def add_and_record(self, step):
        recording.collected.append(jax.device_get(step.collected))
        recording.advantages.append(np.asarray(step.advantages))
        add(self, step)

    def sample_and_record(self, params, batch, sizes):
        recording.sampler_calls.append((np.asarray(batch.serials).tolist(), sizes.tolist()))
        return sample(self, params, batch, sizes)

    with (
        mock.patch.object(StepLog, "add", add_and_record),
        mock.patch.object(Collector, "_sample", sample_and_record),
    ):
        train(config, runs, **how)
    return recording


def rows(runs):
    """`metrics.jsonl` without wall times."""
    return [
        {k: v for k, v in row.items() if not k.endswith(("_seconds", "per_second"))}
        for row in files.read_json_lines(runs / "mini" / files.METRICS)
    ]


def last_checkpoint(config, runs):
    with make_mesh_of(1):
        shapes = checkpoint_shapes(config, make_program(config, make_aggregator(config)))
    checkpoints = SavedCheckpoints(runs / "mini" / files.CHECKPOINTS)
    saved, extra = checkpoints.restore(shapes)
    saved["state"] = saved["state"]._replace(key=jax.random.key_data(saved["state"].key))
    return saved, extra


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    runs = tmp_path_factory.mktemp("finished")
    return runs, run(NEYMAN, runs)


def sampled(collected):
    return collected.lengths.completions > 0


def test_unequal_groups_use_the_budget_exactly(finished):
    sizes = np.array([sampled(c).sum(axis=1) for c in finished[1].collected])
    assert sizes.shape == (STEPS, 4)
    assert (sizes.sum(axis=1) == 4 * G).all()
    assert ((sizes >= 2) & (sizes <= CAP)).all()
    assert sizes[0].tolist() == [G] * 4, "there are no statistics before the first step"
    assert len(set(sizes.ravel())) > 1
    for collected in finished[1].collected:
        is_sampled = sampled(collected)
        assert (is_sampled[:, :-1] >= is_sampled[:, 1:]).all(), (
            "missing completions are the last ones of a group"
        )
        assert [len(group) for group in collected.completions] == is_sampled.sum(axis=1).tolist()


def test_missing_completions_are_masked_and_have_no_advantage(finished):
    for collected, advantages in zip(finished[1].collected, finished[1].advantages, strict=True):
        experience, absent = collected.experience, ~sampled(collected)
        assert absent.any()
        assert not experience.reward_mask[absent].any()
        assert not experience.completion_mask[absent].any()
        assert (advantages[absent] == 0).all()
        assert experience.reward_mask[~absent][:, 0].all()
        np.testing.assert_array_equal(
            experience.rewards[..., 0][~absent],
            [
                begins_low(completion, prompt.reference)
                for prompt, group in zip(collected.prompts, collected.completions, strict=True)
                for completion in group
            ],
        )


def test_metrics_ignore_missing_completions(finished):
    runs, recording = finished
    steps = zip(rows(runs), recording.collected, recording.advantages, strict=True)
    for row, collected, advantages in steps:
        is_sampled, lengths = sampled(collected), collected.lengths.completions
        np.testing.assert_allclose(row["completion_length"], lengths[is_sampled].mean(), rtol=1e-6)
        np.testing.assert_allclose(
            row["advantage_mean_square"], np.square(advantages[is_sampled]).mean(), rtol=1e-5
        )
        cut = [not c.stopped for group in collected.completions for c in group]
        np.testing.assert_allclose(row["truncated"], np.mean(cut), atol=1e-12)
        rewards = collected.scores.rewards[..., 0][is_sampled]
        np.testing.assert_allclose(row["reward/low"], rewards.mean(), rtol=1e-6)
        assert row["sampled_tokens"] >= lengths.sum()


def test_sampler_and_step_compile_once_for_all_group_sizes(finished):
    """The sampler of the runs above was called with many group sizes, also by refills."""
    with make_mesh_of(1):
        program = make_program(NEYMAN, make_aggregator(NEYMAN))
    assert len({tuple(sizes) for _, sizes in finished[1].sampler_calls}) > 3
    assert program.sample._cache_size() == 1
    shapes = {jax.tree.map(np.shape, collected.experience) for collected in finished[1].collected}
    assert len(shapes) <= 4, "one for each length bucket"


def test_refills_take_the_next_problems_and_skip_none(
    finished,
):
    runs, recording = finished
    position, calls = 0, iter(recording.sampler_calls)
    replaced = 0
    for row in rows(runs):
        serials, sizes = next(calls)
        assert serials == list(range(position, position + 4))
        position += 4
        refilled = 0
        for _ in range(int(row["refills"])):
            serials, new_sizes = next(calls)
            fresh = [s for s, n in zip(serials, new_sizes, strict=True) if n]
            assert fresh == list(range(position, position + len(fresh)))
            assert all(n in (0, m) for n, m in zip(new_sizes, sizes, strict=True))
            position += len(fresh)
            refilled += len(fresh)
        assert row["refilled_groups"] == refilled
        replaced += refilled
        if row["refills"] < 2:
            assert row["zero_variance_groups"] == 0
    assert next(calls, None) is None
    assert replaced > 0
    assert {row["refills"] for row in rows(runs)} <= {0, 1, 2}
    assert last_checkpoint(NEYMAN, runs)[1]["position"] == position == 4 * STEPS + replaced


def test_statistics_count_every_sampled_completion(finished):
    runs, recording = finished
    statistics = last_checkpoint(NEYMAN, runs)[0]["statistics"]
    number = sum(sum(sizes) for _, sizes in recording.sampler_calls)
    assert statistics.count.shape == (7, 2)
    assert statistics.count[:, 0].sum() == number
    references = np.array([int(p.reference) for p in Binary().prompts("train")])
    assert (statistics.count[references <= 2, 1] == 0).all(), "it does not apply there"
    assert (statistics.count[references > 2, 1] == statistics.count[references > 2, 0]).all()
    assert ((statistics.mean >= 0) & (statistics.mean <= 1)).all()


class Killed(BaseException):
    """Ends a run in the middle of a step, like a kill."""


@pytest.mark.parametrize("depth", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_run_resumes_bit_for_bit(finished, tmp_path, depth):
    """Killed in step 4, and resumed from the checkpoint of step 2."""
    config = dataclasses.replace(NEYMAN, pipeline_depth=depth)
    whole = finished[0]
    if depth:
        whole = tmp_path / "whole"
        run(config, whole)
    assert_resumes(config, whole, tmp_path)


def assert_resumes(config, whole, tmp_path):
    """A run that is killed and resumed has the rows, samples and checkpoint of the whole run."""
    depth, add = config.pipeline_depth, StepLog.add

    def die(self, step):
        add(self, step)
        if step.number == 4:
            raise Killed

    with mock.patch.object(StepLog, "add", die), pytest.raises(Killed):
        train(config, tmp_path)
    assert len(rows(tmp_path)) == 3
    train(config, tmp_path, start="resume")
    assert rows(tmp_path) == rows(whole)
    samples = [files.read_json_lines(r / "mini" / files.SAMPLES) for r in (whole, tmp_path)]
    assert samples[0] == samples[1]
    saved, others = last_checkpoint(config, whole), last_checkpoint(config, tmp_path)
    chex.assert_trees_all_equal(saved[0], others[0])
    for extra in (saved[1], others[1]):
        assert extra.pop("seconds") > 0
    assert saved[1] == others[1]
    assert len(saved[1]["in_flight"]) == depth


@pytest.mark.slow
def test_gvm_measures_the_gradients_of_completions_and_resumes_with_them(tmp_path):
    config, recorded = binary(name="gvm", floor=1, cap=CAP), []
    with_gradients = Collector._with_gradients

    def record(self, params, groups, experience, data):
        recorded.append(jax.device_get((params, experience, groups.batch.rows)))
        return with_gradients(self, params, groups, experience, data)

    whole = tmp_path / "whole"
    with mock.patch.object(program, "policy_gradient_norms", improbability):
        with mock.patch.object(Collector, "_with_gradients", record):
            run(config, whole)
        assert_resumes(config, whole, tmp_path)
    products = {row: [] for row in range(7)}
    for params, experience, rows_of_step in recorded:
        values = improbability(params, experience, model=None, temperature=1.0)
        norms = np.sqrt(np.where(experience.completion_mask, values, 0).sum(-1, dtype=np.float64))
        for b, g in np.argwhere(experience.reward_mask.any(-1)):
            # An objective that is never scored has the mean 0.
            rate = experience.rewards[b, g] @ [1.0, 0.5] / 1.5
            products[int(rows_of_step[b])].append(rate * norms[b, g])
    statistics = last_checkpoint(config, whole)[0]["statistics"]
    for row, values in products.items():
        assert statistics.measured[row] == len(values)
        np.testing.assert_allclose(statistics.gradient[row], np.mean(values or [0.0]), rtol=1e-5)
    assert (statistics.gradient > 0).any()


@pytest.mark.slow
def test_equal_sizes_in_larger_arrays_equal_uniform_allocation(tmp_path):
    """The floor equals the group size, so two completions of every group are always missing."""
    plain, padded = binary(), binary(name="neyman", floor=G, cap=CAP)
    first, second = run(plain, tmp_path / "plain"), run(padded, tmp_path / "padded")
    assert first.collected[0].lengths.completions.shape == (4, G)
    assert second.collected[0].lengths.completions.shape == (4, CAP)
    for one, other in zip(first.collected, second.collected, strict=True):
        assert one.completions == other.completions
    for one, other in zip(first.advantages, second.advantages, strict=True):
        np.testing.assert_allclose(other[:, :G], one, rtol=1e-5, atol=1e-6)
    for one, other in zip(rows(tmp_path / "plain"), rows(tmp_path / "padded"), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dynamo", "neyman"])
def test_rule_uses_the_configured_objective(tmp_path, name):
    config = binary(name=name, floor=1, objective="low", memory=0.5)
    assert config.largest_group == 6
    recording = run(config, tmp_path)
    for collected in recording.collected:
        assert sampled(collected).sum() == 4 * G
    statistics = last_checkpoint(config, tmp_path)[0]["statistics"]
    assert statistics.count.max() < sum(sum(sizes) for _, sizes in recording.sampler_calls) / 4


@pytest.mark.slow
def test_statistics_count_rewards_above_the_mean_of_the_step(tmp_path):
    config = binary(name="dynamo", floor=1, counts="above_mean")
    recording = run(config, tmp_path)
    statistics = last_checkpoint(config, tmp_path)[0]["statistics"]
    totals = np.zeros(statistics.mean.shape)
    for collected in recording.collected:
        scores = collected.scores
        for k in range(totals.shape[1]):
            where = scores.mask[..., k]
            mean = scores.rewards[..., k][where].mean(dtype=np.float64)
            counted = (scores.rewards[..., k] > mean) & where
            np.add.at(totals[:, k], collected.rows, counted.sum(axis=1))
    np.testing.assert_allclose(statistics.mean * statistics.count, totals, rtol=1e-5, atol=1e-5)
    assert totals.sum() > 0
    with pytest.raises(ValueError, match=r"allocation\.counts: unknown 'mean'"):
        binary(name="dynamo", counts="mean")


@pytest.mark.slow
def test_uniform_allocation_keeps_no_statistics(tmp_path):
    config = binary(refills=1)
    run(config, tmp_path)
    saved, extra = last_checkpoint(config, tmp_path)
    assert all(table.size == 0 for table in jax.tree.leaves(saved["statistics"]))
    assert extra["position"] > 4 * STEPS


def test_scores_groups_of_any_size():
    def length(completion, reference):
        return len(completion.text) + 10.0 * reference

    def group(texts):
        return [Completion(text, (1,), True) for text in texts]

    groups = [group(["a", "bb"]), group([]), group(["c", "dd", "eee"]), group(["f"])]
    prompts = [Prompt("?", i, i) for i in range(4)]
    indices = np.arange(4)
    suite = RewardSuite({"length": length})
    scores = score_groups(suite, groups, prompts, groups=indices, shape=(4, 3))
    expected = [[1, 2, 0], [0, 0, 0], [21, 22, 23], [31, 0, 0]]
    np.testing.assert_array_equal(scores.rewards[..., 0], expected)
    np.testing.assert_array_equal(scores.mask[..., 0], np.array(expected) > 0)
    nothing = score_groups(suite, [[], []], prompts[:2], groups=indices[:2], shape=(2, 3))
    assert nothing.rewards.shape == (2, 3, 1)
    assert not nothing.mask.any()
    assert nothing.failures == {"length": 0}
    whole = [group(["a", "bb"]), group(["c", "dd"])]
    full = score_groups(suite, whole, prompts[:2], groups=indices[:2], shape=(2, 2))
    np.testing.assert_array_equal(full.rewards[..., 0], [[1, 2], [11, 12]])
