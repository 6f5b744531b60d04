"""Reward functions that are an `async def`: awaited together, with limits, next to others."""

import asyncio
import contextlib
import functools
import gc
import threading
import time

import numpy as np
import pytest
from hostile_texts import completion

from dvaojax.config import Config, RewardConfig, validate, validate_evaluation
from dvaojax.errors import UserError
from dvaojax.rewards import RewardError, RewardSuite
from dvaojax.rewards.asynchronous import is_async
from dvaojax.tasks.arithmetic import Arithmetic
from dvaojax.types import Prompt


class Gauge:
    """A reward that counts how many of its calls are awaited at the same time."""

    def __init__(self, seconds):
        self.seconds, self.now, self.most, self.calls = seconds, 0, 0, 0
        self.loops = set()

    async def __call__(self, answer, reference):
        self.loops.add(asyncio.get_running_loop())
        self.now += 1
        self.calls += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.seconds)
        self.now -= 1
        return float(len(answer.text))


async def follow(answer, reference):
    """Performs the action named by the answer."""
    match answer.text:
        case "hang":
            await asyncio.sleep(600)
        case "hang stubbornly":
            for _ in range(2):  # cancelled by the time limit, and at the end
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(600)
        case "block":
            time.sleep(1.5)
        case "raise":
            raise KeyError("no such tag\nin the answer \ud800")
        case "time out":
            raise TimeoutError("of the server")
        case "cancel":
            raise asyncio.CancelledError
        case "exit":
            raise SystemExit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "nan":
            return float("nan")
        case "text":
            return "1.0"
        case "nothing":
            return None
        case "numpy":
            return np.float32(0.5)
    return 1.0


def length(answer, reference):
    return float(len(answer.text))


async def with_bonus(answer, reference, *, bonus):
    return bonus


def score(suite, *texts):
    """Scores one group with these texts."""
    return suite.score([[completion(text) for text in texts]], [Prompt("2*2=", 4, index=0)])


def test_all_calls_of_a_batch_are_awaited_together():
    gauge = Gauge(0.1)
    with RewardSuite({"gauge": gauge}) as suite:
        began = time.perf_counter()
        scores = score(suite, *["x" * n for n in range(40)])
        seconds = time.perf_counter() - began
    assert gauge.most == gauge.calls == 40
    assert seconds < 2.0, "one after the other they take four seconds"
    np.testing.assert_array_equal(scores.rewards[0, :, 0], np.arange(40))


def test_concurrency_is_bounded_over_all_objectives_and_threads():
    one, two = Gauge(0.01), Gauge(0.01)
    running, most = [], []

    async def both(gauge, answer, reference):
        running.append(1)
        most.append(len(running))
        result = await gauge(answer, reference)
        running.pop()
        return result

    objectives = {"one": functools.partial(both, one), "two": functools.partial(both, two)}
    with RewardSuite(objectives, concurrency=3) as suite:
        threads = [threading.Thread(target=score, args=(suite, *"abcdefgh")) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert one.calls == two.calls == 16
    assert max(most) == 3
    assert len(one.loops | two.loops) == 1, "clients keep their connections"


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_asynchronous_and_other_objectives_are_mixed(workers):
    objectives = {
        "first": functools.partial(with_bonus, bonus=0.25),
        "length": length,
        "follow": follow,
        "called": Gauge(0.0),
    }
    with RewardSuite(objectives, workers=workers, timeout_seconds=30 if workers else None) as suite:
        assert suite.objectives == tuple(objectives)
        scores = score(suite, "fine", "nothing", "numpy")
    expected = [[0.25, 4, 1, 4], [0.25, 7, 0, 7], [0.25, 5, 0.5, 5]]
    np.testing.assert_array_equal(scores.rewards[0], expected)
    assert scores.mask[0].tolist() == [[True] * 4, [True, True, False, True], [True] * 4]


FAILURES = {
    "raise": r"KeyError: .no such tag.nin the answer",
    "time out": "TimeoutError: of the server",
    "cancel": "CancelledError",
    "exit": "SystemExit: 3",
    "interrupt": "KeyboardInterrupt",
    "nan": "not a finite float32",
    "text": "returned '1.0', a str",
    "hang": r"took longer than 0\.4 s",
    "hang stubbornly": r"took longer than 0\.4 s",
}


def test_each_failure_is_masked_or_raised_in_one_line_and_the_others_are_scored():
    with RewardSuite({"follow": follow}, timeout_seconds=0.4, on_error="mask") as suite:
        scores = score(suite, "fine", *FAILURES, "numpy")
        assert scores.mask[0, :, 0].tolist() == [True, *[False] * len(FAILURES), True]
        assert scores.failures == {"follow": len(FAILURES)}
        assert score(suite, "fine").mask.all(), "the next batch is scored as usual"
    for message, pattern in zip(scores.messages, FAILURES.values(), strict=True):
        assert "\n" not in message
        with pytest.raises(AssertionError, match=pattern):
            raise AssertionError(message)


def test_first_failure_is_raised_with_its_traceback_and_the_rest_is_cancelled():
    gauge = Gauge(600.0)
    with RewardSuite({"follow": follow, "gauge": gauge}) as suite:
        with pytest.raises(RewardError, match="objective 'follow' failed: KeyError") as caught:
            score(suite, "raise")
        assert "in follow" in "".join(caught.value.__notes__)
    assert gauge.calls == 1
    assert not [t for t in threading.enumerate() if t.name == "asynchronous-rewards"]


def test_a_call_that_awaits_nothing_is_named_and_does_not_hang_the_run():
    with RewardSuite({"follow": follow}, timeout_seconds=0.2, on_error="mask") as suite:
        scores = score(suite, "block", "fine")
        assert not scores.mask.any()
        assert "follow ran for more than 0.2 s without awaiting anything" in scores.messages[0]
        assert "use `def` and rewards.workers" in scores.messages[0]
        assert score(suite, "fine").mask.all()


def test_works_where_an_event_loop_is_running():
    """As in a notebook, whose cells run inside its loop."""

    async def cell():
        with RewardSuite({"gauge": Gauge(0.0)}) as suite:
            return score(suite, "ab"), asyncio.get_running_loop()

    scores, _ = asyncio.run(cell())
    assert scores.rewards[0, 0, 0] == 2.0


def test_closed_suite_cannot_be_used():
    suite = RewardSuite({"follow": follow})
    score(suite, "fine")
    suite.close()
    with pytest.raises(RuntimeError, match="closed"):
        score(suite, "fine")
    gc.collect()  # a call that was never awaited would warn


def test_recognises_asynchronous_functions():
    assert all(map(is_async, [follow, Gauge(0.0), functools.partial(with_bonus, bonus=1.0)]))
    assert not any(map(is_async, [length, functools.partial(length), lambda a, r: 1.0]))


def test_returned_coroutine_is_a_failure_with_the_remedy():
    suite = RewardSuite({"odd": lambda answer, reference: follow(answer, reference)})
    with pytest.raises(RewardError, match="define the reward function itself with `async def`"):
        score(suite, "fine")
    gc.collect()


def test_time_limit_needs_workers_only_for_other_functions():
    with pytest.raises(ValueError, match="needs workers for length, which is not an `async def`"):
        RewardSuite({"follow": follow, "length": length}, timeout_seconds=1.0)
    with pytest.raises(ValueError, match="concurrency=0 must be at least 1"):
        RewardSuite({"follow": follow}, concurrency=0)


class Asked(Arithmetic):
    """The built-in task with a reward that asks a server."""

    @property
    def objectives(self):
        return {"accuracy": follow}


def test_configuration_accepts_a_time_limit_for_asynchronous_rewards():
    config = Config(task=Asked(), weights={"accuracy": 1.0})
    limited = Config(
        task=Asked(), weights={"accuracy": 1.0}, rewards=RewardConfig(timeout_seconds=2.0)
    )
    for each in (config, limited):
        validate(each)
        validate_evaluation(each)
    other = Config(rewards=RewardConfig(timeout_seconds=2.0))
    for check in (validate, validate_evaluation):
        with pytest.raises(UserError, match=r"a call of accuracy in the process that trains"):
            check(other)
