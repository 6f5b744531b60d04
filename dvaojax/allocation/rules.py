"""The rules that a run can use, and their knobs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from dvaojax import options, plugins
from dvaojax.allocation.methods import ROWS
from dvaojax.allocation.statistics import ProblemStatistics
from dvaojax.errors import UserError


class AllocationRule(Protocol):
    """Maps the statistics of a step's `B` problems to the number of completions of each, `[B]`."""

    def __call__(
        self,
        statistics: ProblemStatistics,
        weights: np.ndarray,
        /,
        *,
        budget: int,
        floor: int,
        cap: int,
    ) -> np.ndarray: ...


BY_NAME: dict[str, Callable[..., np.ndarray]] = {name: row.method for name, row in ROWS.items()}
"""The rules by name."""


def find(name: str) -> Callable[..., np.ndarray]:
    """The rule of a name.

    Args:
        name: a key of `BY_NAME`, or a plug-in, `my_file.py:my_rule` or `module:my_rule`, which is
            loaded.

    Raises:
        UserError: there is no such rule, or the plug-in cannot be used.
    """
    rule = plugins.find(name, BY_NAME, kind="allocation rule")
    plugins.require_arguments(name, rule, ["statistics", "weights"], ["budget", "floor", "cap"])
    return rule


def check_sizes(
    name: str, sizes: np.ndarray, *, count: int, budget: int, floor: int, cap: int
) -> None:
    """Checks what a rule returned.

    Args:
        name: of the rule, for the message.
        sizes: `[B]` completions of each problem, as returned.
        count: the number of problems `B`.
        budget: what the sizes add up to.
        floor: smallest size of a problem.
        cap: largest size of a problem.

    Raises:
        UserError: it is not an integer from floor to cap for each problem, with the sum `budget`.
    """
    is_valid = sizes.shape == (count,) and np.issubdtype(sizes.dtype, np.integer)
    if not (is_valid and sizes.sum() == budget and floor <= sizes.min() and sizes.max() <= cap):
        raise UserError(
            f"{name} returned {sizes.tolist()} for {count} problems, not integers from "
            f"floor={floor} to cap={cap} with the sum budget={budget}"
        )


def knobs_of(rule: Callable[..., np.ndarray]) -> dict[str, Any]:
    """The knobs of a rule with their defaults; `budget`, `floor` and `cap` are not knobs."""
    return options.knobs_of(rule, without=("budget", "floor", "cap"))


def make(name: str, settings: Sequence[str] = ()) -> AllocationRule:
    """The rule of a name with its options applied.

    Args:
        name: a key of `BY_NAME`, or a plug-in as in `find`.
        settings: its options, `knob=value` each.

    Raises:
        UserError: there is no such rule or knob, or a value is of another type.
    """
    rule = find(name)
    return partial(rule, **options.read_options(name, settings, knobs_of(rule)))
