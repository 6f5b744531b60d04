"""Runs whose completions are shared out unequally, and whose silent groups are refilled."""

import dataclasses
from unittest import mock

import chex
import jax
import digits_run
import numpy as np
import pytest
from digits_run import Digits, make_mesh_of, quick_programs

from dvaojax import files
from dvaojax.config import make_aggregator
from dvaojax.rewards import RewardSuite
from dvaojax.run.checkpoint import Checkpoints
from dvaojax.train import loop, train
from dvaojax.train.collect import Collector
from dvaojax.train.step_log import StepLog
from dvaojax.train.program import make_program
from dvaojax.train.scoring import score_groups
from dvaojax.train.progress import checkpoint_shapes
from dvaojax.types import Completion, Prompt

G, CAP, STEPS = 4, 6, 5


def begins_low(completion, reference):
    """Whether the first character is a digit below the reference: likelier for later problems."""
    first = completion.text[:1]
    return float(first.isdigit() and int(first) < int(reference))


def is_short(completion, reference):
    """Does not apply to the first problems."""
    return float(completion.length <= 4) if int(reference) > 2 else None


@dataclasses.dataclass(frozen=True)
class Binary(Digits):
    """Rewards of 0 and 1, so that many groups are silent."""

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
        check_invariants=True,
        allocation=allocation,
    )


NEYMAN = binary(name="neyman", floor=2, cap=CAP, refills=2)


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with quick_programs(), mock.patch.object(loop, "plot_run", return_value=[]):
        yield


class Seen:
    """What every step of a run learnt from, and what the devices were asked for."""

    def __init__(self):
        self.collected, self.advantages, self.asked = [], [], []


def run(config, runs, **how):
    """A run with what was seen of it."""
    seen = Seen()
    add, sample = StepLog.add, Collector._sample

    def watched(self, step):
        seen.collected.append(jax.device_get(step.collected))
        seen.advantages.append(np.asarray(step.advantages))
        add(self, step)

    def asked(self, params, batch, sizes):
        seen.asked.append((np.asarray(batch.serials).tolist(), sizes.tolist()))
        return sample(self, params, batch, sizes)

    with (
        mock.patch.object(StepLog, "add", watched),
        mock.patch.object(Collector, "_sample", asked),
    ):
        train(config, runs, **how)
    return seen


def rows(runs):
    """`metrics.jsonl` without what depends on the clock."""
    return [
        {k: v for k, v in row.items() if not k.endswith(("_seconds", "per_second"))}
        for row in files.read_json_lines(runs / "mini" / files.METRICS)
    ]


def last_checkpoint(config, runs):
    with make_mesh_of(1):
        shapes = checkpoint_shapes(config, make_program(config, make_aggregator(config)))
    checkpoints = Checkpoints.to_read(runs / "mini" / files.CHECKPOINTS)
    saved, extra = checkpoints.restore(shapes)
    checkpoints.close()
    saved["state"] = saved["state"]._replace(key=jax.random.key_data(saved["state"].key))
    return saved, extra


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    runs = tmp_path_factory.mktemp("finished")
    return runs, run(NEYMAN, runs)


def drawn(collected):
    return collected.lengths.completions > 0


def test_every_step_learns_from_the_budget_exactly_in_groups_of_unequal_size(finished):
    sizes = np.array([drawn(c).sum(axis=1) for c in finished[1].collected])
    assert sizes.shape == (STEPS, 4)
    assert (sizes.sum(axis=1) == 4 * G).all()
    assert ((sizes >= 2) & (sizes <= CAP)).all()
    assert sizes[0].tolist() == [G] * 4, "nothing is known before the first step"
    assert len(set(sizes.ravel())) > 1
    for collected in finished[1].collected:
        is_drawn = drawn(collected)
        assert (is_drawn[:, :-1] >= is_drawn[:, 1:]).all(), "the first members of a group"
        assert [len(group) for group in collected.completions] == is_drawn.sum(axis=1).tolist()


def test_what_was_not_drawn_is_masked_in_all_objectives_and_has_no_advantage(finished):
    for collected, advantages in zip(finished[1].collected, finished[1].advantages, strict=True):
        experience, absent = collected.experience, ~drawn(collected)
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


def test_metrics_count_what_was_drawn_alone(finished):
    runs, seen = finished
    for row, collected, advantages in zip(rows(runs), seen.collected, seen.advantages, strict=True):
        is_drawn, lengths = drawn(collected), collected.lengths.completions
        np.testing.assert_allclose(row["completion_length"], lengths[is_drawn].mean(), rtol=1e-6)
        np.testing.assert_allclose(
            row["advantage_mean_square"], np.square(advantages[is_drawn]).mean(), rtol=1e-5
        )
        cut = [not c.stopped for group in collected.completions for c in group]
        np.testing.assert_allclose(row["truncated"], np.mean(cut), atol=1e-12)
        rewards = collected.scores.rewards[..., 0][is_drawn]
        np.testing.assert_allclose(row["reward/low"], rewards.mean(), rtol=1e-6)
        assert row["sampled_tokens"] >= lengths.sum()


def test_sampler_and_step_are_compiled_once_whatever_the_sizes(finished):
    """The sampler of the runs above, which ran with many sizes; refills ran it with others."""
    with make_mesh_of(1):
        program = make_program(NEYMAN, make_aggregator(NEYMAN))
    assert len({tuple(sizes) for _, sizes in finished[1].asked}) > 3
    assert program.sample._cache_size() == 1
    shapes = {jax.tree.map(np.shape, collected.experience) for collected in finished[1].collected}
    assert len(shapes) <= 4, "one for each length bucket"


def test_silent_groups_give_their_places_to_the_next_problems_and_no_problem_is_passed_over(
    finished,
):
    runs, seen = finished
    position, asked = 0, iter(seen.asked)
    replaced = 0
    for row in rows(runs):
        serials, sizes = next(asked)
        assert serials == list(range(position, position + 4))
        position += 4
        refilled = 0
        for _ in range(int(row["refills"])):
            serials, new_sizes = next(asked)
            fresh = [s for s, n in zip(serials, new_sizes, strict=True) if n]
            assert fresh == list(range(position, position + len(fresh)))
            assert all(n in (0, m) for n, m in zip(new_sizes, sizes, strict=True))
            position += len(fresh)
            refilled += len(fresh)
        assert row["refilled_groups"] == refilled
        replaced += refilled
        if row["refills"] < 2:
            assert row["zero_variance_groups"] == 0
    assert next(asked, None) is None
    assert replaced > 0
    assert {row["refills"] for row in rows(runs)} <= {0, 1, 2}
    assert last_checkpoint(NEYMAN, runs)[1]["position"] == position == 4 * STEPS + replaced


def test_the_statistics_hold_every_completion_that_was_ever_drawn(finished):
    runs, seen = finished
    statistics = last_checkpoint(NEYMAN, runs)[0]["statistics"]
    number = sum(sum(sizes) for _, sizes in seen.asked)
    assert statistics.count.shape == (7, 2)
    assert statistics.count[:, 0].sum() == number
    references = np.array([int(p.reference) for p in Binary().prompts("train")])
    assert (statistics.count[references <= 2, 1] == 0).all(), "it does not apply there"
    assert (statistics.count[references > 2, 1] == statistics.count[references > 2, 0]).all()
    assert ((statistics.mean >= 0) & (statistics.mean <= 1)).all()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("depth", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_bit_for_bit(finished, tmp_path, depth):
    """Killed in step 4, with the checkpoint of step 2 behind it."""
    config = dataclasses.replace(NEYMAN, pipeline_depth=depth)
    whole = finished[0]
    if depth:
        whole = tmp_path / "whole"
        run(config, whole)
    add = StepLog.add

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
def test_equal_sizes_in_larger_arrays_are_the_run_without_a_rule(tmp_path):
    """The floor leaves nothing to share out: two places of every group are never drawn."""
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
def test_a_rule_looks_at_the_objective_it_is_told(tmp_path, name):
    config = binary(name=name, floor=1, objective="low", memory=0.5)
    assert config.largest_group == 6
    seen = run(config, tmp_path)
    for collected in seen.collected:
        assert drawn(collected).sum() == 4 * G
    statistics = last_checkpoint(config, tmp_path)[0]["statistics"]
    assert statistics.count.max() < sum(sum(sizes) for _, sizes in seen.asked) / 4


@pytest.mark.slow
def test_a_run_without_a_rule_keeps_nothing_of_the_problems(tmp_path):
    config = binary(refills=1)
    run(config, tmp_path)
    saved, extra = last_checkpoint(config, tmp_path)
    assert all(table.size == 0 for table in saved["statistics"])
    assert extra["position"] > 4 * STEPS


def test_groups_of_any_size_are_scored_in_their_places():
    def length(completion, reference):
        return len(completion.text) + 10.0 * reference

    def group(texts):
        return [Completion(text, (1,), True) for text in texts]

    groups = [group(["a", "bb"]), group([]), group(["c", "dd", "eee"]), group(["f"])]
    prompts = [Prompt("?", i, i) for i in range(4)]
    places = np.arange(4)
    suite = RewardSuite({"length": length})
    scores = score_groups(suite, groups, prompts, groups=places, shape=(4, 3))
    expected = [[1, 2, 0], [0, 0, 0], [21, 22, 23], [31, 0, 0]]
    np.testing.assert_array_equal(scores.rewards[..., 0], expected)
    np.testing.assert_array_equal(scores.mask[..., 0], np.array(expected) > 0)
    nothing = score_groups(suite, [[], []], prompts[:2], groups=places[:2], shape=(2, 3))
    assert nothing.rewards.shape == (2, 3, 1)
    assert not nothing.mask.any()
    assert nothing.failures == {"length": 0}
    whole = [group(["a", "bb"]), group(["c", "dd"])]
    full = score_groups(suite, whole, prompts[:2], groups=places[:2], shape=(2, 2))
    np.testing.assert_array_equal(full.rewards[..., 0], [[1, 2], [11, 12]])
