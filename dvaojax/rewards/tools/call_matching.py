"""How well calls fit the gold calls: the sums that ToolRL's correctness is made of.

A gold call is worth 1 for its parameter names and 1 for each of its parameters' values, and the
tools' names are worth 1 together.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from dvaojax.rewards.tools.blocks import ToolCall


class Fit(NamedTuple):
    """What of the gold calls was met.

    Attributes:
        names: overlap of the tools' names, in [0, 1].
        parameter_names: overlap of the parameters' names, summed over the gold calls.
        values: gold parameters whose value is right.
    """

    names: float
    parameter_names: float
    values: float


def overlap(one: Collection[str], other: Collection[str]) -> float:
    """Shared items over all items, each as often as it occurs; 1 for two empty collections."""
    if not one and not other:
        return 1.0
    # Of a dictionary, a `Counter` would take the values for counts.
    shared = (Counter(iter(one)) & Counter(iter(other))).total()
    return shared / (len(one) + len(other) - shared)


def best_fit(gold: Sequence[ToolCall], calls: Sequence[ToolCall]) -> Fit:
    """The fit of the pairing of gold calls and calls that is worth most.

    A gold call is paired with at most one call, of the same name. Values are the same as JSON has
    them (`same_json`). The order of the calls does not matter.
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
    """The fit of the gold calls themselves."""
    return Fit(1.0, len(gold), sum(len(call.parameters) for call in gold))


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: 1 is 1.0, but neither is true, and null is not "".

    Python's `==` takes `True` for 1. Lists keep their order, objects have none.
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
    """Overlap of the parameters' names, and the number of right values."""
    if wanted.name != call.name:
        return 0.0, 0.0
    values = sum(
        name in call.parameters and same_json(value, call.parameters[name])
        for name, value in wanted.parameters.items()
    )
    return overlap(wanted.parameters, call.parameters), float(values)
