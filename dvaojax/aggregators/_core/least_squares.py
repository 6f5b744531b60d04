"""A small quadratic programme over K objectives, solved exactly by enumerating all supports.

The minimum solves the linear equations of its support, the set of coordinates that are not 0. All
`2 ** K` supports are solved in one batch of static shape, and the solution that violates the
optimality conditions least is returned. Comparing the objective values instead would lose
precision, because they are flat around the minimum.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

MAX_SIZE = 10  # 1,024 supports


def least_quadratic(matrix: Array, linear: Array, allowed: Array) -> Array:
    """Returns the `x >= 0`, `[K]`, that minimises `x' matrix x / 2 - linear' x`.

    Args:
        matrix: `[K, K]`, symmetric and positive definite.
        linear: `[K]`.
        allowed: `[K]` bool, the coordinates that may differ from 0.

    Raises:
        ValueError: there are more than `MAX_SIZE` coordinates.
    """
    size = len(linear)
    if size > MAX_SIZE:
        raise ValueError(f"{size} objectives; at most {MAX_SIZE} are supported")
    supports = np.array(list(itertools.product([False, True], repeat=size)))
    identity = jnp.eye(size, dtype=matrix.dtype)
    systems = jnp.where(supports[:, :, None] & supports[:, None, :], matrix[None], 0)
    systems += jnp.where(supports[:, None, :], 0, identity[None])
    values = jnp.where(supports, linear[None, :], 0)
    solutions = jnp.linalg.solve(systems, values[..., None])[..., 0]
    slope = linear[None, :] - jnp.matmul(solutions, matrix, precision=jax.lax.Precision.HIGHEST)
    # At the minimum no coordinate is negative, and the value does not decrease along those at 0.
    off_allowed = jnp.where(supports, jnp.inf, 0)
    violation = jnp.where(allowed[None, :], jnp.where(supports, -solutions, slope), off_allowed)
    return solutions[jnp.argmin(jnp.max(violation, axis=-1, initial=0))]
