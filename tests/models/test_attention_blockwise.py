"""Blockwise training attention against the NumPy reference, also for lengths without divisors."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_cases import Rows, random_rows, reference_attention
from slowness import slow_but

from dvaojax.models.attention import (
    blockwise,
    joint_attention,
    online_softmax,
    packed_attention,
)


@pytest.fixture(params=["one block", "many blocks"])
def block_size(request, monkeypatch):
    """Default block sizes, or ones so small that short rows have many blocks and pieces."""
    if request.param == "many blocks":
        monkeypatch.setitem(online_softmax.MAX_SCORES, "cpu", 40)
        monkeypatch.setattr(online_softmax, "MIN_ROWS", 6)
        monkeypatch.setattr(blockwise, "MIN_BLOCK_TOKENS", 3)
        monkeypatch.setattr(blockwise, "MAX_BLOCKS", 3)


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
    """The result, with zeros on padding, and the gradients of its weighted sum."""

    @partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
    def weighted_sum(queries, keys, values):
        result = attention(queries, keys, values, rows)
        return jnp.sum(result.astype(dtype) * rows.weights.astype(dtype)), result

    arguments = (jnp.asarray(x, dtype) for x in rows[:3])
    (_, result), gradients = jax.jit(weighted_sum)(*arguments)
    real = np.concatenate([rows.prompt_where, rows.segments >= 0], axis=1)
    return np.where(real[..., None, None], np.asarray(result), 0), jax.device_get(gradients)


RECTANGLES = {
    "odd sizes": {"prompt_lengths": [7, 3], "lengths": (3, 5), "prompt_width": 7},
    "prompts without padding": {"prompt_lengths": [4, 4], "lengths": (2, 4), "prompt_width": 4},
    "prompts of one token": {"prompt_lengths": [1, 1], "lengths": (2, 9), "prompt_width": 1},
    "completions of one token": {"prompt_lengths": [2, 11], "lengths": (4, 1), "prompt_width": 11},
}


def rectangle(prompt_lengths, lengths, prompt_width, **sizes) -> Rows:
    group, length = lengths
    completions = [[length] * group] * len(prompt_lengths)
    return random_rows(
        prompt_lengths,
        completions,
        prompt_width=prompt_width,
        completion_width=group * length,
        **sizes,
    )


@pytest.mark.parametrize("shape", slow_but(["odd sizes"], RECTANGLES))
def test_equals_reference_attention(shape, block_size):
    check_against_reference(RECTANGLES[shape])


@pytest.mark.parametrize("heads", [(3, 3), (6, 1)])
def test_equals_reference_attention_for_other_head_ratios(heads):
    check_against_reference(
        RECTANGLES["odd sizes"], num_heads=heads[0], num_kv_heads=heads[1], head_width=6
    )


def check_against_reference(shape, **sizes):
    """Checks both functions: joint attention, and packed attention of the same completions."""
    rows = rectangle(**shape, **sizes)
    expected = reference_attention(rows)
    with jax.enable_x64(True):
        joint_result = value_and_gradients(joint, rows)
        packed_result = value_and_gradients(partial(packed, longest=shape["lengths"][1]), rows)
    chex.assert_trees_all_close(joint_result, expected, rtol=1e-12, atol=1e-12)
    chex.assert_trees_all_close(packed_result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("longest", [6, 40])
def test_packed_completions_equal_reference_attention(longest, block_size):
    rows = random_rows(
        [5, 2, 4], [[3, 6, 1, 4], [6, 6], [1, 1, 1, 5, 6]], prompt_width=5, completion_width=19
    )
    with jax.enable_x64(True):
        actual = value_and_gradients(partial(packed, longest=longest), rows)
    chex.assert_trees_all_close(actual, reference_attention(rows), rtol=1e-12, atol=1e-12)


def test_padding_of_packed_completions_is_zero_and_has_no_gradient(block_size):
    rows = random_rows([3, 2], [[2, 4], []], prompt_width=3, completion_width=9)
    weights = np.where(np.isin(rows.weights, 0.0), 1.0, rows.weights)  # on padding too
    attention = partial(packed, longest=4, rows=rows)

    def weighted_sum(queries, keys, values):
        result = attention(queries, keys, values)
        return jnp.sum(result[:, 3:] * weights[:, 3:].astype(np.float32)), result

    arguments = [jnp.asarray(x, np.float32) for x in rows[:3]]
    (_, result), gradients = jax.jit(
        jax.value_and_grad(weighted_sum, argnums=(0, 1, 2), has_aux=True)
    )(*arguments)
    chex.assert_tree_all_finite((result, gradients))
    padding = rows.segments < 0
    assert not np.any(np.asarray(result)[:, 3:][padding])
    for gradient in gradients:
        assert not np.any(np.asarray(gradient)[:, 3:][padding])


def test_a_row_without_completions_is_attention_of_the_prompt():
    rows = random_rows([5, 4], [[], []], prompt_width=5, completion_width=0)
    with jax.enable_x64(True):
        actual = value_and_gradients(joint, rows)
    chex.assert_trees_all_close(actual, reference_attention(rows), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(jnp.float32, 2e-6), (jnp.bfloat16, 5e-2)], ids=["float32", "bfloat16"]
)
def test_float32_and_bfloat16_are_close_to_the_reference(dtype, tolerance, block_size):
    rows = rectangle(**RECTANGLES["odd sizes"])
    result, gradients = value_and_gradients(joint, rows, dtype)
    assert result.dtype == dtype
    assert {g.dtype for g in gradients} == {np.dtype(dtype)}
    actual = jax.tree.map(lambda x: np.asarray(x, np.float64), (result, gradients))
    chex.assert_trees_all_close(actual, reference_attention(rows), rtol=0.0, atol=tolerance)


def test_large_scores_do_not_overflow():
    rows = rectangle(**RECTANGLES["odd sizes"])
    rows = rows._replace(queries=rows.queries * 300.0)
    actual = value_and_gradients(joint, rows, np.float32)
    chex.assert_tree_all_finite(actual)
    with jax.enable_x64(True):
        exact = value_and_gradients(joint, rows)
    chex.assert_trees_all_close(exact, reference_attention(rows), rtol=1e-9, atol=1e-9)


def test_scores_of_long_rows_are_not_in_memory_at_once():
    # 1 prompt x 16 completions, 1024 + 3072 tokens, 2 heads: 1.6 GB of scores in float32.
    row, width = 1024 + 16 * 3071, 1024
    shape = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)

    def total(queries, keys, values):
        where = jnp.ones((1, width), bool)
        return jnp.sum(joint_attention(queries, keys, values, prompt_where=where, group_size=16))

    compiled = (
        jax.jit(jax.grad(total, argnums=(0, 1, 2)))
        .lower(shape((1, row, 2, 16)), shape((1, row, 1, 16)), shape((1, row, 1, 16)))
        .compile()
    )
    queries_bytes = 2 * row * 2 * 16 * 4  # queries and their gradient
    assert compiled.memory_analysis().temp_size_in_bytes < 12 * queries_bytes
