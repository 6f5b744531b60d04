"""Turns of an episode as segments of one completion.

An episode of several turns is one row of tokens: the policy's words, a tool's answer, the policy's
again. `turns` says of each token in which turn the policy sampled it, and -1 of what it did not
sample: tool output and padding. `Experience.completion_mask` is `turns >= 0`, so that tool output
is read by attention and stays out of the loss.
"""

import chex
import jax.numpy as jnp
from jax import Array


def advantages_of_tokens(advantages: Array, turns: Array) -> Array:
    """Each token's advantage: that of its turn.

    Args:
        advantages: `[B, G, S]`, one for each turn, as `aggregators.ms_grpo` or `gtpo` gives them.
        turns: `[B, G, T]` int32, from 0 to S - 1, or -1 on tokens that the policy did not sample.

    Returns:
        `[B, G, T]`; 0 on tokens of no turn. The losses take it in place of `[B, G]`.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_equal_shape_prefix([advantages, turns], 2)
    chex.assert_rank([advantages, turns], 3)
    found = jnp.take_along_axis(advantages, jnp.maximum(turns, 0), axis=-1)
    return jnp.where(turns >= 0, found, 0)


def tokens_of_turns(turns: Array, *, num_turns: int) -> Array:
    """`[B, G, S]` int32, how many tokens the policy sampled in each turn; 0 says there is none.

    Args:
        turns: `[B, G, T]` as above.
        num_turns: S.
    """
    is_of = turns[..., None, :] == jnp.arange(num_turns)[None, None, :, None]
    return jnp.sum(is_of, axis=-1, dtype=jnp.int32)
