"""Shared compiled functions of the aggregator tests.

The aggregators are jitted as two functions, each compiled once per shape: a first family, and all
others, which most tests only run as slow tests. Without jit, JAX compiles each operation once per
shape; tests that need many variants do this, all on `[2, 5, 3]`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from slowness import slow_but

from dvaojax.aggregators import BY_NAME, third_argument

FIRST = (
    "dr_grpo",
    "rloo",
    "grpo",
    "reward_combination",
    "lite_ppo",
    "dvao",
    "advantage_combination",
    "gdpo",
    "gdpo_token_weighted",
    "rvpo",
    "rvpo_variance_penalty",
)
FAMILIES = {
    "first": FIRST,
    "others": tuple(name for name in BY_NAME if name not in FIRST),
}
FAMILY_OF = {name: family for family, names in FAMILIES.items() for name in names}


def examined(*names, without=()):
    """The names, or all names, as parameters of a test; those not in the first family are slow."""
    return slow_but(FIRST, [name for name in names or BY_NAME if name not in without])


def lengths_for(rewards):
    """Lengths `[..., G]` in tokens, all different."""
    shape = jnp.shape(rewards)[:-1]
    return jnp.arange(1, 1 + int(np.prod(shape))).reshape(shape)


def takes_lengths(function):
    """Whether the third argument is one positive number per completion; lengths serve as norms."""
    return third_argument(function) in ("lengths", "gradient_weights")


def call(function, rewards, weights, **kwargs):
    """Calls the function, with lengths if it takes them."""
    lengths = (lengths_for(rewards),) if takes_lengths(function) else ()
    return function(rewards, weights, *lengths, **kwargs)


@functools.partial(jax.jit, static_argnums=0)
def every(family, rewards, weights, mask):
    """Advantages of all aggregators of a family, by name."""
    return {name: call(BY_NAME[name], rewards, weights, mask=mask) for name in FAMILIES[family]}


def apply(name, rewards, weights, *, mask=None):
    """Advantages of one aggregator, jitted together with its family."""
    mask = np.ones(jnp.shape(rewards), bool) if mask is None else mask
    return every(FAMILY_OF[name], rewards, weights, mask)[name]
