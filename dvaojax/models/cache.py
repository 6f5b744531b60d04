"""Key/value caches for decoding, as immutable pytrees.

The keys and values of a prompt are stored once per group and are read by its G completions. Each
completion has its own keys and values of the tokens that were sampled for it. Matrix products and
attention kernels want different orders of axes, so there are two classes of each.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models.config import ModelConfig

# Tokens that an attention kernel reads at once; its caches are padded to a whole number of them.
BLOCK = 256


class PromptCache(NamedTuple):
    """One layer's keys and values of the prompts, for matrix products.

    Attributes:
        keys: `[B, N, C, P]`, rotated; entries of padding are never read.
        values: `[B, N, P, C]`.
    """

    keys: Array
    values: Array

    @classmethod
    def of(cls, keys: Array, values: Array) -> "PromptCache":
        """The cache of keys and values `[B, P, N, C]`."""
        return cls(jnp.moveaxis(keys, 1, -1), jnp.swapaxes(values, 1, 2))


class BlockedPromptCache(NamedTuple):
    """One layer's keys and values of the prompts, for attention kernels.

    Attributes:
        keys: `[B, N, P', C]`, rotated, where `P'` is a multiple of `BLOCK`.
        values: of the same shape.
    """

    keys: Array
    values: Array

    @classmethod
    def of(cls, keys: Array, values: Array) -> "BlockedPromptCache":
        """The cache of keys and values `[B, P, N, C]`."""
        return cls(_by_head(keys), _by_head(values))


class CompletionCache(NamedTuple):
    """One layer's keys and values of the completions, for matrix products.

    Both products contract in place, and decoding a token needs no transposition, which would take a
    fifth of the step's time on a CPU. Completions have one axis: with two, one of them of size 1,
    XLA removes that axis for the products, and then copies every cache at every token.

    Attributes:
        keys: `[B * G, N, C, T]`, rotated.
        values: `[B * G, N, T, C]`.
    """

    keys: Array
    values: Array

    def write(self, keys: Array, values: Array, column: Array) -> "CompletionCache":
        """A cache with `keys` and `values`, `[B, G, W, N, C]`, in the columns from `column` on."""
        keys, values = (a.reshape(-1, *a.shape[2:]) for a in (keys, values))
        keys, values = jnp.moveaxis(keys, 1, -1), jnp.swapaxes(values, 1, 2)
        return CompletionCache(
            lax.dynamic_update_slice(self.keys, keys, (0, 0, 0, column)),
            lax.dynamic_update_slice(self.values, values, (0, 0, column, 0)),
        )

    def extended(self, length: int) -> "CompletionCache":
        """A cache with the same content and capacity for `length` tokens, no fewer than before."""
        extra = length - self.keys.shape[-1]
        return CompletionCache(
            jnp.pad(self.keys, [(0, 0)] * 3 + [(0, extra)]),
            jnp.pad(self.values, [(0, 0)] * 2 + [(0, extra), (0, 0)]),
        )

    @property
    def completion_axes(self) -> int:
        """The number of leading axes that number the completions."""
        return 1


class BlockedCompletionCache(NamedTuple):
    """One layer's keys and values of the completions, for attention kernels.

    Attributes:
        keys: `[B, G, N, T', C]`, rotated, where `T'` is a multiple of `BLOCK`.
        values: of the same shape.
    """

    keys: Array
    values: Array

    def write(self, keys: Array, values: Array, column: Array) -> "BlockedCompletionCache":
        """A cache with `keys` and `values`, `[B, G, W, N, C]`, in the columns from `column` on."""
        new = (jnp.swapaxes(a, 2, 3) for a in (keys, values))
        written = (
            lax.dynamic_update_slice(old, a, (0, 0, 0, column, 0))
            for old, a in zip(self, new, strict=True)
        )
        return BlockedCompletionCache(*written)

    def extended(self, length: int) -> "BlockedCompletionCache":
        """A cache with the same content and capacity for at least `length` tokens."""
        extra = whole_blocks(length) - self.keys.shape[3]
        return BlockedCompletionCache(
            *(jnp.pad(a, [(0, 0)] * 3 + [(0, extra), (0, 0)]) for a in self)
        )

    @property
    def completion_axes(self) -> int:
        """The number of leading axes that number the completions."""
        return 2


def empty_cache(
    config: ModelConfig, *, num_prompts: int, group_size: int, length: int
) -> tuple[CompletionCache, ...]:
    """Caches for products, with capacity for `length` tokens of every completion, one per layer."""
    heads = (num_prompts * group_size, config.num_kv_heads)
    cache = CompletionCache(
        keys=jnp.zeros((*heads, config.head_width, length), config.compute_dtype),
        values=jnp.zeros((*heads, length, config.head_width), config.compute_dtype),
    )
    return (cache,) * config.num_layers


def empty_blocked_cache(
    config: ModelConfig, *, num_prompts: int, group_size: int, length: int
) -> tuple[BlockedCompletionCache, ...]:
    """Caches for kernels, with capacity for `length` tokens of every completion, one per layer."""
    heads = (num_prompts, group_size, config.num_kv_heads)
    empty = jnp.zeros((*heads, whole_blocks(length), config.head_width), config.compute_dtype)
    return (BlockedCompletionCache(empty, empty),) * config.num_layers


def whole_blocks(length: int) -> int:
    """`length` rounded up to a multiple of `BLOCK`."""
    return -(-length // BLOCK) * BLOCK


def _by_head(x: Array) -> Array:
    """`[B, P, N, C]` to `[B, N, P', C]`, with zeros behind `P`."""
    padding = whole_blocks(x.shape[1]) - x.shape[1]
    return jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, padding), (0, 0)))
