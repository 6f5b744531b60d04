"""Scrambled Sobol points and Dirichlet draws from them, for averages with less noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammainc, gammaln, ndtri

_BITS = 30
_STEPS = 8  # of Newton's method for a quantile

# The direction numbers of Joe and Kuo (SIAM J. Sci. Comput. 2008) for dimensions 2 to 21: the
# polynomial's inner coefficients as bits, and the first odd numbers, as many as its degree.
_JOE_KUO = (
    (0, (1,)),
    (1, (1, 3)),
    (1, (1, 3, 1)),
    (2, (1, 1, 1)),
    (1, (1, 1, 3, 3)),
    (4, (1, 3, 5, 13)),
    (2, (1, 1, 5, 5, 17)),
    (4, (1, 1, 5, 5, 5)),
    (7, (1, 1, 7, 11, 19)),
    (11, (1, 1, 5, 1, 1)),
    (13, (1, 1, 1, 3, 11)),
    (14, (1, 3, 5, 5, 31)),
    (1, (1, 3, 3, 9, 7, 49)),
    (13, (1, 1, 1, 15, 21, 21)),
    (16, (1, 3, 1, 13, 27, 49)),
    (19, (1, 1, 1, 15, 7, 5)),
    (22, (1, 3, 1, 15, 13, 25)),
    (25, (1, 1, 5, 5, 19, 61)),
    (1, (1, 3, 7, 11, 23, 15, 103)),
    (4, (1, 3, 7, 13, 13, 15, 69)),
)

MOST_DIMENSIONS = 1 + len(_JOE_KUO)
"""The largest number of dimensions of a sequence."""


def _directions(dimension: int) -> list[int]:
    """The direction numbers of one dimension, counted from 0, as binary fractions."""
    if dimension == 0:
        return [1 << (_BITS - 1 - place) for place in range(_BITS)]
    coefficients, numbers = _JOE_KUO[dimension - 1]
    numbers, degree = list(numbers), len(numbers)
    while len(numbers) < _BITS:
        new = numbers[-degree] ^ (numbers[-degree] << degree)
        for i in range(1, degree):
            if coefficients >> (degree - 1 - i) & 1:
                new ^= numbers[-i] << i
        numbers.append(new)
    return [number << (_BITS - 1 - place) for place, number in enumerate(numbers)]


@functools.cache
def points(count: int, dimensions: int) -> np.ndarray:
    """`[S, d]` uint32, the first points without scrambling, as binary fractions of 30 digits.

    Raises:
        ValueError: there are more dimensions than `MOST_DIMENSIONS`.
    """
    if dimensions > MOST_DIMENSIONS:
        raise ValueError(
            f"{dimensions} dimensions; there are direction numbers for {MOST_DIMENSIONS}"
        )
    index = np.arange(count, dtype=np.uint32)
    gray = index ^ (index >> 1)
    values = np.zeros((count, dimensions), np.uint32)
    for column in range(dimensions):
        for place, direction in enumerate(_directions(column)):
            values[:, column] ^= np.where(gray >> np.uint32(place) & 1, direction, 0).astype(
                np.uint32
            )
    return values


def scrambled(key: Array, *, sequences: int, count: int, dimensions: int) -> Array:
    """Independent scrambles of the first Sobol points, as in Matousek (J. Complexity 1998).

    Every point is uniform on the cube; those of one sequence cover it more evenly than independent
    ones. Scrambling is linear in the binary digits, followed by a digital shift.

    Args:
        key: a random key, consumed.
        sequences: N, each with a scramble of its own.
        count: S, points of each sequence.
        dimensions: d.

    Returns:
        `[N, S, d]` float32, inside (0, 1).
    """
    rows_key, shift_key = jax.random.split(key)
    shape = (sequences, dimensions)
    rows = jax.random.bits(rows_key, (_BITS, *shape), jnp.uint32)
    shift = jax.random.bits(shift_key, shape, jnp.uint32) >> (32 - _BITS)
    unscrambled = jnp.asarray(points(count, dimensions))[None]

    def add_digit(digits: Array, place: Array) -> tuple[Array, None]:
        bit = jnp.uint32(1) << place
        higher = jnp.uint32((1 << _BITS) - 1) & ~((bit << 1) - 1)
        row = (rows[_BITS - 1 - place] & higher) | bit
        parity = jax.lax.population_count(unscrambled & row[:, None]) & 1
        return digits | (parity << place), None

    start = jnp.zeros((sequences, count, dimensions), jnp.uint32)
    digits, _ = jax.lax.scan(add_digit, start, jnp.arange(_BITS, dtype=jnp.uint32))
    uniform = ((digits ^ shift[:, None]).astype(jnp.float32) + 0.5) / 2**_BITS
    return jnp.clip(uniform, 2.0**-31, 1 - 2.0**-24)


def dirichlet(key: Array, alpha: Array, *, draws: int) -> Array:
    """Draws from Dirichlet distributions by the quantiles of gamma variables at Sobol points.

    Args:
        key: a random key, consumed.
        alpha: `[B, K]`, positive.
        draws: S.

    Returns:
        `[S, B, K]`, with sum 1 over the last axis; draws of different B are independent.
    """
    num_groups, num_objectives = alpha.shape
    uniform = scrambled(key, sequences=num_groups, count=draws, dimensions=num_objectives)
    uniform = jnp.swapaxes(uniform, 0, 1).astype(alpha.dtype)
    logarithms = jax.lax.cond(
        jnp.all(alpha == 1),
        lambda: jnp.log(-jnp.log1p(-uniform)),
        lambda: _log_gamma_quantile(uniform, alpha[None]),
    )
    return jax.nn.softmax(logarithms, axis=-1)


def _log_gamma_quantile(uniform: Array, alpha: Array) -> Array:
    """The logarithm of the gamma distribution's quantile function; shapes broadcast."""
    # From P(x) <= x^alpha / Gamma(alpha + 1), with equality in the limit of small x.
    least = (jnp.log(uniform) + gammaln(alpha + 1)) / alpha
    # The approximation of Wilson and Hilferty (PNAS 1931), for larger x.
    root = 1 - 1 / (9 * alpha) + ndtri(uniform) / (3 * jnp.sqrt(alpha))
    start = jnp.maximum(jnp.log(alpha * jnp.maximum(root, 0.1) ** 3), least)

    def improve(_: int, logarithm: Array) -> Array:
        # The logarithm of P is concave in that of x: after a step that is too short, all are.
        x = jnp.exp(logarithm)
        share = jnp.maximum(gammainc(jnp.broadcast_to(alpha, x.shape), x), 1e-37)
        slope = jnp.exp(alpha * logarithm - x - gammaln(alpha)) / share
        step = jnp.log(uniform / share) / jnp.maximum(slope, 1e-30)
        return jnp.maximum(logarithm + jnp.clip(step, -1, 1), least)

    improved = jax.lax.fori_loop(0, _STEPS, improve, start)
    return jnp.where(least < -12, least, improved)
