"""A decoder made ready for a loop over tokens: sliced, joined and cast once, outside the loop.

A scan over the layers would slice the stacked weights anew at every token, which moves each of them
once more than the arithmetic does.
"""

import dataclasses

import chex
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models.attention import cache_layout, group_attention
from dvaojax.models.cache import CompletionCache, PromptCache
from dvaojax.models.decoder import Decoder
from dvaojax.models.layers import Layer, Matrices, rotation
from dvaojax.models.logprobs import to_logits
from dvaojax.models.places import columns, within
from dvaojax.sharding import constrain


@dataclasses.dataclass(frozen=True)
class UnrolledDecoder:
    """The decoder's layers one by one, with their matrices as the products read them.

    Attributes:
        decoder: whose parameters these are.
        layers: `L` of them.
        matrices: each layer's.
        output_matrix: `[D, V]`.
    """

    decoder: Decoder
    layers: tuple[Layer, ...]
    matrices: tuple[Matrices, ...]
    output_matrix: Array

    def decode(
        self,
        tokens: Array,
        column: Array,
        prompt_lengths: Array,
        prompt_caches: tuple[PromptCache, ...],
        caches: tuple[CompletionCache, ...],
    ) -> tuple[Array, tuple[CompletionCache, ...]]:
        """One more token of every completion.

        Args:
            tokens: `[B, G]`, the completions' tokens number `column`.
            column: scalar int, the same for all completions.
            prompt_lengths: `[B]`.
            prompt_caches: from `prefill`.
            caches: the completions' own, filled up to `column`.

        Returns:
            `[B, G, D]` hidden states after the last norm, and the caches with `column` filled.

        Raises:
            AssertionError: the shapes do not fit.
        """
        chex.assert_rank(tokens, 2)
        prompt_where = within(prompt_lengths, prompt_caches[0].keys.shape[-1])
        positions = jnp.broadcast_to((prompt_lengths + column)[:, None], tokens.shape)
        by = rotation(positions.reshape(-1), self.decoder.config)
        seen = (columns(caches[0].keys.shape[-1]) <= column)[None]  # one query, all columns
        x, filled = constrain(self.decoder.embed(tokens.reshape(-1)), "group"), []
        for layer, matrices, prompt_cache, cache in zip(
            self.layers, self.matrices, prompt_caches, caches, strict=True
        ):
            queries, keys, values = (
                a.reshape(*tokens.shape, 1, *a.shape[1:]) for a in layer.project(x, by, matrices)
            )
            cache = cache.write(*cache_layout(keys, values), column)
            attended = group_attention(
                queries, *prompt_cache, *cache, prompt_where=prompt_where, where=seen
            )
            x = layer.finish(x, attended.reshape(x.shape[0], -1), matrices)
            filled.append(cache)
        return self.decoder.norm(x).reshape(*tokens.shape, -1), tuple(filled)

    def logits(self, hidden: Array) -> Array:
        """`[..., V]`, in float32 at least, from hidden states `[..., D]`."""
        # The product is left alone: fused with what reads it, it is computed row by row.
        return lax.optimization_barrier(to_logits(hidden, self.output_matrix))


def unrolled(decoder: Decoder) -> UnrolledDecoder:
    """The decoder as a loop over tokens takes it: what fsdp splits is gathered here, once."""
    layers = decoder.unstacked()
    matrices = tuple(
        Matrices(*(constrain(m, *axes) for m, axes in zip(layer.matrices(), _AXES, strict=True)))
        for layer in layers
    )
    return UnrolledDecoder(decoder, layers, matrices, decoder.output_matrix())


# The logical axes of `Matrices` while it decodes: D is whole.
_AXES = ((None, "kv_heads"), ("heads", None), (None, None, "ff"), ("ff", None))
