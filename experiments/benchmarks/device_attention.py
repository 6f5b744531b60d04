"""Attention on a device: cuDNN against XLA's blocks in training, and cuDNN in decoding."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from timing import best_seconds

from dvaojax.models.attention import joint_attention

ROUNDS = 5


def training(
    report: Callable[..., None], *, shapes: list[list[int]], heads: list[int], dtype: str
) -> None:
    """Error and time of the backends of training attention, forward and backward.

    Args:
        report: receives each measurement.
        shapes: rows of prompts, prompt length, completions and completion length. At the first
            one, errors are measured against float32.
        heads: of queries, of keys, and their width.
        dtype: of queries, keys and values.
    """
    for index, (rows, prompt, group, length) in enumerate(shapes):
        arrays = _arrays((rows, prompt + group * length), heads, dtype)
        where = jnp.broadcast_to(jnp.arange(prompt) < prompt - 7, (rows, prompt))
        exact = _run("blocks", where, group, [a.astype(jnp.float32) for a in arrays])
        for name in ("blocks", "cudnn"):
            measured: dict[str, Any] = {"shape": [rows, prompt, group, length], "backend": name}
            try:
                both = jax.jit(partial(_both, name, where, group))
                measured["seconds"] = best_seconds(both, *arrays, rounds=ROUNDS)
                if index == 0:
                    errors = map(_error, both(*arrays), exact)
                    measured["errors"] = dict(zip(("out", "dq", "dk", "dv"), errors, strict=True))
            except Exception as error:  # the other backend is still worth measuring
                measured["complaint"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            report("attention", **measured)


def decoding(
    report: Callable[..., None], *, rows: int, length: int, heads: list[int], dtype: str
) -> None:
    """Time of cuDNN's attention to caches that are filled to an eighth, a half and the end.

    If it skips the rest of a cache, the time falls with the filled part.

    Args:
        report: receives each measurement.
        rows: completions, each with its own cache.
        length: of the caches.
        heads: of queries, of keys, and their width.
        dtype: of queries, keys and values.
    """
    queries, keys, values, _ = _arrays((rows, length), heads, dtype)
    one = jnp.ones((rows,), jnp.int32)

    def attend(queries: Array, keys: Array, values: Array, filled: Array) -> Array:
        return jax.nn.dot_product_attention(
            queries,
            keys,
            values,
            query_seq_lengths=one,
            key_value_seq_lengths=filled,
            implementation="cudnn",
        )

    cache_bytes = keys.nbytes + values.nbytes
    for eighths in (1, 4, 8):
        filled = jnp.full((rows,), length * eighths // 8, jnp.int32)
        seconds = best_seconds(
            jax.jit(attend), queries[:, :1], keys, values, filled, rounds=4 * ROUNDS
        )
        share = eighths / 8
        report(
            "decode attention",
            filled=share,
            seconds=seconds,
            bytes_per_second=cache_bytes * share / seconds,
        )


def _arrays(shape: tuple[int, int], heads: list[int], dtype: str) -> list[Array]:
    """Random queries, keys, values, and a gradient of the result."""
    num_heads, num_kv_heads, width = heads
    keys = jax.random.split(jax.random.key(0), 4)
    counts = (num_heads, num_kv_heads, num_kv_heads, num_heads)
    return [
        jax.random.normal(key, (*shape, count, width), jnp.float32).astype(dtype)
        for key, count in zip(keys, counts, strict=True)
    ]


def _both(
    name: str, where: Array, group: int, queries: Array, keys: Array, values: Array, outer: Array
) -> tuple[Array, ...]:
    """The result and the gradients of queries, keys and values; padding has none."""

    def attend(queries: Array, keys: Array, values: Array) -> Array:
        return joint_attention(
            queries, keys, values, prompt_where=where, group_size=group, implementation=name
        )

    real = jnp.pad(where, ((0, 0), (0, queries.shape[1] - where.shape[1])), constant_values=True)
    out, backward = jax.vjp(attend, queries, keys, values)
    gradients = backward(jnp.where(real[..., None, None], outer, 0.0).astype(out.dtype))
    return tuple(
        jnp.where(real[..., None, None], a, 0.0).astype(a.dtype) for a in (out, *gradients)
    )


def _run(name: str, where: Array, group: int, arrays: list[Array]) -> tuple[Array, ...]:
    with jax.default_matmul_precision("highest"):
        return jax.jit(partial(_both, name, where, group))(*arrays)


def _error(result: Array, exact: Array) -> float:
    """The largest difference, relative to the largest exact number."""
    difference = jnp.max(jnp.abs(result.astype(jnp.float32) - exact))
    return float(difference / jnp.max(jnp.abs(exact)))
