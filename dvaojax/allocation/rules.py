"""The rules that a run can go by, and their knobs."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from dvaojax.allocation.dynamo import dynamo, neyman
from dvaojax.allocation.statistics import Statistics
from dvaojax.allocation.uniform import uniform
from dvaojax.errors import UserError, nearest


class Rule(Protocol):
    """What is known of a step's problems, `B` rows, to the number of completions of each `[B]`."""

    def __call__(
        self, seen: Statistics, weights: np.ndarray, /, *, budget: int, floor: int, cap: int
    ) -> np.ndarray: ...


BY_NAME: dict[str, Callable[..., np.ndarray]] = {
    function.__name__: function for function in (dynamo, neyman, uniform)
}


def knobs_of(rule: Callable[..., np.ndarray]) -> dict[str, Any]:
    """The knobs that a rule has of its own, with their defaults."""
    parameters = inspect.signature(rule).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.kind == p.KEYWORD_ONLY and p.default is not p.empty
    }


def make(name: str, options: Sequence[str] = ()) -> Rule:
    """The rule of that name.

    Args:
        name: a key of `BY_NAME`.
        options: its knobs, "knob=value" each.

    Raises:
        UserError: there is no such rule, it has no such knob, or a value is not of its type.
    """
    if name not in BY_NAME:
        raise UserError(f"{name!r} is no rule; the nearest is {nearest(name, BY_NAME)}")
    known, knobs = knobs_of(BY_NAME[name]), {}
    for option in options:
        knob, _, text = option.partition("=")
        if knob not in known:
            choices = ", ".join(known) or "none"
            raise UserError(f"{name} has no knob {knob!r}; it has {choices}")
        try:
            knobs[knob] = type(known[knob])(text)
        except ValueError as error:
            kind = type(known[knob]).__name__
            raise UserError(f"{option!r} is not {knob}=<{kind}>") from error
    return partial(BY_NAME[name], **knobs)
