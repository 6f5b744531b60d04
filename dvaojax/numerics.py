"""Masked sums, means and deviations, checks of arguments, and all numerical guards and epsilons.

Padding may contain any value, including NaN and infinity. Masked values are therefore replaced
*before* any arithmetic: an infinity that a `where` removes only afterwards becomes NaN in the
gradient. Functions whose docstring gives no shapes are elementwise.
"""

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

VERL_EPSILON = 1e-6  # verl adds it to a group's standard deviation
TRL_EPSILON = 1e-4  # TRL adds it to a group's and to a batch's standard deviation
VERL_VARIANCE_EPSILON = 1e-8  # verl adds it to a batch's variance, under the root
SAW_EPSILON = 1e-8  # SAW adds it to a mean of the batch
MAX_EXPONENT = 20.0  # nats that log-ratios are clipped to, as in verl; float32 overflows at 88


class Mean(NamedTuple):
    """A (sum, count) pair: shards, micro-batches and hosts are added before the division.

    Attributes:
        total: scalar, or of any shape: the sum of the unmasked values.
        count: number of unmasked values, as a float, of the same shape.
    """

    total: Array
    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def value(self) -> Array:
        """The mean; 0 where the count is 0."""
        return safe_divide(self.total, self.count)


def real_array(name: str, values: ArrayLike) -> Array:
    """An argument of a public function as an array.

    Args:
        name: of the argument, for errors.
        values: `[...]` numbers or truth values.

    Raises:
        TypeError: they are anything else, such as complex numbers or a dictionary.
    """
    if isinstance(values, Mapping):
        raise TypeError(
            f"{name} is a dictionary, not an array: aggregators.named_weights(weights, objectives) "
            "puts weights into the order of the objectives"
        )
    try:
        array = jnp.asarray(values)
    except (TypeError, ValueError) as error:
        kind = f"{type(values).__name__} of {getattr(values, 'dtype', 'other values')}"
        raise TypeError(f"{name} is a {kind}, not an array of numbers") from error
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{name} is {array.dtype}; it should be real")
    return array


def require_shape(
    name: str, array: ArrayLike, expected: Sequence[int], *, axes: str, like: str
) -> None:
    """Asserts the shape of an argument of a public function.

    Args:
        name: of the argument.
        array: its value, of any shape.
        expected: the sizes of its axes.
        axes: their letters, such as "[..., G, K]".
        like: the argument that the sizes are from.

    Raises:
        AssertionError: the shape is another one; the line names the argument, its shape, the
            expected one, and an argument whose groups are not an axis of their own.
    """
    shape, expected = np.shape(array), tuple(expected)
    hint = ""
    if math.prod(shape) == math.prod(expected) and abs(len(shape) - len(expected)) == 1:
        letters = axes.strip("[]").replace("...", "B").split(", ")
        flat = ", ".join(["*".join(letters[:2]), *letters[2:]])
        which = name if len(shape) < len(expected) else like
        hint = f"; {which} is flat [{flat}]: reshape to [{', '.join(letters)}]"
    with _saying(
        f"{name} has shape {list(shape)}; {axes} should be {list(expected)}, as in {like}{hint}"
    ):
        chex.assert_shape(array, expected)


def require_axes(name: str, array: ArrayLike, counts: Collection[int], *, axes: str) -> None:
    """Asserts the number of axes of an argument of a public function.

    Args:
        name: of the argument.
        array: its value, of any shape.
        counts: the numbers of axes that it may have.
        axes: their letters, such as "[..., G, K]".

    Raises:
        AssertionError: it has another number of axes.
    """
    with _saying(f"{name} has shape {list(np.shape(array))}; it should be {axes}"):
        chex.assert_rank(array, set(counts))


@contextlib.contextmanager
def _saying(message: str) -> Iterator[None]:
    """Replaces the message of a failed assertion."""
    try:
        yield
    except AssertionError:
        raise AssertionError(message) from None


def with_automatic_axes(
    function: Callable[..., Array], first: Array, *others: Array, axes: slice = slice(None)
) -> Array:
    """`function(first, *others)`, where the axes of a mesh are explicit as where they are not.

    For functions that JAX does not partition by explicit axes: products of sharded arrays with
    arrays of which each device has all, and the logarithm of the gamma function.

    Args:
        function: returns one array.
        first: `[...]` its first argument, whose sharding the result has.
        others: `[...]` its other arguments.
        axes: the axes of `first` that are those of the result.
    """
    sharding = jax.typeof(first).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return function(first, *others)
    output_sharding = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[axes]))
    # Given a function it returns a function; the types also know its form without one.
    return cast(Callable, jax.sharding.auto_axes(function, out_sharding=output_sharding))(
        first, *others
    )


def safe_divide(numerator: Array, denominator: Array) -> Array:
    """`numerator / denominator`, or exactly 0 with gradient 0 where the denominator is 0."""
    is_zero = denominator == 0
    return jnp.where(is_zero, 0, numerator / jnp.where(is_zero, 1, denominator))


def masked_sum(values: Array, where: Array, *, axis: int | tuple[int, ...] | None = None) -> Array:
    """Sum of `values` where `where` is true; NaN and infinity elsewhere affect neither the sum nor
    its gradient. `where` has the shape of `values`."""
    return jnp.sum(jnp.where(where, values, 0), axis=axis)


def masked_mean(values: Array, where: Array) -> Mean:
    """Mean of `values` over all axes where `where` is true, as a (sum, count) pair."""
    return Mean(masked_sum(values, where), jnp.sum(where, dtype=values.dtype))


class Moments(NamedTuple):
    """Mean, standard deviation and centred values of a group; only unmasked values count.

    Attributes:
        count: scalar, number of values, as a float.
        pivot: scalar near the mean, between the smallest and the largest value; 0 without values.
        offset: scalar, mean minus pivot; kept apart because their sum would round off digits.
        centred: `[N]` each value minus the mean; exactly 0 where masked, and everywhere if all
            values are equal.
        deviation: scalar, the standard deviation; exactly 0 if all values are equal.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    pivot: Array
    offset: Array
    centred: Array
    deviation: Array

    @property
    def mean(self) -> Array:
        """Mean of the values; 0 without values."""
        return self.pivot + self.offset


def moments(values: Array, where: Array, *, ddof: int = 0) -> Moments:
    """Computes mean, standard deviation and centred values where `where` is true.

    The corrected two-pass algorithm (Chan, Golub and LeVeque, The American Statistician 1983):
    subtract a first mean, then take the moments of the differences. The first mean is clipped to
    the range of the values, so that equal values give exactly 0 however their sum rounds. Squares
    are computed in units of the range, so that they neither overflow nor underflow. A range below
    the smallest normal number is treated as 0.

    Args:
        values: `[N]` float32 or float64; any value, including NaN, where `where` is false.
        where: `[N]` bool.
        ddof: subtracted from the count in the variance: 0 for the population's standard deviation
            (NumPy's default), 1 for the sample's (PyTorch's default).

    Raises:
        ValueError: `ddof` is neither 0 nor 1.
    """
    require_ddof(ddof)
    # The results do not depend on the pivot and the span, so no gradient flows through them.
    count, total, low, high = _extent(jax.lax.stop_gradient(values), where)
    pivot = jnp.where(count > 0, jnp.clip(safe_divide(total, count), low, high), 0)
    span = jnp.where(high - low >= jnp.finfo(values.dtype).tiny, high - low, 1)

    shifted = jnp.where(where, values - pivot, 0)
    first, second = _sum_and_sum_of_squares(shifted * (1 / span))
    mean = safe_divide(first, count)
    variance = jnp.maximum(second - mean * first, 0) / jnp.maximum(count - ddof, 1)
    return Moments(
        count=count,
        pivot=pivot,
        offset=mean * span,
        centred=jnp.where(where, shifted - mean * span, 0),
        deviation=span * safe_sqrt(variance),
    )


def require_ddof(ddof: int) -> None:
    """Raises `ValueError` unless `ddof` is 0 or 1."""
    if ddof not in (0, 1):
        raise ValueError(f"ddof must be 0 (population) or 1 (sample), not {ddof!r}")


def require_range(
    *, least: float = -math.inf, most: float = math.inf, **knobs: ArrayLike | Sequence[float]
) -> None:
    """Raises `ValueError` unless every knob, or each element of it, is in [least, most].

    Values that are traced by jit or grad are not checked.
    """
    for name, value in knobs.items():
        if isinstance(value, Tracer):
            continue
        numbers = np.asarray(value)
        if not np.all((numbers >= least) & (numbers <= most)):
            raise ValueError(f"{name}={value} must lie in [{least:g}, {most:g}]")


def safe_sqrt(x: Array) -> Array:
    """Square root, with gradient 0 instead of infinity at 0."""
    is_zero = x == 0
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, x)))


def safe_power(base: Array, exponent: ArrayLike) -> Array:
    """`base ** exponent` where the base is positive; elsewhere 0 (1 if the exponent is 0), with
    gradient 0."""
    is_positive = base > 0
    power = jnp.power(jnp.where(is_positive, base, 1), exponent)
    return jnp.where(is_positive, power, jnp.asarray(exponent == 0, base.dtype))


def standardise(centred: Array, denominator: Array, *, deviation: Array, scale: Array) -> Array:
    """`centred / denominator`, or exactly 0 where `deviation` is only rounding error.

    A sum of terms that cancel is rounding error of the size of the terms; dividing by it would turn
    noise into advantages. Where more than half the digits of the terms have cancelled, the rest is
    treated as rounding error: `deviation <= sqrt(machine epsilon) * scale`, that is 3.5e-4 times
    the scale in float32 and 1.5e-8 in float64.

    Args:
        centred: `[...]`, the numerator.
        denominator: `[...]` or broadcastable to it, as the following: `deviation` plus the epsilons
            of a method.
        deviation: `[...]`, the standard deviation of `centred`.
        scale: `[...]`, the size of the terms that `centred` is the sum of.

    Returns:
        `[...]`.
    """
    is_rounding = deviation <= jnp.finfo(deviation.dtype).eps ** 0.5 * scale
    return safe_divide(centred, jnp.where(is_rounding, 0, denominator))


def _extent(values: Array, where: Array) -> tuple[Array, ...]:
    """Count, sum, minimum and maximum of the unmasked values `[N]`."""
    return _reduce_together(
        _combine_extents,
        (where.astype(values.dtype), 0.0),
        (jnp.where(where, values, 0), 0.0),
        (jnp.where(where, values, jnp.inf), jnp.inf),
        (jnp.where(where, values, -jnp.inf), -jnp.inf),
    )


def _sum_and_sum_of_squares(values: Array) -> tuple[Array, ...]:
    """Sum and sum of squares over `[N]`."""
    return _reduce_together(_combine_sums, (values, 0.0), (values * values, 0.0))


# Named functions, because JAX caches a compiled reduction by the identity of its function.
def _combine_extents(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    # Comparisons are faster than minimum and maximum, which propagate NaN.
    low = jax.lax.select(b[2] < a[2], b[2], a[2])
    high = jax.lax.select(b[3] > a[3], b[3], a[3])
    return a[0] + b[0], a[1] + b[1], low, high


def _combine_sums(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return a[0] + b[0], a[1] + b[1]


def _reduce_together(combine: Callable, *operands: tuple[Array, float]) -> tuple[Array, ...]:
    """Several reductions over the first axis in one loop; separate loops over a strided axis take
    several times as long on a CPU.

    Args:
        combine: combines two tuples of partial results.
        operands: pairs of the values and the initial value of their reduction.
    """
    values = tuple(x for x, _ in operands)
    initial = tuple(jnp.asarray(start, x.dtype) for x, start in operands)
    # The barrier keeps XLA from splitting the loop if a caller does not use all results.
    return tuple(jax.lax.optimization_barrier(jax.lax.reduce(values, initial, combine, (0,))))
