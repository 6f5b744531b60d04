"""Masked sums, means and deviations; every guard and epsilon of the package stands here.

Padding may hold anything, NaN and infinity included. A value that does not count is therefore
replaced *before* it enters any arithmetic: an infinity that a `where` hides afterwards comes back
as NaN in the gradient. What names no shape is elementwise.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

VERL_EPSILON = 1e-6  # verl adds it to a group's standard deviation
TRL_EPSILON = 1e-4  # TRL adds it to a group's and to a batch's standard deviation
VERL_VARIANCE_EPSILON = 1e-8  # verl adds it to a batch's variance, under the root
SAW_EPSILON = 1e-8  # SAW adds it to a mean of the batch
MAX_EXPONENT = 20.0  # nats where exponents of log-ratios end, as in verl; float32 overflows at 88


class Mean(NamedTuple):
    """A mean in two halves, so that shards, micro-batches and hosts can be added before dividing.

    Attributes:
        total: scalar, or of any shape: the sum of what counts.
        count: how much of it counts, as a float, of the same shape.
    """

    total: Array
    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def value(self) -> Array:
        """The mean; 0 where nothing counts."""
        return safe_divide(self.total, self.count)


def safe_divide(numerator: Array, denominator: Array) -> Array:
    """`numerator / denominator`, and exactly 0 with zero gradient where the denominator is 0."""
    is_zero = denominator == 0
    return jnp.where(is_zero, 0, numerator / jnp.where(is_zero, 1, denominator))


def masked_sum(values: Array, where: Array, *, axis: int | tuple[int, ...] | None = None) -> Array:
    """Sum of `values` where `where` is true; NaN and infinity elsewhere do not leak, nor do their
    gradients. `where` has the shape of `values`."""
    return jnp.sum(jnp.where(where, values, 0), axis=axis)


def masked_mean(values: Array, where: Array) -> Mean:
    """Mean of `values` over all axes where `where` is true, kept as sum and count."""
    return Mean(masked_sum(values, where), jnp.sum(where, dtype=values.dtype))


class Moments(NamedTuple):
    """What a group's values have in common, and what is left of each.

    Attributes:
        count: scalar, how many values count, as a float.
        pivot: scalar, near their mean, between the smallest and the largest; 0 where none counts.
        offset: scalar, from the pivot to their mean; apart, the two keep digits that a sum would
            round off.
        centred: `[N]` each value minus the mean; exactly 0 where it does not count, and everywhere
            if those that count are equal.
        deviation: scalar, their standard deviation; exactly 0 if they are equal.
    """

    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    pivot: Array
    offset: Array
    centred: Array
    deviation: Array

    @property
    def mean(self) -> Array:
        """Their mean; 0 where none counts."""
        return self.pivot + self.offset


def moments(values: Array, where: Array, *, ddof: int = 0) -> Moments:
    """Mean, differences from it and standard deviation of the values where `where` is true.

    The corrected two-pass algorithm (Chan, Golub and LeVeque, The American Statistician 1983):
    subtract a first mean, then take the moments of what is left. The first mean is held between the
    smallest and the largest value, so that equal values leave exactly 0 however their sum rounds;
    squares are taken on the scale of the range, so that they neither overflow nor vanish. A range
    below the smallest normal number counts as none.

    Args:
        values: `[N]` float32 or float64; anything, NaN included, where `where` is false.
        where: `[N]` bool.
        ddof: what is subtracted from the count in the variance: 0 for the population's standard
            deviation (NumPy's default), 1 for the sample's (PyTorch's default).

    Raises:
        ValueError: `ddof` is neither 0 nor 1.
    """
    require_ddof(ddof)
    # The results depend neither on the pivot nor on the span: no gradient passes through them.
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
    """Raise `ValueError` unless `ddof` is 0 or 1."""
    if ddof not in (0, 1):
        raise ValueError(f"ddof is 0 (population) or 1 (sample), not {ddof!r}")


def require_range(
    *, least: float = -math.inf, most: float = math.inf, **knobs: ArrayLike | Sequence[float]
) -> None:
    """Raise `ValueError` unless every knob, or each number of it, lies in [least, most].

    What jit or grad traces is not looked at.
    """
    for name, value in knobs.items():
        if isinstance(value, Tracer):
            continue
        numbers = np.asarray(value)
        if not np.all((numbers >= least) & (numbers <= most)):
            raise ValueError(f"{name}={value} must lie in [{least:g}, {most:g}]")


def safe_sqrt(x: Array) -> Array:
    """The square root, with gradient 0 instead of infinity at 0."""
    is_zero = x == 0
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, x)))


def safe_power(base: Array, exponent: ArrayLike) -> Array:
    """`base ** exponent` where the base is positive; elsewhere 0, or 1 if the exponent is 0, with
    gradient 0."""
    is_positive = base > 0
    power = jnp.power(jnp.where(is_positive, base, 1), exponent)
    return jnp.where(is_positive, power, jnp.asarray(exponent == 0, base.dtype))


def standardise(centred: Array, denominator: Array, *, deviation: Array, scale: Array) -> Array:
    """`centred / denominator`, and exactly 0 where `deviation` is nothing but rounding.

    Terms that cancel leave rounding of their own size, and a division by it would make advantages
    out of noise. Where more than half the digits of the terms have cancelled, the rest is taken for
    rounding: `deviation <= sqrt(machine epsilon) * scale`, 3.5e-4 in float32, 1.5e-8 in float64.

    Args:
        centred: `[...]`, what to divide.
        denominator: `[...]`, or what broadcasts to it, as the others: `deviation` and the epsilons
            that a method adds to it.
        deviation: `[...]`, the standard deviation of `centred`.
        scale: `[...]`, the size of the terms that `centred` is the sum of.

    Returns:
        `[...]`.
    """
    is_rounding = deviation <= jnp.finfo(deviation.dtype).eps ** 0.5 * scale
    return safe_divide(centred, jnp.where(is_rounding, 0, denominator))


def _extent(values: Array, where: Array) -> tuple[Array, ...]:
    """Count, sum, smallest and largest of the values `[N]` that count."""
    return _reduce_together(
        _combine_extents,
        (where.astype(values.dtype), 0.0),
        (jnp.where(where, values, 0), 0.0),
        (jnp.where(where, values, jnp.inf), jnp.inf),
        (jnp.where(where, values, -jnp.inf), -jnp.inf),
    )


def _sum_and_sum_of_squares(values: Array) -> tuple[Array, ...]:
    """Both sums over `[N]`."""
    return _reduce_together(_combine_sums, (values, 0.0), (values * values, 0.0))


# Named functions, for JAX keeps what it compiled for a reduction by the identity of its function.
def _combine_extents(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    # Comparisons rather than minimum and maximum, which take longer because they look for NaN.
    low = jax.lax.select(b[2] < a[2], b[2], a[2])
    high = jax.lax.select(b[3] > a[3], b[3], a[3])
    return a[0] + b[0], a[1] + b[1], low, high


def _combine_sums(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return a[0] + b[0], a[1] + b[1]


def _reduce_together(combine: Callable, *operands: tuple[Array, float]) -> tuple[Array, ...]:
    """Several reductions over the first axis in one loop; one after the other, XLA's loops over a
    strided axis cost several times as much on the CPU.

    Args:
        combine: two tuples of partial results to one.
        operands: values with the value that a reduction over nothing has.
    """
    values = tuple(x for x, _ in operands)
    initial = tuple(jnp.asarray(start, x.dtype) for x, start in operands)
    # The barrier keeps the loop in one piece where a caller drops one of its results.
    return tuple(jax.lax.optimization_barrier(jax.lax.reduce(values, initial, combine, (0,))))
