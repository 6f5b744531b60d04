"""A decoder prepared for a loop over tokens: layers are sliced, joined and cast before the loop.

A scan over the layers would slice the stacked weights again for every token, and so read and write
each weight once more than the matrix products need.
"""

import dataclasses

import chex
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models.attention import cache_layout, group_attention
from dvaojax.models.cache import CompletionCache, PromptCache
from dvaojax.models.decoder import Decoder, length_mask
from dvaojax.models.layers import Layer, Matrices, rotation
from dvaojax.models.logprobs import to_logits
from dvaojax.sharding import constrain


@dataclasses.dataclass(frozen=True)
class UnrolledDecoder:
    """A decoder with its layers unstacked and their weights joined for the matrix products.

    Attributes:
        decoder: the original decoder.
        layers: the `L` layers.
        matrices: the joined weights of each layer.
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
        """Runs one more token of every completion.

        Args:
            tokens: `[B, G]`, token `column` of every completion.
            column: scalar int, the same for all completions.
            prompt_lengths: `[B]`.
            prompt_caches: from `prefill`.
            caches: the completions' caches, filled before `column`.

        Returns:
            `[B, G, D]` hidden states after the last norm, and the caches with `column` filled.

        Raises:
            AssertionError: the shapes do not fit.
        """
        chex.assert_rank(tokens, 2)
        prompt_where = length_mask(prompt_lengths, prompt_caches[0].keys.shape[-1])
        positions = jnp.broadcast_to((prompt_lengths + column)[:, None], tokens.shape)
        angles = rotation(positions.reshape(-1), self.decoder.config)
        columns = jnp.arange(caches[0].keys.shape[-1], dtype=jnp.int32)
        visible = (columns <= column)[None]  # [1, T]: one query
        x, new_caches = constrain(self.decoder.embed(tokens.reshape(-1)), "group"), []
        for layer, matrices, prompt_cache, cache in zip(
            self.layers, self.matrices, prompt_caches, caches, strict=True
        ):
            queries, keys, values = (
                a.reshape(*tokens.shape, 1, *a.shape[1:])
                for a in layer.project(x, angles, matrices)
            )
            cache = cache.write(*cache_layout(keys, values), column)
            attended = group_attention(
                queries, *prompt_cache, *cache, prompt_where=prompt_where, where=visible
            )
            x = layer.finish(x, attended.reshape(x.shape[0], -1), matrices)
            new_caches.append(cache)
        return self.decoder.norm(x).reshape(*tokens.shape, -1), tuple(new_caches)

    def logits(self, hidden: Array) -> Array:
        """`[..., V]`, in float32 at least, from hidden states `[..., D]`."""
        # The barrier prevents fusion with the consumer, which would compute the product row by row.
        return lax.optimization_barrier(to_logits(hidden, self.output_matrix))


def unrolled(decoder: Decoder) -> UnrolledDecoder:
    """Prepares a decoder for a loop over tokens; gathers weights split over `fsdp` once, here."""
    layers = decoder.unstacked()
    matrices = tuple(
        Matrices(*(constrain(m, *axes) for m, axes in zip(layer.matrices(), _AXES, strict=True)))
        for layer in layers
    )
    return UnrolledDecoder(decoder, layers, matrices, decoder.output_matrix())


# The logical axes of `Matrices` during decoding: D is not split.
_AXES = ((None, "kv_heads"), ("heads", None), (None, None, "ff"), ("ff", None))
