"""Key/value caches for decoding, as immutable pytrees.

The keys and values of a prompt are stored once per group and are read by its G completions. Each
completion has its own keys and values of the tokens that were sampled for it.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models.config import ModelConfig


class PromptCache(NamedTuple):
    """One layer's keys and values of the prompts, as prefill returns them.

    Attributes:
        keys: `[B, N, C, P]`, rotated; entries of padding are never read.
        values: `[B, N, P, C]`.
    """

    keys: Array
    values: Array


class CompletionCache(NamedTuple):
    """One layer's keys and values of the completions, filled one column per step.

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

    def extended(self, length: int) -> "CompletionCache":
        """A cache with the same content and capacity for `length` tokens, no fewer than before."""
        extra = length - self.keys.shape[-1]
        return CompletionCache(
            jnp.pad(self.keys, [(0, 0)] * 4 + [(0, extra)]),
            jnp.pad(self.values, [(0, 0)] * 3 + [(0, extra), (0, 0)]),
        )


def empty_cache(
    config: ModelConfig, *, num_prompts: int, group_size: int, length: int
) -> tuple[CompletionCache, ...]:
    """Caches with capacity for `length` tokens of every completion, one per layer."""
    heads = (num_prompts, config.num_kv_heads, group_size)
    cache = CompletionCache(
        keys=jnp.zeros((*heads, config.head_width, length), config.compute_dtype),
        values=jnp.zeros((*heads, length, config.head_width), config.compute_dtype),
    )
    return (cache,) * config.num_layers
