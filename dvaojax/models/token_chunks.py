"""Tokens in chunks, so that the logits of all tokens are not in memory at once.

Every chunk has tokens of every group: with groups split over devices, every device computes a part
of each chunk.
"""

import math

import jax.numpy as jnp
from jax import Array

from dvaojax import sharding


def by_group(hidden: Array, tokens: Array) -> tuple[Array, Array]:
    """`[B, ..., D]` states and `[B, ...]` tokens as `[B, M, D]` and `[B, M]`."""
    rows = tokens.shape[0]
    flat = tokens.reshape(rows, tokens.size // rows)
    return hidden.reshape(*flat.shape, hidden.shape[-1]), flat


def num_chunks(tokens: Array, chunk_size: int) -> int:
    """Number of chunks of `[B, M]` tokens, of at most `chunk_size` tokens on each device.

    A chunk has at least one token of every group.
    """
    rows, length = tokens.shape
    width = max(chunk_size * sharding.num_shards("group") // rows, 1)
    return math.ceil(length / width)


def split(x: Array, pieces: int) -> Array:
    """`[B, M, ...]` to `[pieces, B, width, ...]`, padded with zeros."""
    rows, length = x.shape[:2]
    padded = jnp.pad(x, [(0, 0), (0, -length % pieces)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(padded.reshape(rows, pieces, -1, *x.shape[2:]), 1, 0)


def join(pieces: Array, like: Array) -> Array:
    """`[pieces, B, width, ...]` to the shape of `like` and further axes, without the padding."""
    rows, further = like.shape[0], pieces.shape[3:]
    flat = jnp.moveaxis(pieces, 0, 1).reshape(rows, pieces.shape[0] * pieces.shape[2], *further)
    return flat[:, : like.size // rows].reshape(*like.shape, *further)
