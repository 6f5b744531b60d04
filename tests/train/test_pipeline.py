"""The pipelined loop: order of dispatch, age of the sampling parameters, and slow rewards."""

import dataclasses
import time
from types import SimpleNamespace

import digits_run
import jax
import jax.numpy as jnp
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
from dvaojax.train.mfu import peak_flops, step_flops
from dvaojax.train.progress import TrainingProgress
from dvaojax.train.selection import keep_all
from dvaojax.train.step_log import StepLog
from dvaojax.types import Rollout

GROUPS, LENGTH = (2, 4), 8


@jax.jit
def burn(seed):
    """Keeps the device busy for a while, and returns its argument."""
    matrix = jnp.eye(192) + seed.astype(jnp.float32)
    burnt = jax.lax.fori_loop(0, 600, lambda _, m: jnp.tanh(m @ matrix), matrix)
    return seed + (burnt[0, 0] > 2.0).astype(seed.dtype)


class FakeSession:
    """A session that records the order of events, with a device that is busy as long as configured.

    Its parameters are the number of updates so far; its completions contain the parameters that
    sampled them.
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
        self.scorer, self.samples = self, SimpleNamespace(write=lambda *_: None)
        self.display = SimpleNamespace(print=print, update=lambda *_: None)
        self.metrics = SimpleNamespace(write=self.write)
        self.checkpoints = SimpleNamespace(wait=lambda: self.events.append("saved"))

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
            "zero_variance_groups": Mean(one, one),
        }
        return state._replace(learner=learner), metrics, jnp.ones(GROUPS)

    def write(self, step, row):
        self.events.append(f"row {step}")
        self.rows[step] = row

    def run(self):
        collector = loop.make_collector(self.config, self.program, self.scorer)
        state = SimpleState(Learner(jnp.zeros((), jnp.int32), (), (), ()))
        depth = self.config.pipeline_depth
        data, in_flight = DataState(0, initial_statistics(0, 3)), []
        for _ in range(depth):
            rollout, data = collector.start_rollout(state.learner.params, data)
            in_flight.append(rollout)
        progress = TrainingProgress(state, None, data, tuple(in_flight), 0, {}, None, 0.0)
        with DeviceTimer() as timer, StepLog(self) as log:
            add, log.add = log.add, lambda step: (self.steps.append(step), add(step))
            run_step = loop._step_function(self, collector, keep_all, timer, log, Interrupts())
            while progress.step < self.config.num_steps:
                progress = run_step(progress)
            log.flush()
        return progress


@dataclasses.dataclass(frozen=True)
class SimpleState:
    learner: Learner

    def _replace(self, **changes):
        return dataclasses.replace(self, **changes)


def sampled_by(session):
    """Number of updates of the parameters that sampled the completions of each step."""
    return [int(e.completion_tokens[0, 0, 0]) for e in session.experiences]


def test_depth_0_samples_with_the_current_parameters():
    session = FakeSession(depth=0, steps=3)
    session.run()
    assert sampled_by(session) == [0, 1, 2]
    assert ",".join(session.events) == (
        "sample 1,score 1,train 1,"
        "sample 2,score 2,train 2,saved,row 1,"
        "sample 3,score 3,train 3,row 2,row 3"
    )


def test_depth_1_samples_with_the_parameters_before_the_last_update():
    """The previous update and the next sampling are dispatched before a step is scored."""
    session = FakeSession(depth=1, steps=4)
    progress = session.run()
    assert sampled_by(session) == [0, 0, 1, 2]
    assert ",".join(session.events) == (
        "sample 1,"
        "sample 2,score 1,train 1,"
        "sample 3,score 2,train 2,saved,row 1,"
        "sample 4,score 3,train 3,row 2,"
        "score 4,train 4,row 3,row 4"
    )
    assert len(progress.in_flight) == 1, (
        "checkpoints have equal structures, even after the last step"
    )


def test_depth_2_samples_with_parameters_two_updates_old():
    session = FakeSession(depth=2, steps=6)
    session.run()
    assert sampled_by(session) == [0, 0, 0, 1, 2, 3]


def test_every_step_has_its_own_row():
    session = FakeSession(depth=1, steps=4)
    session.run()
    assert {step: row["params"] for step, row in session.rows.items()} == {1: 1, 2: 2, 3: 3, 4: 4}
    for row in session.rows.values():
        assert row["tokens_per_second"] > 0
        assert row["train_seconds"] >= 0
        assert "mfu" not in row, "the peak of a CPU is not known"
    assert session.rows[1]["rollout_seconds"] == 0.0, "it was sampled before the loop"
    assert session.rows[3]["rollout_seconds"] > 0.0


def test_failure_in_scoring_keeps_the_row_of_the_previous_step():
    session = FakeSession(depth=0, steps=4)
    score = session.score

    def failing(completions, prompts):
        if len(session.scoring) == 2:
            raise RewardError("no")
        return score(completions, prompts)

    session.score = failing
    with pytest.raises(RewardError):
        session.run()
    assert sorted(session.rows) == [1, 2]


@pytest.mark.parametrize("depth", [0, 1])
def test_failed_step_is_named_and_no_later_row_is_written(depth):
    session = FakeSession(depth=depth, steps=5, skipped={2})
    with pytest.raises(TrainingError, match=r"^step 2: "):
        session.run()
    assert sorted(session.rows) == [1, 2]
    assert session.events.count("train 3") == 1, "one step late"
    assert "train 4" not in session.events


def test_keyboard_interrupt_does_not_wait_for_the_last_row():
    session = FakeSession(depth=0, steps=4)
    score = session.score

    def interrupted(completions, prompts):
        if len(session.scoring) == 2:
            raise KeyboardInterrupt
        return score(completions, prompts)

    session.score = interrupted
    with pytest.raises(KeyboardInterrupt):
        session.run()
    assert sorted(session.rows) == [1]


def spans(session):
    """Intervals in which the device worked, in order."""
    intervals = [s.training.result() for s in session.steps]
    intervals += [s.sampling.result() for s in session.steps if s.sampling is not None]
    return sorted(intervals)


def overlap(interval, spans):
    return sum(max(0.0, min(interval[1], s.end) - max(interval[0], s.start)) for s in spans)


@pytest.fixture
def slow_rewards():
    """Runs six steps in which the device works for at least 200 ms and scoring takes 200 ms."""
    burn(jnp.zeros((), jnp.int32)).block_until_ready()
    started = time.perf_counter()
    burn(jnp.zeros((), jnp.int32)).block_until_ready()
    times = int(0.2 / (time.perf_counter() - started)) + 1

    def busy(params):
        for _ in range(times):
            params = burn(params)
        return params

    def run(depth):
        session = FakeSession(depth=depth, steps=6, busy=busy, reward_seconds=0.2)
        session.run()
        return session

    return run


def share_overlapped(session):
    """Share of the scoring time of steps 2 to 4 during which the device worked."""
    inner = [session.scoring[step] for step in (2, 3, 4)]
    scored = sum(end - start for start, end in inner)
    assert scored >= 0.6
    return sum(overlap(interval, spans(session)) for interval in inner) / scored


def share_idle(session):
    """Share of the time from the second update to the fifth during which the device was idle."""
    first, last = session.steps[1].training.result(), session.steps[4].training.result()
    between = (first.end, last.end)
    return 1 - overlap(between, spans(session)) / (last.end - first.end)


@pytest.mark.slow
def test_device_is_idle_during_slow_scoring_at_depth_0(slow_rewards):
    assert share_overlapped(slow_rewards(depth=0)) < 0.1


@pytest.mark.slow
def test_device_works_during_slow_scoring_at_depth_1(slow_rewards):
    # Other load on this machine can only add idle time, so one good run of four is enough.
    runs = (slow_rewards(depth=1) for _ in range(4))
    assert any(share_overlapped(run) > 0.9 and share_idle(run) < 0.1 for run in runs)


def test_device_timer_starts_when_the_device_is_free():
    x = burn(jnp.zeros((), jnp.int32)).block_until_ready()
    with DeviceTimer() as timer:
        y = burn(x)
        first = timer.time(y)
        second = timer.time(burn(y))
        first, second = first.result(), second.result()
    assert second.start == first.end > first.start
    assert first.seconds > 0
    assert second.seconds > 0


def test_model_flops_of_a_step():
    session = FakeSession(depth=0, steps=1)
    session.run()
    lengths = session.steps[0].collected.lengths
    plain = step_flops(digits_run.digits_config(loss={"kl_weight": 0.0}), lengths)
    twice = step_flops(digits_run.digits_config(learning={"epochs": 2}), lengths)
    with_reference = step_flops(digits_run.digits_config(loss={"kl_weight": 0.1}), lengths)
    # Training takes three forward passes (one forward, two backward), sampling about one.
    assert plain < with_reference < twice < 2 * plain
    assert 3 * (with_reference - plain) == twice - plain
    assert (
        step_flops(digits_run.digits_config(loss={"importance_cap": 2.0}), lengths)
        == with_reference
    )
    assert peak_flops(jax.devices()) is None
    known = SimpleNamespace(device_kind="TPU v5 lite")
    assert peak_flops([known] * 4) == 4 * 197e12
    assert peak_flops([known, jax.devices()[0]]) is None
