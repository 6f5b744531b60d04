"""A small quadratic programme over K objectives, solved exactly by trying every support.

Its minimum solves the linear equations of those coordinates that are not 0. There are `2 ** K` such
sets; all are solved in one batch of shapes that are known at compile time, and the solution that
violates the conditions of a minimum least is taken. Unlike a comparison of the values, which are
flat around the minimum, that keeps all digits.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

MAX_SIZE = 10  # 1,024 supports


def least_quadratic(matrix: Array, linear: Array, allowed: Array) -> Array:
    """`[K]` the `x >= 0` that minimises `x' matrix x / 2 - linear' x`.

    Args:
        matrix: `[K, K]`, symmetric and positive definite.
        linear: `[K]`.
        allowed: `[K]` bool, which coordinates may differ from 0.

    Raises:
        ValueError: there are more than `MAX_SIZE` coordinates.
    """
    size = len(linear)
    if size > MAX_SIZE:
        raise ValueError(f"{size} objectives are more than the {MAX_SIZE} that can be enumerated")
    supports = np.array(list(itertools.product([False, True], repeat=size)))
    identity = jnp.eye(size, dtype=matrix.dtype)
    systems = jnp.where(supports[:, :, None] & supports[:, None, :], matrix[None], 0)
    systems += jnp.where(supports[:, None, :], 0, identity[None])
    values = jnp.where(supports, linear[None, :], 0)
    solutions = jnp.linalg.solve(systems, values[..., None])[..., 0]
    slope = linear[None, :] - jnp.matmul(solutions, matrix, precision=jax.lax.Precision.HIGHEST)
    # A minimum has no negative coordinate, and no slope down along one that is 0.
    off_allowed = jnp.where(supports, jnp.inf, 0)
    lack = jnp.where(allowed[None, :], jnp.where(supports, -solutions, slope), off_allowed)
    return solutions[jnp.argmin(jnp.max(lack, axis=-1, initial=0))]
