"""The rules that a run can use, and their knobs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from dvaojax import options, plugins
from dvaojax.allocation.methods import ROWS
from dvaojax.allocation.statistics import ProblemStatistics


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


BY_NAME: dict[str, Callable[..., np.ndarray]] = {
    name: row.method for name, row in ROWS.items() if row.looks_at != "gradients"
}
"""The rules that only need rewards, which the trainer measures, by name."""


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
