"""Turns of an episode as segments of one completion.

An episode of several turns is one row of tokens, in which the policy's turns alternate with tool
output. `turns` contains for each token the turn in which the policy sampled it, or -1 for tool
output and padding. `Experience.completion_mask` is `turns >= 0`, so that tool output is attended to
but excluded from the loss.
"""

import jax.numpy as jnp
from jax import Array

from dvaojax.numerics import require_axes, require_shape


def advantages_per_token(advantages: Array, turns: Array) -> Array:
    """Each token's advantage, which is that of its turn.

    Args:
        advantages: `[B, G, S]`, one per turn, as from `aggregators.ms_grpo` or `gtpo`.
        turns: `[B, G, T]` int32, from 0 to S - 1, or -1 on tokens that the policy did not sample.

    Returns:
        `[B, G, T]`, accepted by the losses instead of `[B, G]`; 0 on tokens without a turn.

    Raises:
        AssertionError: the shapes do not fit.
    """
    require_axes("turns", turns, (3,), axes="[B, G, T]")
    shape = (*turns.shape[:2], *advantages.shape[-1:])
    require_shape("advantages", advantages, shape, axes="[B, G, S]", like="turns [B, G, T]")
    selected = jnp.take_along_axis(advantages, jnp.maximum(turns, 0), axis=-1)
    return jnp.where(turns >= 0, selected, 0)


def tokens_per_turn(turns: Array, *, num_turns: int) -> Array:
    """`[B, G, S]` int32, the number of tokens that the policy sampled in each turn.

    Args:
        turns: `[B, G, T]` int32, as in `advantages_per_token`.
        num_turns: S, the number of turns.
    """
    is_in_turn = turns[..., None, :] == jnp.arange(num_turns)[None, None, :, None]
    return jnp.sum(is_in_turn, axis=-1, dtype=jnp.int32)
