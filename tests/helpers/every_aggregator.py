"""What the tests of the aggregators share, so that little is compiled more than once.

Jitted, the aggregators are two functions, compiled once for each shape: those that the package
began with, and their relatives, which sit most of the exam in the slow tests. Eagerly, JAX compiles
each operation once for each shape: tests that need many variants use it, all on `[2, 5, 3]`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from slowness import slow_but

from dvaojax.aggregators import BY_NAME, needs_lengths
from dvaojax.aggregators.invariants.statements import FIRST

FAMILIES = {
    "first": tuple(FIRST),
    "relatives": tuple(name for name in BY_NAME if name not in FIRST),
}
FAMILY_OF = {name: family for family, names in FAMILIES.items() for name in names}


def examined(*names, without=()):
    """The names, or all, as parameters of a test; those of relatives as slow tests."""
    return slow_but(FIRST, [name for name in names or BY_NAME if name not in without])


def lengths_for(rewards):
    """Lengths `[..., G]` in tokens, all different within a group."""
    shape = jnp.shape(rewards)[:-1]
    return jnp.arange(1, 1 + int(np.prod(shape))).reshape(shape)


def call(function, rewards, weights, **kwargs):
    """The function with lengths where it wants them."""
    lengths = (lengths_for(rewards),) if needs_lengths(function) else ()
    return function(rewards, weights, *lengths, **kwargs)


@functools.partial(jax.jit, static_argnums=0)
def every(family, rewards, weights, mask):
    """Advantages by name, of one family."""
    return {name: call(BY_NAME[name], rewards, weights, mask=mask) for name in FAMILIES[family]}


def apply(name, rewards, weights, *, mask=None):
    """The advantages of one of them, jitted."""
    mask = np.ones(jnp.shape(rewards), bool) if mask is None else mask
    return every(FAMILY_OF[name], rewards, weights, mask)[name]
