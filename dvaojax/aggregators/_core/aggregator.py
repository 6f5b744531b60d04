"""What the trainer takes: an aggregator as a pair of pure functions, in optax's manner."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax.errors import UserError, nearest

State = Any  # a pytree of arrays, checkpointed with the run

# A knob with one number for all objectives, or one for each in their order. In a run's settings
# `knob=value` sets all of them and `knob.objective=value` one.
PerObjective = float | Sequence[float]


class Init(Protocol):
    """The number of objectives to the state before the first step.

    Args:
        num_objectives: K.

    Raises:
        UserError: the aggregator has another number of weights.
    """

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


class Step(Protocol):
    """One step of an aggregator with memory as a pure function; see `stateful`.

    Args:
        rewards: `[..., G, K]`.
        weights: `[K]`.
        state: what the last step returned.
        mask: `[..., G, K]` bool, or None, as in `Update`.

    Returns:
        Advantages `[..., G]` and the next state.
    """

    def __call__(
        self, rewards: Array, weights: Array, state: State, /, *, mask: Array | None
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
            has a parameter `lengths` or `key` is given that as third argument.
        weights: `[K]`, in the order of the objectives (`named_weights`).
        knobs: passed on to the function at each step.

    Raises:
        UserError: at `init`, another number of objectives than of weights.
        ValueError: at `update`, lengths or a key are missing that the function needs.
        AssertionError: the weights have not one axis.
    """
    weights = jnp.asarray(weights)
    third = "lengths" if needs_lengths(function) else "key" if needs_key(function) else ""

    def update(
        rewards: Array,
        mask: Array | None,
        state: State,
        key: Array | None,
        /,
        *,
        lengths: Array | None = None,
    ) -> tuple[Array, State]:
        if not third:
            return function(rewards, weights, mask=mask, **knobs), state
        given = {"lengths": lengths, "key": key}[third]
        if given is None:
            what = {"lengths": "the lengths of the completions", "key": "a random key"}[third]
            raise ValueError(f"{function.__name__} needs {what}")
        return function(rewards, weights, given, mask=mask, **knobs), state

    return Aggregator(_init(weights, lambda weights: ()), update)


def stateful(begin: Callable[[Array], State], step: Step, *, weights: ArrayLike) -> Aggregator:
    """An aggregator with memory from two pure functions; it draws nothing.

    Args:
        begin: the weights `[K]`, floats, to the state before the first step.
        step: `step(rewards, weights, state, *, mask)` to advantages and the next state. Its state
            has floats of the type that advantages are computed in; what it returns as a state is
            brought back to the types that `begin` gave it, so that a step is compiled once and a
            checkpoint fits.
        weights: `[K]`, in the order of the objectives (`named_weights`).

    Raises:
        UserError: at `init`, another number of objectives than of weights.
        AssertionError: the weights have not one axis.
    """
    weights = jnp.asarray(weights)
    weights = weights.astype(_float_of(weights))

    def update(
        rewards: Array,
        mask: Array | None,
        state: State,
        key: Array | None,
        /,
        *,
        lengths: Array | None = None,
    ) -> tuple[Array, State]:
        del key, lengths
        computed = _float_of(rewards)
        before = jax.tree.map(
            lambda a: a.astype(computed) if jnp.issubdtype(a.dtype, jnp.floating) else a, state
        )
        advantages, after = step(rewards, weights, before, mask=mask)
        return advantages, jax.tree.map(lambda new, old: new.astype(old.dtype), after, state)

    return Aggregator(_init(weights, begin), update)


def _float_of(array: ArrayLike) -> Any:
    """The type that an array is computed in: float32, or float64 where it is that."""
    return jnp.float64 if jnp.asarray(array).dtype == jnp.float64 else jnp.float32


def _init(weights: Array, begin: Callable[[Array], State]) -> Init:
    """An `init` that holds the number of objectives against the weights first."""
    chex.assert_rank(weights, 1)

    def init(num_objectives: int, /) -> State:
        if weights.shape != (num_objectives,):
            raise UserError(f"{len(weights)} weights for {num_objectives} objectives")
        return begin(weights)

    return init


def per_objective(value: PerObjective, like: Array) -> Array:
    """A knob as `[K]`, of the type of `like` `[K]`.

    Raises:
        ValueError: it is neither one number nor as many as there are objectives.
    """
    values = jnp.asarray(value, like.dtype)
    if values.shape not in ((), like.shape):
        raise ValueError(f"{values.shape} values of a knob for {len(like)} objectives")
    return jnp.broadcast_to(values, like.shape)


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


def needs_lengths(function: Callable[..., Any]) -> bool:
    """Whether an aggregator is given the completions' lengths as its third argument."""
    return "lengths" in inspect.signature(function).parameters


def needs_key(function: Callable[..., Any]) -> bool:
    """Whether an aggregator is given a random key as its third argument."""
    return "key" in inspect.signature(function).parameters


def knobs_of(method: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only knobs of a function or factory with their defaults, `mask` excepted."""
    parameters = inspect.signature(method).parameters.values()
    return {p.name: p.default for p in parameters if p.kind == p.KEYWORD_ONLY and p.name != "mask"}


def knobs_per_objective(method: Callable[..., Any]) -> frozenset[str]:
    """The knobs of a function or factory that may have one number for each objective."""
    parameters = inspect.signature(method).parameters.values()
    return frozenset(p.name for p in parameters if p.annotation == PerObjective)


def suggest(name: str, known: Iterable[str]) -> str:
    """`name` with the nearest known one, for an error of one line."""
    choice = nearest(name, known)
    return f"{name!r}" if choice is None else f"{name!r}; did you mean {choice!r}?"
