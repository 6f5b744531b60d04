"""Keys and values that were computed before, as frozen pytrees that go in and come out.

The prompt's keys and values stand once per group and are read by its G completions; each
completion has a row of its own for what it sampled.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models.config import ModelConfig


class PromptCache(NamedTuple):
    """One layer's keys and values of the prompts, as prefill returns them.

    Attributes:
        keys: `[B, N, P, C]`, rotated; what stands behind a prompt's end is never read.
        values: `[B, N, P, C]`.
    """

    keys: Array
    values: Array


class CompletionCache(NamedTuple):
    """One layer's keys and values of the completions, filled one column a step.

    Attributes:
        keys: `[B, G, N, T, C]`, rotated.
        values: `[B, G, N, T, C]`.
    """

    keys: Array
    values: Array

    def write(self, keys: Array, values: Array, column: Array) -> "CompletionCache":
        """A cache with `keys` and `values`, `[B, G, N, 1, C]`, in `column`."""
        start = (0, 0, 0, column, 0)
        return CompletionCache(
            lax.dynamic_update_slice(self.keys, keys, start),
            lax.dynamic_update_slice(self.values, values, start),
        )


def empty_cache(
    config: ModelConfig, *, num_prompts: int, group_size: int, length: int
) -> tuple[CompletionCache, ...]:
    """Room for `length` tokens of every completion, one cache a layer."""
    shape = (num_prompts, group_size, config.num_kv_heads, length, config.head_width)
    zeros = jnp.zeros(shape, config.compute_dtype)
    return (CompletionCache(zeros, zeros),) * config.num_layers
