"""Several aggregators as one: the method and its weights are data, not part of the program.

With this aggregator the runs of a sweep, which differ in little else, share one compiled step.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from dvaojax import aggregators
from dvaojax.aggregators import Aggregator


class UnweightedMethod(NamedTuple):
    """An aggregator without its weights.

    Attributes:
        name: a key of `aggregators.METHODS`, or a plug-in.
        knobs: its keyword-only arguments.
    """

    name: str
    knobs: Mapping[str, Any]


class SwitchState(NamedTuple):
    """State of a switch aggregator.

    Attributes:
        method: scalar int32, index of the method in use.
        weights: `[K]` float32.
        states: of all methods; only that of the method in use is updated.
    """

    method: Array
    weights: Array
    states: tuple[Any, ...]


def switch_aggregator(methods: Sequence[UnweightedMethod]) -> Aggregator:
    """An aggregator that applies the method selected in its state.

    If one of the methods has an advantage for each token, all have.

    `init` selects the first method with equal weights; `switch_state` makes the state of any other
    method.

    Args:
        methods: at least one.
    """

    every = (aggregators.needs_of(aggregators.find(name)) for name, _ in methods)
    needs = tuple(dict.fromkeys(need for some in every for need in some))

    def update(
        rewards: Array,
        mask: Array | None,
        state: SwitchState,
        key: Array | None,
        /,
        **inputs: Array | None,
    ) -> tuple[Array, SwitchState]:
        def with_method(number: int, states: tuple[Any, ...]) -> tuple[Array, tuple[Any, ...]]:
            name, knobs = methods[number]
            aggregator = aggregators.make(name, state.weights, **knobs)
            advantages, after = aggregator.update(
                rewards, mask, states[number], key, **aggregator.inputs_among(inputs)
            )
            where = inputs.get("where")
            if "where" in needs and where is not None and not aggregator.is_per_token:
                advantages = jnp.where(where, advantages[..., None], 0)
            return advantages, (*states[:number], after, *states[number + 1 :])

        branches = [partial(with_method, number) for number in range(len(methods))]
        advantages, states = lax.switch(state.method, branches, state.states)
        return advantages, state._replace(states=states)

    def init(num_objectives: int, /) -> SwitchState:
        return switch_state(methods, methods[0], jnp.ones(num_objectives, jnp.float32))

    return Aggregator(init, update, needs)


def switch_state(
    methods: Sequence[UnweightedMethod], selected: UnweightedMethod, weights: Array
) -> SwitchState:
    """The state of a switch aggregator before the first step of a run.

    Args:
        methods: of the switch aggregator.
        selected: one of them.
        weights: `[K]`, in the order of the objectives.
    """
    each = (aggregators.make(name, weights, **knobs) for name, knobs in methods)
    return SwitchState(
        method=jnp.asarray(methods.index(selected), jnp.int32),
        weights=weights,
        states=tuple(aggregator.init(len(weights)) for aggregator in each),
    )
