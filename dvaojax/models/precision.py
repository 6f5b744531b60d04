"""Which float the delicate parts of a model are computed in."""

import jax.numpy as jnp
import numpy as np


def accumulator(dtype: np.dtype) -> np.dtype:
    """The float that values of `dtype` are summed, normed and turned in: float32, or wider if they
    are."""
    return np.dtype(dtype if jnp.finfo(dtype).bits > 32 else jnp.float32)
