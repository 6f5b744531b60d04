"""A decoder prepared for a loop over tokens: layers are sliced, joined and cast before the loop.

A scan over the layers would slice the stacked weights again for every token, and so read and write
each weight once more than the matrix products need.
"""

import dataclasses

import chex
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models.attention import attend, decode_backend
from dvaojax.models.cache import (
    BlockedCompletionCache,
    BlockedPromptCache,
    CompletionCache,
    PromptCache,
    empty_blocked_cache,
    empty_cache,
)
from dvaojax.models.decoder import Decoder
from dvaojax.models.layers import Layer, Matrices, rotation
from dvaojax.models.logprobs import to_logits
from dvaojax.sharding import constrain

PromptCaches = tuple[PromptCache | BlockedPromptCache, ...]
Caches = tuple[CompletionCache | BlockedCompletionCache, ...]


@dataclasses.dataclass(frozen=True)
class UnrolledDecoder:
    """A decoder with its layers unstacked and their weights joined for the matrix products.

    Attributes:
        decoder: the original decoder.
        layers: the `L` layers.
        matrices: the joined weights of each layer.
        output_matrix: `[D, V]`.
        backend: of attention, from `decode_backend.choose`.
    """

    decoder: Decoder
    layers: tuple[Layer, ...]
    matrices: tuple[Matrices, ...]
    output_matrix: Array
    backend: str

    def decode(
        self,
        tokens: Array,
        column: Array,
        ends: Array,
        prompt_lengths: Array,
        prompt_caches: PromptCaches,
        caches: Caches,
    ) -> tuple[Array, Caches]:
        """Runs one more token of every completion.

        Args:
            tokens: `[B, G]`, token `column` of every completion.
            column: scalar int, the same for all completions.
            ends: `[B, G]` int, `column + 1`, or 0 for completions that have ended, whose results
                are finite and meaningless.
            prompt_lengths: `[B]`.
            prompt_caches: from `prefill`, of the kind that `backend` reads.
            caches: the completions' caches, from `empty_caches`, filled before `column`.

        Returns:
            `[B, G, D]` hidden states after the last norm, and the caches with `column` filled.

        Raises:
            AssertionError: the shapes do not fit.
        """
        chex.assert_rank(tokens, 2)
        positions = jnp.broadcast_to((prompt_lengths + column)[:, None], tokens.shape)
        angles = rotation(positions.reshape(-1), self.decoder.config)
        x, new_caches = constrain(self.decoder.embed(tokens.reshape(-1)), "group"), []
        for layer, matrices, prompt_cache, cache in zip(
            self.layers, self.matrices, prompt_caches, caches, strict=True
        ):
            queries, keys, values = (
                a.reshape(*tokens.shape, 1, *a.shape[1:])
                for a in layer.project(x, angles, matrices)
            )
            cache = cache.write(keys, values, column)
            attended = attend(
                queries, prompt_cache, cache,
                prompt_lengths=prompt_lengths, starts=None, ends=ends, backend=self.backend,
            )  # fmt: skip
            x = layer.finish(x, attended.reshape(x.shape[0], -1), matrices)
            new_caches.append(cache)
        return self.decoder.norm(x).reshape(*tokens.shape, -1), tuple(new_caches)

    def logits(self, hidden: Array) -> Array:
        """`[..., V]`, in float32 at least, from hidden states `[..., D]`."""
        # The barrier prevents fusion with the consumer, which would compute the product row by row.
        return lax.optimization_barrier(to_logits(hidden, self.output_matrix))

    def prefill(self, tokens: Array) -> tuple[Array, PromptCaches]:
        """`[B, P, D]` hidden states of tokens `[B, P]`, and prompt caches that `decode` reads."""
        kind = PromptCache if self.backend == "einsum" else BlockedPromptCache
        return self.decoder.prefill(tokens, kind)

    def empty_caches(self, *, num_prompts: int, group_size: int, length: int) -> Caches:
        """Caches with capacity for `length` tokens of every completion, one per layer."""
        empty = empty_cache if self.backend == "einsum" else empty_blocked_cache
        return empty(
            self.decoder.config, num_prompts=num_prompts, group_size=group_size, length=length
        )


def unrolled(decoder: Decoder) -> UnrolledDecoder:
    """Prepares a decoder for a loop over tokens; gathers weights split over `fsdp` once, here."""
    layers = decoder.unstacked()
    matrices = tuple(
        Matrices(*(constrain(m, *axes) for m, axes in zip(layer.matrices(), _AXES, strict=True)))
        for layer in layers
    )
    backend = decode_backend.choose(decoder.config)
    return UnrolledDecoder(decoder, layers, matrices, decoder.output_matrix(), backend)


# The logical axes of `Matrices` during decoding: D is not split.
_AXES = ((None, "kv_heads"), ("heads", None), (None, None, "ff"), ("ff", None))
