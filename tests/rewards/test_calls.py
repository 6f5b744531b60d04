"""One call of a reward function: every scalar is read, and every failure is one line."""

import math
import signal
from decimal import Decimal
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hostile_texts import completion

from dvaojax.rewards import RewardError, RewardSuite
from dvaojax.rewards.calls import attempt
from dvaojax.types import Prompt

SCALARS = [
    *(1, True, 1.0, Fraction(1), Decimal(1)),
    *(np.float32(1.0), np.float64(1.0), np.int64(1), np.bool_(True)),
    *(np.array(1.0), np.array(True), np.array(1, np.uint8)),
    *(jnp.float32(1.0), jnp.array(1), jnp.array(True), jnp.ones((), jnp.bfloat16)),
    *(torch.tensor(1.0, requires_grad=True), torch.tensor(True), torch.tensor(1)),
]
OTHERS = [
    *(math.nan, math.inf, -math.inf, 1e39, 10**400, Decimal("sNaN"), jnp.array(jnp.nan)),
    *("1.0", b"1", [1.0], {}, 1j, np.str_("1"), np.array("1"), np.array(1j), np.array(None)),
    *(np.ones(1), jnp.ones(1), torch.ones(1), np.zeros((0,))),
]


def called(value):
    return attempt(lambda answer, reference: value, completion("a"), None)


def test_every_scalar_is_a_reward():
    for value in SCALARS:
        result = called(value)
        assert (result.reward, result.failure) == (1.0, ""), (type(value), result.failure)
        assert type(result.reward) is float


def test_other_values_are_failures_of_one_line():
    for value in OTHERS:
        result = called(value)
        assert result.reward is None, value
        assert result.failure.isprintable(), value
        assert result.failure, value


class WithoutMessage(Exception):
    def __str__(self):
        raise RuntimeError("no message")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SystemExit("stop"), "SystemExit: stop"),
        (GeneratorExit("gone"), "GeneratorExit: gone"),
        (WithoutMessage(), "WithoutMessage: its message cannot be read"),
        (ValueError("\x1b]0;owned\x07\ud800"), r"ValueError: \x1b]0;owned\x07\ud800"),
    ],
)
def test_every_exception_of_a_reward_is_one_printable_failure(error, reason):
    def odd(answer, reference):
        raise error

    group, prompts = [[completion("a\x1b[2J")]], [Prompt("b\x1b[2J", None, 0)]
    with pytest.raises(RewardError) as caught:
        RewardSuite({"odd": odd}).score(group, prompts)
    assert str(caught.value).startswith(f"objective 'odd' failed: {reason}; prompt")
    assert str(caught.value).isprintable()
    scores = RewardSuite({"odd": odd}, on_error="mask").score(group, prompts)
    assert scores.failures == {"odd": 1}
    assert not scores.mask.any()


def interrupt(answer, reference):
    raise KeyboardInterrupt("raised by the reward")


def test_a_keyboard_interrupt_of_a_reward_is_a_failure_unless_it_may_be_ctrl_c(monkeypatch):
    before = signal.signal(signal.SIGINT, lambda *_: None)  # as while training
    try:
        result = attempt(interrupt, completion("a"), None)
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.failure == "KeyboardInterrupt: raised by the reward"
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        attempt(interrupt, completion("a"), None)


def test_workers_survive_a_keyboard_interrupt_of_a_reward():
    with RewardSuite({"odd": interrupt}, workers=1, on_error="mask") as suite:
        for _ in range(2):
            scores = suite.score([[completion("a")]], [Prompt("b", None, 0)])
            assert "KeyboardInterrupt: raised by the reward" in scores.messages[0]
