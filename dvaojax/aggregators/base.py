"""What the trainer takes: an aggregator as a pair of pure functions, in optax's manner."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import chex
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax.errors import UserError, nearest

State = Any  # a pytree of arrays, checkpointed with the run


class Init(Protocol):
    """The number of objectives to the state before the first step."""

    def __call__(self, num_objectives: int, /) -> State: ...


class Update(Protocol):
    """One step's rewards to its advantages.

    Args:
        rewards: `[..., G, K]`.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored; None
            if all were.
        state: what `init` or the last `update` returned.
        key: a random key, consumed; methods without randomness ignore it.
        lengths: `[..., G]` tokens of each completion, for methods that weight by length.

    Returns:
        Advantages `[..., G]` and the next state.
    """

    def __call__(
        self,
        rewards: Array,
        mask: Array | None,
        state: State,
        key: Array | None,
        /,
        *,
        lengths: Array | None = None,
    ) -> tuple[Array, State]: ...


class Aggregator(NamedTuple):
    """An advantage aggregator; not `optax.experimental`'s, which aggregates gradients.

    Schedules, running statistics and random weights live in the state, which is checkpointed.
    """

    init: Init
    update: Update


def stateless(function: Callable[..., Array], *, weights: ArrayLike, **knobs: Any) -> Aggregator:
    """An aggregator without memory from a pure function; its state is the empty tuple.

    Args:
        function: one of this package, or any `function(rewards, weights, *, mask, ...)`. One that
            has a parameter `lengths` is given them as third argument.
        weights: `[K]`, in the order of the objectives (`named_weights`).
        knobs: passed on to the function at each step.

    Raises:
        UserError: at `init`, another number of objectives than of weights.
        ValueError: at `update`, lengths are missing that the function needs.
    """
    weights = jnp.asarray(weights)
    chex.assert_rank(weights, 1)
    with_lengths = needs_lengths(function)

    def init(num_objectives: int, /) -> State:
        if weights.shape != (num_objectives,):
            raise UserError(f"{len(weights)} weights for {num_objectives} objectives")
        return ()

    def update(
        rewards: Array,
        mask: Array | None,
        state: State,
        key: Array | None,
        /,
        *,
        lengths: Array | None = None,
    ) -> tuple[Array, State]:
        del key  # nothing is drawn
        if not with_lengths:
            return function(rewards, weights, mask=mask, **knobs), state
        if lengths is None:
            raise ValueError(f"{function.__name__} needs the lengths of the completions")
        return function(rewards, weights, lengths, mask=mask, **knobs), state

    return Aggregator(init, update)


def named_weights(weights: Mapping[str, float], objectives: Sequence[str]) -> Array:
    """Weights keyed by name as an array `[K]` float32 in the order of the objectives.

    Args:
        weights: one for each objective, in any order.
        objectives: the names, in the order of the rewards' last axis.

    Raises:
        UserError: an objective has no weight, or a weight no objective.
    """
    for name in weights:
        if name not in objectives:
            raise UserError(f"a weight for an unknown objective {suggest(name, objectives)}")
    missing = [name for name in objectives if name not in weights]
    if missing:
        raise UserError(f"no weight for {', '.join(missing)}")
    return jnp.asarray([weights[name] for name in objectives], jnp.float32)


def needs_lengths(function: Callable[..., Array]) -> bool:
    """Whether an aggregator is given the completions' lengths as its third argument."""
    return "lengths" in inspect.signature(function).parameters


def knobs_of(function: Callable[..., Array]) -> dict[str, Any]:
    """The keyword-only knobs of an aggregator with their defaults, `mask` excepted."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind == p.KEYWORD_ONLY and p.name != "mask"}


def suggest(name: str, known: Iterable[str]) -> str:
    """`name` with the nearest known one, for an error of one line."""
    choice = nearest(name, known)
    return f"{name!r}" if choice is None else f"{name!r}; did you mean {choice!r}?"
