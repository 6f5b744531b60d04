"""Attention in blocks against plain attention, for lengths that divide nothing."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_cases import Rows, plain_attention, random_rows

from dvaojax.models.attention import blockwise as blocks
from dvaojax.models.attention import joint_attention, packed_attention
from dvaojax.models.attention import online_softmax as tiles


@pytest.fixture(params=["one block", "many blocks"])
def block_size(request, monkeypatch):
    """Many blocks, and pieces of them, out of rows that are short enough for the loops."""
    if request.param == "many blocks":
        monkeypatch.setitem(tiles.SCORES_AT_ONCE, "cpu", 40)
        monkeypatch.setattr(tiles, "FEWEST_ROWS", 6)
        monkeypatch.setattr(blocks, "FEWEST_TOKENS", 3)
        monkeypatch.setattr(blocks, "MOST_BLOCKS", 3)


def joint(queries, keys, values, rows: Rows):
    group_size = int(rows.segments.max(initial=0)) + 1
    return joint_attention(
        queries, keys, values, prompt_where=rows.prompt_where, group_size=group_size
    )


def packed(queries, keys, values, rows: Rows, longest: int):
    return packed_attention(
        queries,
        keys,
        values,
        prompt_where=rows.prompt_where,
        segments=rows.segments,
        longest=longest,
    )


def value_and_gradients(attention, rows: Rows, dtype=np.float64):
    """The result on real tokens, zeros elsewhere, and the gradients of its weighted sum."""

    @partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
    def summed(queries, keys, values):
        result = attention(queries, keys, values, rows)
        return jnp.sum(result.astype(dtype) * rows.weights.astype(dtype)), result

    arguments = (jnp.asarray(x, dtype) for x in rows[:3])
    (_, result), gradients = jax.jit(summed)(*arguments)
    real = np.concatenate([rows.prompt_where, rows.segments >= 0], axis=1)
    return np.where(real[..., None, None], np.asarray(result), 0), jax.device_get(gradients)


RECTANGLES = {
    "odd": {"prompt_lengths": [7, 3], "lengths": (3, 5), "prompt_width": 7},
    "whole prompts": {"prompt_lengths": [4, 4], "lengths": (2, 4), "prompt_width": 4},
    "prompts of one": {"prompt_lengths": [1, 1], "lengths": (2, 9), "prompt_width": 1},
    "completions of one": {"prompt_lengths": [2, 11], "lengths": (4, 1), "prompt_width": 11},
}


def rectangle(prompt_lengths, lengths, prompt_width, **sizes) -> Rows:
    group, length = lengths
    completions = [[length] * group] * len(prompt_lengths)
    return random_rows(
        prompt_lengths, completions, prompt_width=prompt_width, behind=group * length, **sizes
    )


@pytest.mark.parametrize("shape", RECTANGLES)
def test_equals_plain_attention(shape, block_size):
    check_against_plain_attention(RECTANGLES[shape])


@pytest.mark.parametrize("heads", [(3, 3), (6, 1)])
def test_equals_plain_attention_however_heads_are_shared(heads):
    check_against_plain_attention(
        RECTANGLES["odd"], num_heads=heads[0], num_kv_heads=heads[1], head_width=6
    )


def check_against_plain_attention(shape, **sizes):
    """Once as completions of one length and once as packed ones that happen to be so."""
    rows = rectangle(**shape, **sizes)
    expected = plain_attention(rows)
    with jax.enable_x64(True):
        apart = value_and_gradients(joint, rows)
        together = value_and_gradients(partial(packed, longest=shape["lengths"][1]), rows)
    chex.assert_trees_all_close(apart, expected, rtol=1e-12, atol=1e-12)
    chex.assert_trees_all_close(together, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("longest", [6, 40])
def test_packed_completions_equal_plain_attention(longest, block_size):
    rows = random_rows(
        [5, 2, 4], [[3, 6, 1, 4], [6, 6], [1, 1, 1, 5, 6]], prompt_width=5, behind=19
    )
    with jax.enable_x64(True):
        actual = value_and_gradients(partial(packed, longest=longest), rows)
    chex.assert_trees_all_close(actual, plain_attention(rows), rtol=1e-12, atol=1e-12)


def test_padding_behind_packed_completions_is_zero_and_teaches_nothing(block_size):
    rows = random_rows([3, 2], [[2, 4], []], prompt_width=3, behind=9)
    weights = np.where(np.isin(rows.weights, 0.0), 1.0, rows.weights)  # asks for padding too
    attention = partial(packed, longest=4, rows=rows)

    def summed(queries, keys, values):
        result = attention(queries, keys, values)
        return jnp.sum(result[:, 3:] * weights[:, 3:].astype(np.float32)), result

    arguments = [jnp.asarray(x, np.float32) for x in rows[:3]]
    (_, result), gradients = jax.jit(jax.value_and_grad(summed, argnums=(0, 1, 2), has_aux=True))(
        *arguments
    )
    chex.assert_tree_all_finite((result, gradients))
    padding = rows.segments < 0
    assert not np.any(np.asarray(result)[:, 3:][padding])
    for gradient in gradients:
        assert not np.any(np.asarray(gradient)[:, 3:][padding])


def test_a_row_without_completions_is_its_prompt():
    rows = random_rows([5, 4], [[], []], prompt_width=5, behind=0)
    with jax.enable_x64(True):
        actual = value_and_gradients(joint, rows)
    chex.assert_trees_all_close(actual, plain_attention(rows), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(jnp.float32, 2e-6), (jnp.bfloat16, 5e-2)], ids=["float32", "bfloat16"]
)
def test_narrow_floats_stay_near_the_wide_one(dtype, tolerance, block_size):
    rows = rectangle(**RECTANGLES["odd"])
    result, gradients = value_and_gradients(joint, rows, dtype)
    assert result.dtype == dtype
    assert {g.dtype for g in gradients} == {np.dtype(dtype)}
    actual = jax.tree.map(lambda x: np.asarray(x, np.float64), (result, gradients))
    chex.assert_trees_all_close(actual, plain_attention(rows), rtol=0.0, atol=tolerance)


def test_scores_far_apart_do_not_overflow():
    rows = rectangle(**RECTANGLES["odd"])
    rows = rows._replace(queries=rows.queries * 300.0)
    actual = value_and_gradients(joint, rows, np.float32)
    chex.assert_tree_all_finite(actual)
    with jax.enable_x64(True):
        exact = value_and_gradients(joint, rows)
    chex.assert_trees_all_close(exact, plain_attention(rows), rtol=1e-9, atol=1e-9)


def test_scores_of_long_rows_are_never_held():
    # 1 prompt x 16 completions, 1024 + 3072 tokens, 2 heads: 1.6 GB of scores in float32.
    row, width = 1024 + 16 * 3071, 1024
    shape = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)

    def summed(queries, keys, values):
        where = jnp.ones((1, width), bool)
        return jnp.sum(joint_attention(queries, keys, values, prompt_where=where, group_size=16))

    compiled = (
        jax.jit(jax.grad(summed, argnums=(0, 1, 2)))
        .lower(shape((1, row, 2, 16)), shape((1, row, 1, 16)), shape((1, row, 1, 16)))
        .compile()
    )
    rows_held = 2 * row * 2 * 16 * 4  # queries and their gradient
    assert compiled.memory_analysis().temp_size_in_bytes < 12 * rows_held
