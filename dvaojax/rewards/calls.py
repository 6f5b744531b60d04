"""One call of a reward function and its result.

A call always returns a `CallResult` of built-in types, also when the function raises. Exceptions of
user-defined classes are not passed between processes, since not all of them can be pickled.
"""

import inspect
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from dvaojax.errors import printable
from dvaojax.types import Completion, Prompt, RewardFunction

LARGEST_REWARD = float(np.finfo(np.float32).max)


class Call(NamedTuple):
    """One completion of one prompt, to be scored on one objective."""

    objective: str
    completion: Completion
    prompt: Prompt


class CallResult(NamedTuple):
    """Result of one call.

    Attributes:
        reward: the number; None if the objective does not apply or the call failed.
        failure: the reason of a failure in one line; empty if the call succeeded.
        trace: the traceback, if there is one.
    """

    reward: float | None
    failure: str = ""
    trace: str = ""


class RewardError(RuntimeError):
    """A call that failed, in one line: objective, reason, prompt and completion."""


def attempt(function: RewardFunction, completion: Completion, reference: Any) -> CallResult:
    """Calls the function; an exception, an exit or an invalid return value is a failure.

    Raises:
        KeyboardInterrupt: the user pressed Ctrl-C, and no other handler of the signal is installed.
    """
    try:
        return CallResult(_checked(function(completion, reference)))
    except KeyboardInterrupt as error:
        if _may_be_ctrl_c():
            raise
        return failed(error)
    except BaseException as error:
        return failed(error)


def _may_be_ctrl_c() -> bool:
    """Whether the signal raises KeyboardInterrupt here; otherwise the function itself raised it."""
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def failed(error: BaseException) -> CallResult:
    """Result of a call that raised; must be called while the exception is being handled."""
    try:
        text = str(error)
    except Exception:
        text = "its message cannot be read"
    # An answer, which the message may quote, contains all kinds of characters.
    line = printable(" ".join(f"{type(error).__name__}: {text}".split())[:500])
    return CallResult(None, line, traceback.format_exc())


def most_frequent(reasons: Iterable[str]) -> str:
    """Up to three reasons of failures, the most frequent first, each with its count."""
    counted = Counter(reasons)
    shown = [f"{reason} ({count})" for reason, count in counted.most_common(3)]
    return ", ".join([*shown, *(["..."] if len(counted) > len(shown) else [])])


def reward_error(call: Call, outcome: CallResult) -> RewardError:
    """The exception for a failed call."""
    error = RewardError(
        f"objective {call.objective!r} failed: {outcome.failure}; "
        f"prompt {_shortened(call.prompt.text)}, completion {_shortened(call.completion.text)}"
    )
    if outcome.trace:
        error.add_note(outcome.trace)
    return error


def _checked(value: object) -> float | None:
    """The value as a float; raises if a reward function may not return it.

    Scalars of NumPy, JAX and PyTorch, and their arrays without a dimension, are numbers too.
    """
    if value is None:
        return None
    if inspect.iscoroutine(value):
        value.close()  # or Python warns that it was never awaited
        raise TypeError("returned a coroutine: define the reward function itself with `async def`")
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        value = item()
    if not isinstance(value, Real | Decimal):
        raise TypeError(f"returned {value!r:.80}, a {type(value).__name__}, not a float or None")
    reward = float(value)
    if not abs(reward) <= LARGEST_REWARD:
        raise ValueError(f"returned {reward}, which is not a finite float32")
    return reward


def _shortened(text: str, length: int = 200) -> str:
    """The text quoted in one line, with the middle of a long text left out."""
    if len(text) <= length:
        return repr(text)
    half = length // 2
    return f"{text[:half]!r} ... {text[-half:]!r} ({len(text):,} characters)"
