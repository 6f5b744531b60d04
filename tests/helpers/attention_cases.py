"""Rows of prompts and completions, and reference attention in NumPy, one query at a time."""

from typing import NamedTuple

import numpy as np


class Rows(NamedTuple):
    """Inputs of attention, and weights that reduce its result to one number.

    Attributes:
        queries: `[B, P + S, H, C]`.
        keys: `[B, P + S, N, C]`.
        values: `[B, P + S, N, C]`.
        prompt_where: `[B, P]`.
        segments: `[B, S]`, the completion of every token after the prompt; -1 on padding.
        weights: `[B, P + S, H, C]`, zero on padding.
    """

    queries: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    prompt_where: np.ndarray
    segments: np.ndarray
    weights: np.ndarray


def random_rows(
    prompt_lengths: list[int],
    completion_lengths: list[list[int]],
    *,
    prompt_width: int,
    completion_width: int,
    num_heads: int = 4,
    num_kv_heads: int = 2,
    head_width: int = 8,
    seed: int = 0,
) -> Rows:
    """Random rows; completions are packed one after another into `completion_width` columns."""
    draw = np.random.default_rng(seed).normal
    batch, row = len(prompt_lengths), prompt_width + completion_width
    where = np.arange(prompt_width)[None] < np.asarray(prompt_lengths)[:, None]
    segments = np.full((batch, completion_width), -1, np.int32)
    for b, lengths in enumerate(completion_lengths):
        numbers = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        segments[b, : len(numbers)] = numbers
    real = np.concatenate([where, segments >= 0], axis=1)
    return Rows(
        queries=draw(size=(batch, row, num_heads, head_width)),
        keys=draw(size=(batch, row, num_kv_heads, head_width)),
        values=draw(size=(batch, row, num_kv_heads, head_width)),
        prompt_where=where,
        segments=segments,
        weights=draw(size=(batch, row, num_heads, head_width)) * real[..., None, None],
    )


def visible(rows: Rows, b: int, i: int) -> list[int]:
    """The columns that token `i` of row `b` attends to, itself last; none for padding."""
    width = rows.prompt_where.shape[1]
    if i < width:
        return [j for j in range(i + 1) if rows.prompt_where[b, i]]
    segment = rows.segments[b, i - width]
    if segment < 0:
        return []
    prompt = [j for j in range(width) if rows.prompt_where[b, j]]
    return prompt + [j for j in range(width, i + 1) if rows.segments[b, j - width] == segment]


def reference_attention(rows: Rows) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The result in float64, and the gradients of its inner product with the weights."""
    q, k, v = (np.asarray(x, np.float64) for x in rows[:3])
    batch, row, num_heads, width = q.shape
    group = num_heads // k.shape[2]
    result, grad_q, grad_k, grad_v = (
        np.zeros(q.shape),
        np.zeros(q.shape),
        np.zeros(k.shape),
        np.zeros(v.shape),
    )
    for b, i in np.ndindex(batch, row):
        columns = visible(rows, b, i)
        for h in range(num_heads) if columns else ():
            n = h // group
            scores = k[b, columns, n] @ q[b, i, h] / np.sqrt(width)
            attention = np.exp(scores - scores.max())
            attention /= attention.sum()
            result[b, i, h] = attention @ v[b, columns, n]
            weight = rows.weights[b, i, h]
            grad_attention = v[b, columns, n] @ weight
            grad_scores = attention * (grad_attention - attention @ grad_attention)
            grad_scores /= np.sqrt(width)
            grad_q[b, i, h] = grad_scores @ k[b, columns, n]
            grad_k[b, columns, n] += np.outer(grad_scores, q[b, i, h])
            grad_v[b, columns, n] += np.outer(attention, weight)
    return result, (grad_q, grad_k, grad_v)
