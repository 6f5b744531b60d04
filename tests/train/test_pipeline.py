"""No waiting: what is dispatched before what, who sampled what, and what a slow reward costs."""

import dataclasses
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import digits_run
import numpy as np
import pytest

from dvaojax.allocation import initial_statistics
from dvaojax.learning.gradients import Learner
from dvaojax.numerics import Mean
from dvaojax.rewards import RewardError
from dvaojax.rewards.suite import Scores
from dvaojax.train import TrainingError, loop
from dvaojax.train.allocation_state import DataState
from dvaojax.train.device_timer import DeviceTimer
from dvaojax.train.interrupts import Interrupts
from dvaojax.train.step_log import StepLog
from dvaojax.train.mfu import peak_flops, step_flops
from dvaojax.train.progress import TrainingProgress
from dvaojax.types import Rollout

GROUPS, LENGTH = (2, 4), 8


@jax.jit
def burn(seed):
    """Keeps the device busy for a while; returns its argument."""
    matrix = jnp.eye(192) + seed.astype(jnp.float32)
    burnt = jax.lax.fori_loop(0, 600, lambda _, m: jnp.tanh(m @ matrix), matrix)
    return seed + (burnt[0, 0] > 2.0).astype(seed.dtype)


class Stage:
    """A session whose device works as long as asked, and which writes down what happens when.

    Parameters are the number of updates they have seen; completions hold their parameters.
    """

    def __init__(self, *, depth, steps, busy=lambda value: value, reward_seconds=0.0, skipped=()):
        self.events, self.rows, self.scoring, self.steps = [], {}, {}, []
        self.experiences, self.skipped = [], skipped
        self.busy, self.reward_seconds = busy, reward_seconds
        self.config = dataclasses.replace(
            digits_run.CONFIG, pipeline_depth=depth, num_steps=steps, max_skipped_in_a_row=0
        )
        self.program = SimpleNamespace(
            by_group=jax.sharding.SingleDeviceSharding(jax.devices()[0]),
            mesh=SimpleNamespace(devices=np.array(jax.devices()[:1])),
            sample=self.sample,
            step=self.step,
        )
        self.suite, self.samples = self, SimpleNamespace(write=lambda *_: None)
        self.display = SimpleNamespace(print=print, update=lambda *_: None)
        self.metrics = SimpleNamespace(write=self.write)

    def sample(self, params, tokens, lengths, key, serials, sizes):
        del tokens, lengths, key, sizes
        self.events.append(f"sample {int(serials[0]) // 2 + 1}")
        params = self.busy(params)
        tokens = jnp.broadcast_to(params.astype(jnp.int32)[None, None, None], (*GROUPS, LENGTH))
        mask = jnp.ones(tokens.shape, bool)
        return Rollout(tokens, mask, jnp.zeros(tokens.shape), mask[..., 0])

    def score(self, completions, prompts):
        step = len(self.scoring) + 1
        self.events.append(f"score {step}")
        started = time.perf_counter()
        time.sleep(self.reward_seconds)
        self.scoring[step] = (started, time.perf_counter())
        ones = np.ones((*GROUPS, 3), np.float32)
        return Scores(ones, ones > 0, {}, [])

    def step(self, state, experience, reference):
        del reference
        number = len(self.experiences) + 1
        self.events.append(f"train {number}")
        self.experiences.append(experience)
        params = self.busy(state.learner.params) + 1
        learner = state.learner._replace(params=params)
        one = jnp.ones(())
        metrics = {
            "reward": Mean(jnp.ones(3), jnp.ones(3)),
            "skipped_in_a_row": Mean(one * float(number in self.skipped), one),
            "params": params.astype(jnp.float32),
        }
        return state._replace(learner=learner), metrics, jnp.ones(GROUPS)

    def write(self, step, row):
        self.events.append(f"row {step}")
        self.rows[step] = row

    def run(self, journal_class=StepLog):
        collector = loop.make_collector(self.config, self.program, self.suite)
        state = SimpleState(Learner(jnp.zeros((), jnp.int32), (), (), ()))
        depth = self.config.pipeline_depth
        reading, in_flight = DataState(0, initial_statistics(0, 3)), []
        for _ in range(depth):
            draw, reading = collector.start_rollout(state.learner.params, reading)
            in_flight.append(draw)
        progress = TrainingProgress(state, None, reading, tuple(in_flight), 0, {}, 0.0)
        with DeviceTimer() as clock, journal_class(self) as journal:
            add, journal.add = journal.add, lambda step: (self.steps.append(step), add(step))
            learn = loop._learner(self, collector, clock, journal, Interrupts())
            while progress.step < self.config.num_steps:
                progress = learn(progress)
            journal.flush()
        return progress


@dataclasses.dataclass(frozen=True)
class SimpleState:
    learner: Learner

    def _replace(self, **changes):
        return dataclasses.replace(self, **changes)


def sampled_by(stage):
    """Which parameters, by their updates, sampled what each step learnt from."""
    return [int(e.completion_tokens[0, 0, 0]) for e in stage.experiences]


def test_on_policy_every_step_learns_from_the_parameters_it_updates():
    stage = Stage(depth=0, steps=3)
    stage.run()
    assert sampled_by(stage) == [0, 1, 2]
    assert ",".join(stage.events) == (
        "sample 1,score 1,train 1,"
        "sample 2,score 2,train 2,row 1,"
        "sample 3,score 3,train 3,row 2,row 3"
    )


def test_one_step_ahead_every_step_learns_from_the_parameters_before_the_last_update():
    """The update before and the sampling ahead are dispatched while a step is scored."""
    stage = Stage(depth=1, steps=4)
    progress = stage.run()
    assert sampled_by(stage) == [0, 0, 1, 2]
    assert ",".join(stage.events) == (
        "sample 1,"
        "sample 2,score 1,train 1,"
        "sample 3,score 2,train 2,row 1,"
        "sample 4,score 3,train 3,row 2,"
        "score 4,train 4,row 3,row 4"
    )
    assert len(progress.in_flight) == 1, "a checkpoint has one structure, after the last step too"


def test_any_bounded_depth_is_that_many_updates_behind():
    stage = Stage(depth=2, steps=6)
    stage.run()
    assert sampled_by(stage) == [0, 0, 0, 1, 2, 3]


def test_each_row_is_its_own_steps_and_none_is_lost():
    stage = Stage(depth=1, steps=4)
    stage.run()
    assert {step: row["params"] for step, row in stage.rows.items()} == {1: 1, 2: 2, 3: 3, 4: 4}
    for row in stage.rows.values():
        assert row["tokens_per_second"] > 0
        assert row["train_seconds"] >= 0
        assert "mfu" not in row, "a CPU's peak is not known"
    assert stage.rows[1]["rollout_seconds"] == 0.0, "it was in flight when the loop began"
    assert stage.rows[3]["rollout_seconds"] > 0.0


def test_a_failure_between_two_steps_leaves_the_row_of_the_step_before():
    stage = Stage(depth=0, steps=4)
    score = stage.score

    def failing(completions, prompts):
        if len(stage.scoring) == 2:
            raise RewardError("no")
        return score(completions, prompts)

    stage.score = failing
    with pytest.raises(RewardError):
        stage.run()
    assert sorted(stage.rows) == [1, 2]


@pytest.mark.parametrize("depth", [0, 1])
def test_a_step_that_ends_the_run_is_named_and_nothing_after_it_is_written(depth):
    stage = Stage(depth=depth, steps=5, skipped={2})
    with pytest.raises(TrainingError, match=r"^step 2: "):
        stage.run()
    assert sorted(stage.rows) == [1, 2]
    assert stage.events.count("train 3") == 1, "a step late"
    assert "train 4" not in stage.events


def test_a_program_that_ends_at_once_does_not_wait_for_the_last_row():
    stage = Stage(depth=0, steps=4)
    score = stage.score

    def interrupted(completions, prompts):
        if len(stage.scoring) == 2:
            raise KeyboardInterrupt
        return score(completions, prompts)

    stage.score = interrupted
    with pytest.raises(KeyboardInterrupt):
        stage.run()
    assert sorted(stage.rows) == [1]


def spans(stage):
    """When the device was at work, from the first update to the last."""
    found = [s.training.result() for s in stage.steps]
    found += [s.sampling.result() for s in stage.steps if s.sampling is not None]
    return sorted(found)


def overlap(interval, spans):
    return sum(max(0.0, min(interval[1], s.end) - max(interval[0], s.start)) for s in spans)


@pytest.fixture
def slow_rewards():
    """Runs six steps in which the device works for 200 ms at least and the rewards take 200."""
    burn(jnp.zeros((), jnp.int32)).block_until_ready()
    started = time.perf_counter()
    burn(jnp.zeros((), jnp.int32)).block_until_ready()
    times = int(0.2 / (time.perf_counter() - started)) + 1

    def busy(params):
        for _ in range(times):
            params = burn(params)
        return params

    def run(depth):
        stage = Stage(depth=depth, steps=6, busy=busy, reward_seconds=0.2)
        stage.run()
        return stage

    return run


def share_scored_beside_the_device(stage):
    """Of the time that the rewards took, in the steps between the first and the last two."""
    inner = [stage.scoring[step] for step in (2, 3, 4)]
    scored = sum(end - start for start, end in inner)
    assert scored >= 0.6
    return sum(overlap(interval, spans(stage)) for interval in inner) / scored


def share_idle(stage):
    """Of the time from the second update to the fifth, how much the device was not at work."""
    first, last = stage.steps[1].training.result(), stage.steps[4].training.result()
    between = (first.end, last.end)
    return 1 - overlap(between, spans(stage)) / (last.end - first.end)


def test_slow_rewards_are_waited_for_on_policy(slow_rewards):
    assert share_scored_beside_the_device(slow_rewards(depth=0)) < 0.1


def test_slow_rewards_cost_less_than_a_tenth_of_a_step_one_step_behind(slow_rewards):
    # Other work on this machine can only add to what is idle, so one run without it is enough.
    runs = (slow_rewards(depth=1) for _ in range(4))
    assert any(share_scored_beside_the_device(run) > 0.9 and share_idle(run) < 0.1 for run in runs)


def test_a_clock_counts_from_when_the_device_was_free():
    x = burn(jnp.zeros((), jnp.int32)).block_until_ready()
    with DeviceTimer() as clock:
        y = burn(x)
        first = clock.time(y)
        second = clock.time(burn(y))
        first, second = first.result(), second.result()
    assert second.start == first.end > first.start
    assert first.seconds > 0
    assert second.seconds > 0


def test_model_flops_count_what_a_step_does():
    stage = Stage(depth=0, steps=1)
    stage.run()
    lengths = stage.steps[0].collected.lengths
    plain = step_flops(digits_run.digits_config(loss={"kl_weight": 0.0}), lengths)
    twice = step_flops(digits_run.digits_config(learning={"epochs": 2}), lengths)
    with_reference = step_flops(digits_run.digits_config(loss={"kl_weight": 0.1}), lengths)
    # Forward F and backward 2F are learning's three; sampling is about one more.
    assert plain < with_reference < twice < 2 * plain
    assert 3 * (with_reference - plain) == twice - plain
    assert step_flops(digits_run.digits_config(loss={"importance_cap": 2.0}), lengths) == with_reference
    assert peak_flops(jax.devices()) is None
    known = SimpleNamespace(device_kind="TPU v5 lite")
    assert peak_flops([known] * 4) == 4 * 197e12
    assert peak_flops([known, jax.devices()[0]]) is None
