"""The interface of the trainer: an aggregator as a pair of pure functions, as in optax."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics, options
from dvaojax.errors import UserError, suggest
from dvaojax.options import PerObjective as PerObjective
from dvaojax.options import knobs_per_objective as knobs_per_objective

_FURTHER_ARGUMENTS = {
    "lengths": "the lengths of the completions",
    "key": "a random key",
    "gradient_weights": "the squared gradient norms of the completions, which `dvaojax train` "
    "computes",
    "token_gradient_weights": "the squared gradient norms of the tokens, which `dvaojax train` "
    "computes",
    "where": "which tokens were sampled",
}
_SCORES = "several scores of each completion, which `dvaojax train` has with rewards.repeats"
NORMS = ("gradient_weights", "token_gradient_weights")
"""Inputs that take a further pass over the completions."""

State = Any  # a pytree of arrays, checkpointed with the run


class Init(Protocol):
    """Maps the number of objectives to the initial state.

    Args:
        num_objectives: K.

    Raises:
        UserError: the number of weights is another one.
    """

    def __call__(self, num_objectives: int, /) -> State: ...


class Update(Protocol):
    """Maps the rewards of one step to its advantages.

    Args:
        rewards: `[..., G, K]`.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored; None
            if all were scored.
        state: returned by `init` or by the previous `update`.
        key: a random key, consumed; deterministic methods ignore it.
        lengths: `[..., G]` tokens of each completion, for methods that weight by length.
        gradient_weights: `[..., G]` squared norms of the gradients of the completions'
            log-probabilities, for methods that need them (`Aggregator.needs`).
        token_gradient_weights: `[..., G, T]` those of the tokens' log-probabilities, likewise.
        where: `[..., G, T]` bool, true on sampled tokens, for methods with an advantage per token.
        scores: `[..., G, K, M]`, several scores of each completion, whose means are the rewards;
            NaN where there is none.

    Returns:
        Advantages `[..., G]`, or `[..., G, T]` if `Aggregator.is_per_token`, and the next state.
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
        gradient_weights: Array | None = None,
        token_gradient_weights: Array | None = None,
        where: Array | None = None,
        scores: Array | None = None,
    ) -> tuple[Array, State]: ...


class Step(Protocol):
    """One step of a stateful aggregator as a pure function; see `stateful`.

    Args:
        rewards: `[..., G, K]`.
        weights: `[K]`.
        state: returned by the previous step.
        mask: `[..., G, K]` bool, or None, as in `Update`.

    Returns:
        Advantages `[..., G]` and the next state.
    """

    def __call__(
        self, rewards: Array, weights: Array, state: State, /, *, mask: Array | None
    ) -> tuple[Array, State]: ...


class Aggregator(NamedTuple):
    """An advantage aggregator.

    Schedules, running statistics and random weights are in the state, which is checkpointed.

    Attributes:
        init: the state before the first step.
        update: rewards to advantages.
        needs: keyword arguments of `update` that it cannot do without, except for the lengths,
            which every trainer has.

    Not to be confused with: the aggregators of `optax.experimental`, which aggregate gradients.
    """

    init: Init
    update: Update
    needs: tuple[str, ...] = ()

    @property
    def is_per_token(self) -> bool:
        """Whether each token has its own advantage, `[..., G, T]`."""
        return "where" in self.needs

    def inputs_among(self, available: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword arguments of `update`, from all that a trainer has."""
        return {name: available[name] for name in ("lengths", *self.needs) if name in available}


def stateless(function: Callable[..., Array], *, weights: ArrayLike, **knobs: Any) -> Aggregator:
    """A stateless aggregator from a pure function; its state is the empty tuple.

    Args:
        function: one of this package, or any `function(rewards, weights, *, mask, ...)`. Its
            `further_arguments` are passed after the weights. If its first parameter is called
            `scores`, it gets these, `[..., G, K, M]`, in place of the rewards.
        weights: `[K]`, in the order of the objectives (`named_weights`).
        knobs: keyword arguments of the function.

    Raises:
        UserError: at `init`, the numbers of objectives and weights differ.
        ValueError: at `update`, the function needs a further argument, which is missing.
        AssertionError: the weights do not have exactly one axis.
    """
    weights = numerics.real_array("weights", weights)
    names, takes_scores = further_arguments(function), "scores" in needs_of(function)

    def update(
        rewards: Array,
        mask: Array | None,
        state: State,
        key: Array | None,
        /,
        **inputs: Array | None,
    ) -> tuple[Array, State]:
        given = {"key": key, **inputs}
        for name in names:
            if given.get(name) is None:
                raise ValueError(f"{function.__name__} needs {_FURTHER_ARGUMENTS[name]}")
        further = [given[name] for name in names]
        if takes_scores:
            rewards, mask = _scores_and_mask(function.__name__, given.get("scores"), mask)
        return function(rewards, weights, *further, mask=mask, **knobs), state

    return Aggregator(_init(weights, lambda weights: ()), update, needs_of(function))


def _scores_and_mask(name: str, scores: Array | None, mask: Array | None) -> tuple[Array, Array]:
    """Scores `[..., G, K, M]` without NaN, and where there are scores of unmasked rewards."""
    if scores is None:
        raise ValueError(f"{name} needs {_SCORES}")
    where = jnp.isfinite(scores)
    scored = where if mask is None else where & mask[..., None]
    return jnp.where(where, scores, 0), scored


def stateful(begin: Callable[[Array], State], step: Step, *, weights: ArrayLike) -> Aggregator:
    """A stateful, deterministic aggregator from two pure functions.

    Args:
        begin: maps the weights `[K]`, floats, to the initial state.
        step: maps `(rewards, weights, state, *, mask)` to advantages and the next state. The
            floats of the state are converted to the type in which advantages are computed before
            the step, and back to the types of the initial state after it, so that a step is
            compiled only once and checkpoints fit.
        weights: `[K]`, in the order of the objectives (`named_weights`).

    Raises:
        UserError: at `init`, the numbers of objectives and weights differ.
        AssertionError: the weights do not have exactly one axis.
    """
    weights = numerics.real_array("weights", weights)
    weights = weights.astype(_float_of(weights))

    def update(
        rewards: Array,
        mask: Array | None,
        state: State,
        key: Array | None,
        /,
        **inputs: Array | None,
    ) -> tuple[Array, State]:
        del key, inputs
        computed = _float_of(rewards)
        before = jax.tree.map(
            lambda a: a.astype(computed) if jnp.issubdtype(a.dtype, jnp.floating) else a, state
        )
        advantages, after = step(rewards, weights, before, mask=mask)
        return advantages, jax.tree.map(lambda new, old: new.astype(old.dtype), after, state)

    return Aggregator(_init(weights, begin), update)


def _float_of(array: ArrayLike) -> Any:
    """The type for computations with an array: float64 for float64, float32 otherwise."""
    return jnp.float64 if jnp.asarray(array).dtype == jnp.float64 else jnp.float32


def _init(weights: Array, begin: Callable[[Array], State]) -> Init:
    """An `init` that first compares the number of objectives with that of the weights."""
    numerics.require_axes("weights", weights, (1,), axes="[K]")

    def init(num_objectives: int, /) -> State:
        if weights.shape != (num_objectives,):
            raise UserError(f"{len(weights)} weights for {num_objectives} objectives")
        return begin(weights)

    return init


def per_objective(value: PerObjective, like: Array) -> Array:
    """A knob as `[K]`, of the type of `like` `[K]`.

    Raises:
        ValueError: it is neither one number nor one for each objective.
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
            raise UserError(f"weight for an unknown objective {suggest(name, objectives)}")
    missing = [name for name in objectives if name not in weights]
    if missing:
        raise UserError(f"no weight for {', '.join(missing)}")
    return jnp.asarray([weights[name] for name in objectives], jnp.float32)


def needs_lengths(function: Callable[..., Any]) -> bool:
    """Whether an aggregator takes the lengths of the completions."""
    return "lengths" in inspect.signature(function).parameters


def needs_key(function: Callable[..., Any]) -> bool:
    """Whether an aggregator takes a random key."""
    return "key" in inspect.signature(function).parameters


def further_arguments(function: Callable[..., Any]) -> tuple[str, ...]:
    """The arguments of an aggregator after rewards and weights, by name and in their order.

    They are "lengths", "key", "gradient_weights", "token_gradient_weights" and "where", as in
    `Update`. A function with "where" returns an advantage for each token.
    """
    parameters = inspect.signature(function).parameters.values()
    positional = (p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY)
    return tuple(name for name in positional if name in _FURTHER_ARGUMENTS)


def needs_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """`Aggregator.needs` of a function.

    They are its further arguments but for lengths and a random key, and "scores" if this is its
    first parameter.
    """
    first = next(iter(inspect.signature(function).parameters), "")
    further = (name for name in further_arguments(function) if name not in ("lengths", "key"))
    return (*further, *(("scores",) if first == "scores" else ()))


def is_factory(method: Callable[..., Any]) -> bool:
    """Whether a method is a factory of a stateful `Aggregator`: its first parameter is `weights`.

    The first parameter of any other method is `rewards`, or `scores` (see `stateless`).
    """
    return next(iter(inspect.signature(method).parameters), "") == "weights"


def knobs_of(method: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only knobs of a function or factory with their defaults, `mask` excepted."""
    return options.knobs_of(method, without=("mask",))
