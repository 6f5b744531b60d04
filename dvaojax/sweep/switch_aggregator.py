"""Many aggregators as one: which method counts, and its weights, are data and not program.

A sweep's runs differ in little else. With this aggregator they share one compiled step.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from dvaojax import aggregators
from dvaojax.aggregators import Aggregator


class Method(NamedTuple):
    """An aggregator without its weights.

    Attributes:
        name: a key of `aggregators.METHODS`.
        knobs: its keyword-only arguments.
    """

    name: str
    knobs: Mapping[str, Any]


class Choice(NamedTuple):
    """The state: what is chosen, and what every method remembers.

    Attributes:
        method: scalar int32, the number of the method in use.
        weights: `[K]` float32.
        states: of each method; those that are not in use stay as they are.
    """

    method: Array
    weights: Array
    states: tuple[Any, ...]


def switchboard(methods: Sequence[Method]) -> Aggregator:
    """An aggregator that is whichever of the methods its state names.

    `init` chooses the first with equal weights; `choose` makes the state of any other.

    Args:
        methods: at least one.
    """

    def update(
        rewards: Array,
        mask: Array | None,
        state: Choice,
        key: Array | None,
        /,
        *,
        lengths: Array | None = None,
    ) -> tuple[Array, Choice]:
        def with_method(number: int, states: tuple[Any, ...]) -> tuple[Array, tuple[Any, ...]]:
            name, knobs = methods[number]
            aggregator = aggregators.make(name, state.weights, **knobs)
            advantages, after = aggregator.update(
                rewards, mask, states[number], key, lengths=lengths
            )
            return advantages, (*states[:number], after, *states[number + 1 :])

        branches = [partial(with_method, number) for number in range(len(methods))]
        advantages, states = lax.switch(state.method, branches, state.states)
        return advantages, state._replace(states=states)

    def init(num_objectives: int, /) -> Choice:
        return choose(methods, methods[0], jnp.ones(num_objectives, jnp.float32))

    return Aggregator(init, update)


def choose(methods: Sequence[Method], chosen: Method, weights: Array) -> Choice:
    """The state of a switchboard before the first step of a run.

    Args:
        methods: those of the switchboard.
        chosen: one of them.
        weights: `[K]`, in the order of the objectives.
    """
    made = (aggregators.make(name, weights, **knobs) for name, knobs in methods)
    return Choice(
        method=jnp.asarray(methods.index(chosen), jnp.int32),
        weights=weights,
        states=tuple(aggregator.init(len(weights)) for aggregator in made),
    )
