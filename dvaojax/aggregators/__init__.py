"""Advantage aggregators: rewards `[..., G, K]` to advantages `[..., G]`, one method per file.

    from dvaojax.aggregators import dvao
    advantages = dvao(rewards, weights)

There are two families. The *sums*, among them `dvao`, divide the weighted sum of the rewards, minus
a baseline, by one positive number per group or batch, and so never change the order of the
completions of a group. The *z-scores*, such as `gdpo`, first standardise each objective within its
group. Other methods are one of the two with weights that adapt to the rewards. The table in
`methods.py` lists the family and the properties of each method.

Under `jit` the batch is the whole batch, however it is sharded. Inside `shard_map` a function only
has the groups of one device and treats them as the batch: gather the rewards first and slice the
advantages, `gdpo(all_gather(rewards, axis), weights)[axis_index(axis)]`.

To add a method:

1. Write its file in this package: a function `my_method(rewards, weights, *, mask=None, ...)`, with
   a third argument `lengths`, `key` or `gradient_weights` if it needs the lengths of the
   completions, a random key, or the squared norms of their gradients, or with
   `token_gradient_weights` and `where` if it returns an advantage for each token;
   or a factory `my_method(weights, *, ...)` of an `Aggregator` that keeps a state. The keyword-only
   parameters are its knobs.
2. Add its import line and its row in `methods.py`.

It can then be imported from here and selected by `aggregator=my_method`; `dvaojax methods` lists
and explains it, and the common tests include it. They ask for an oracle in `tests/helpers`.
"""

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax import Array
from jax.typing import ArrayLike

from dvaojax import options, plugins
from dvaojax.aggregators._core import batch as batch
from dvaojax.aggregators._core import group as group
from dvaojax.aggregators._core import least_squares as least_squares
from dvaojax.aggregators._core import whitening as whitening
from dvaojax.aggregators._core.aggregator import NORMS as NORMS
from dvaojax.aggregators._core.aggregator import Aggregator as Aggregator
from dvaojax.aggregators._core.aggregator import PerObjective as PerObjective
from dvaojax.aggregators._core.aggregator import State as State
from dvaojax.aggregators._core.aggregator import further_arguments as further_arguments
from dvaojax.aggregators._core.aggregator import is_factory as is_factory
from dvaojax.aggregators._core.aggregator import knobs_of as knobs_of
from dvaojax.aggregators._core.aggregator import knobs_per_objective as knobs_per_objective
from dvaojax.aggregators._core.aggregator import named_weights as named_weights
from dvaojax.aggregators._core.aggregator import needs_key as needs_key
from dvaojax.aggregators._core.aggregator import needs_lengths as needs_lengths
from dvaojax.aggregators._core.aggregator import needs_of as needs_of
from dvaojax.aggregators._core.aggregator import per_objective as per_objective
from dvaojax.aggregators._core.aggregator import stateful as stateful
from dvaojax.aggregators._core.aggregator import stateless as stateless
from dvaojax.aggregators._core.comparison import Comparison as Comparison
from dvaojax.aggregators._core.comparison import compare as compare
from dvaojax.aggregators._core.comparison import effective_weights as effective_weights
from dvaojax.aggregators._core.diagnostics import Diagnostics as Diagnostics
from dvaojax.aggregators._core.diagnostics import diagnostics as diagnostics
from dvaojax.aggregators.methods import *  # noqa: F403  (the functions of the table)
from dvaojax.aggregators.methods import ROWS as ROWS
from dvaojax.errors import suggest as suggest

STATEFUL: dict[str, Callable[..., Aggregator]] = {
    name: row.method for name, row in ROWS.items() if is_factory(row.method)
}
"""Factories of stateful aggregators, by name."""

RANDOM: dict[str, Callable[..., Array]] = {
    name: row.method for name, row in ROWS.items() if needs_key(row.method)
}
"""Functions that take a random key, by name."""

BY_NAME: dict[str, Callable[..., Array]] = {
    name: row.method for name, row in ROWS.items() if name not in {*STATEFUL, *RANDOM}
}
"""Deterministic functions of the rewards of one step, by name."""

METHODS: Mapping[str, Callable[..., Any]] = ChainMap[str, Any](BY_NAME, STATEFUL, RANDOM)
"""All of them, by name; a view, which includes entries that are added to the dictionaries later."""


def find(name: str) -> Callable[..., Any]:
    """The function or factory of a name.

    Args:
        name: a key of `METHODS`, or a plug-in, `my_file.py:my_method` or `module:my_method`, which
            is loaded.

    Raises:
        UserError: there is no such method, or the plug-in cannot be used.
    """
    method = plugins.find(name, METHODS, kind="aggregator")
    if is_factory(method):
        plugins.require_arguments(name, method, ["weights"])
    else:
        positional = ["rewards", "weights", *further_arguments(method)]
        plugins.require_arguments(name, method, positional, ["mask"])
    return method


def make(name: str, weights: ArrayLike, **knobs: Any) -> Aggregator:
    """The aggregator of a name, ready for a trainer.

    Args:
        name: a key of `METHODS`, or a plug-in as in `find`.
        weights: `[K]`, in the order of the objectives (`named_weights`).
        knobs: the method's keyword-only arguments, such as `ddof`.

    Raises:
        UserError: there is no such method, or it has no such knob; the line names the nearest
            right one.
        ValueError: a knob has a value that a stateful method does not accept.
    """
    method = find(name)
    options.require_knobs(name, knobs, knobs_of(method))
    if is_factory(method):
        return method(weights, **knobs)
    return stateless(method, weights=weights, **knobs)


def read_options(name: str, settings: Sequence[str], objectives: Sequence[str]) -> dict[str, Any]:
    """The knobs of an aggregator that options of a configuration set.

    Args:
        name: a key of `METHODS`, or a plug-in as in `find`.
        settings: `knob=value` each, or `knob.objective=value` for a knob that may differ between
            objectives; it becomes a tuple.
        objectives: their names, in the order of the last axis of the rewards.

    Raises:
        UserError: there is no such method, knob or objective, or a value is of another type.
    """
    method = find(name)
    return options.read_options(
        name,
        settings,
        knobs_of(method),
        per_objective=knobs_per_objective(method),
        objectives=objectives,
    )
