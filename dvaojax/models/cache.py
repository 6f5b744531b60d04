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
        keys: `[B, N, C, P]`, rotated; what stands behind a prompt's end is never read.
        values: `[B, N, P, C]`.
    """

    keys: Array
    values: Array


class CompletionCache(NamedTuple):
    """One layer's keys and values of the completions, filled one column a step.

    Attributes:
        keys: `[B, N, G, C, T]`, rotated.
        values: `[B, N, G, T, C]`.
    """

    keys: Array
    values: Array

    def write(self, keys: Array, values: Array, column: Array) -> "CompletionCache":
        """A cache with `keys`, `[B, N, G, C, 1]`, and `values`, `[B, N, G, 1, C]`, in `column`."""
        return CompletionCache(
            lax.dynamic_update_slice(self.keys, keys, (0, 0, 0, 0, column)),
            lax.dynamic_update_slice(self.values, values, (0, 0, 0, column, 0)),
        )

    def grown(self, length: int) -> "CompletionCache":
        """The same cache in room for `length` tokens, no fewer than before."""
        more = length - self.keys.shape[-1]
        return CompletionCache(
            jnp.pad(self.keys, [(0, 0)] * 4 + [(0, more)]),
            jnp.pad(self.values, [(0, 0)] * 3 + [(0, more), (0, 0)]),
        )


def empty_cache(
    config: ModelConfig, *, num_prompts: int, group_size: int, length: int
) -> tuple[CompletionCache, ...]:
    """Room for `length` tokens of every completion, one cache a layer."""
    heads = (num_prompts, config.num_kv_heads, group_size)
    cache = CompletionCache(
        keys=jnp.zeros((*heads, config.head_width, length), config.compute_dtype),
        values=jnp.zeros((*heads, length, config.head_width), config.compute_dtype),
    )
    return (cache,) * config.num_layers
