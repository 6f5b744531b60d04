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

from dvaojax.aggregators import BY_NAME, further_arguments, needs_of

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
    """Whether the function takes a positive number per completion; lengths serve as norms."""
    return bool({"key", *further_arguments(function)} - {"key"})


def inputs_for(lengths):
    """Arguments of `update`, by name: completions of one token, with their lengths as norms."""
    norms = jnp.asarray(lengths, jnp.float32)
    tokens = {
        "token_gradient_weights": norms[..., None],
        "where": jnp.ones((*norms.shape, 1), bool),
    }
    return {"lengths": lengths, "gradient_weights": lengths, **tokens}


def updated(aggregator, rewards, mask, state, key, lengths, *, noise=0.0):
    """`update` with all that it needs: one advantage per completion, and the next state.

    Of each completion there are two scores, below and above the reward by the noise.
    """
    scores = jnp.stack([rewards - noise, rewards + noise], axis=-1)
    inputs = aggregator.inputs_among({**inputs_for(lengths), "scores": scores})
    advantages, state = aggregator.update(rewards, mask, state, key, **inputs)
    return (advantages[..., 0] if aggregator.is_per_token else advantages), state


def function_of(name):
    """The aggregator of rewards, with one advantage per completion.

    One that has advantages per token gets a single token, one of several scores a single score.
    """
    function = BY_NAME[name]
    if "scores" in needs_of(function):

        @functools.wraps(function)
        def with_one_score(rewards, weights, *, mask=None, **kwargs):
            scored = None if mask is None else jnp.asarray(mask)[..., None]
            return function(jnp.asarray(rewards)[..., None], weights, mask=scored, **kwargs)

        return with_one_score
    if "where" not in further_arguments(function):
        return function

    @functools.wraps(function)
    def with_one_token(rewards, weights, lengths, **kwargs):
        norms = jnp.asarray(lengths)[..., None]
        where = jnp.ones(norms.shape, bool)
        return function(rewards, weights, norms, where, **kwargs)[..., 0]

    return with_one_token


def call(function, rewards, weights, **kwargs):
    """Calls the function, with lengths if it takes them."""
    lengths = (lengths_for(rewards),) if takes_lengths(function) else ()
    return function(rewards, weights, *lengths, **kwargs)


@functools.partial(jax.jit, static_argnums=0)
def every(family, rewards, weights, mask):
    """Advantages of all aggregators of a family, by name."""
    return {name: call(function_of(name), rewards, weights, mask=mask) for name in FAMILIES[family]}


def apply(name, rewards, weights, *, mask=None):
    """Advantages of one aggregator, jitted together with its family."""
    mask = np.ones(jnp.shape(rewards), bool) if mask is None else mask
    return every(FAMILY_OF[name], rewards, weights, mask)[name]
