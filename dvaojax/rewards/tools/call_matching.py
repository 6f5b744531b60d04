"""Agreement of calls with the gold calls: the terms of ToolRL's correctness score.

A gold call contributes up to 1 for its parameter names and 1 for each parameter value; the tools'
names contribute up to 1 in total.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from dvaojax.rewards.tools.blocks import ToolCall


class Fit(NamedTuple):
    """How much of the gold calls was matched.

    Attributes:
        names: overlap of the tools' names, in [0, 1].
        parameter_names: overlap of the parameters' names, summed over the gold calls.
        values: number of gold parameters with the correct value.
    """

    names: float
    parameter_names: float
    values: float


def overlap(one: Collection[str], other: Collection[str]) -> float:
    """Shared items over all items, counted with multiplicity; 1 for two empty collections."""
    if not one and not other:
        return 1.0
    # A `Counter` of a dictionary would read its values as counts.
    shared = (Counter(iter(one)) & Counter(iter(other))).total()
    return shared / (len(one) + len(other) - shared)


def best_fit(gold: Sequence[ToolCall], calls: Sequence[ToolCall]) -> Fit:
    """The fit of the best pairing of gold calls and calls.

    A gold call is paired with at most one call, of the same name, so that the sum is largest.
    Values are compared as JSON (`same_json`). The order of the calls does not matter.
    """
    pairs = [[_fit_of_call(wanted, call) for call in calls] for wanted in gold]
    worth = np.array([[sum(pair) for pair in row] for row in pairs]).reshape(len(gold), len(calls))
    chosen = [
        pairs[i][j] for i, j in zip(*linear_sum_assignment(worth, maximize=True), strict=True)
    ]
    return Fit(
        names=overlap([call.name for call in gold], [call.name for call in calls]),
        parameter_names=sum(parameter_names for parameter_names, _ in chosen),
        values=sum(values for _, values in chosen),
    )


def most(gold: Sequence[ToolCall]) -> Fit:
    """The largest possible fit, that of the gold calls themselves."""
    return Fit(1.0, len(gold), sum(len(call.parameters) for call in gold))


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: 1 equals 1.0, but not true, and null does not equal "".

    Python's `==` treats `True` as 1. Lists are ordered, objects are not.
    """
    match one, other:
        case list(), list():
            return len(one) == len(other) and all(map(same_json, one, other))
        case dict(), dict():
            return one.keys() == other.keys() and all(
                same_json(one[key], other[key]) for key in one
            )
        case _:
            return isinstance(one, bool) == isinstance(other, bool) and one == other


def _fit_of_call(wanted: ToolCall, call: ToolCall) -> tuple[float, float]:
    """Overlap of the parameters' names, and the number of correct values."""
    if wanted.name != call.name:
        return 0.0, 0.0
    values = sum(
        name in call.parameters and same_json(value, call.parameters[name])
        for name, value in wanted.parameters.items()
    )
    return overlap(wanted.parameters, call.parameters), float(values)
