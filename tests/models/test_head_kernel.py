"""The TPU kernels before and after attention, interpreted, against the layer's own steps."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_oracle import QWEN3

from dvaojax import models, sharding
from dvaojax.models import layers
from dvaojax.models.attention import has_head_kernel, joint_attention
from dvaojax.models.attention.merge_kernel import rows_of_heads
from dvaojax.models.layers import Layer

WIDE = dataclasses.replace(
    QWEN3, num_layers=1, num_heads=4, num_kv_heads=2, head_width=128, attention="splash"
)
SLOW = pytest.mark.slow
SHAPE = (2, 48)  # three steps of 16 tokens for each row


def case(config):
    """A function of parameters and states, by the layer and by the kernel, and its arguments."""
    generator = np.random.default_rng(0)
    params = jax.tree.map(
        lambda a: jnp.asarray(generator.normal(size=a.shape), a.dtype), models.shapes(config)
    )
    tokens = SHAPE[0] * SHAPE[1]
    x = jnp.asarray(generator.normal(size=(tokens, config.width)), config.compute_dtype)
    positions = jnp.asarray(generator.integers(0, 500, tokens), jnp.int32)
    heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
    weights = [generator.normal(size=(*SHAPE, count, 128)) for count in heads]

    def total(has_kernel, params, x):
        layer: Layer = models.apply(config, params).unstacked()[0]
        matrices, angles = layer.matrices(), layers.rotation(positions, config)
        if has_kernel:
            projected = layer.project_rows(x, angles, matrices, shape=SHAPE)
        else:
            queries, *others = layer.project(x, angles, matrices)
            scaled = (queries.astype(jnp.float32) * 128**-0.5).astype(queries.dtype)
            projected = tuple(a.reshape(*SHAPE, *a.shape[1:]) for a in (scaled, *others))
        wide = [a.astype(jnp.float32) for a in projected]
        terms = [jnp.sum(a * w.astype(np.float32)) for a, w in zip(wide, weights, strict=True)]
        return sum(terms), wide

    return total, (params, x)


def evaluate(total, has_kernel, arguments, mesh=None):
    function = jax.value_and_grad(partial(total, has_kernel), argnums=(0, 1), has_aux=True)
    function = function if mesh is None else sharding.on_mesh(mesh, function)
    (_, heads), gradients = jax.jit(function)(*arguments)
    return heads, gradients


@pytest.mark.parametrize(
    "family",
    [
        pytest.param({}, id="qwen3"),
        pytest.param({"qk_norm": False, "attention_bias": True}, id="qwen2", marks=SLOW),
    ],
)
def test_the_kernel_equals_the_layer_with_gradients(family):
    total, arguments = case(dataclasses.replace(WIDE, **family))
    actual, expected = (evaluate(total, has_kernel, arguments) for has_kernel in (True, False))
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-4)
    largest = max(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(expected[1]))
    assert largest > 1.0


@SLOW
def test_bfloat16_is_rounded_where_the_layer_rounds():
    config = dataclasses.replace(WIDE, compute_dtype="bfloat16")
    total, arguments = case(config)
    (actual, gradients), (expected, others) = (
        evaluate(total, has_kernel, arguments) for has_kernel in (True, False)
    )
    differing = [np.mean(np.asarray(a) != b) for a, b in zip(actual, expected, strict=True)]
    assert max(differing) < 0.01
    chex.assert_trees_all_close(actual, expected, rtol=2.0**-6, atol=2.0**-6)
    norms = [np.asarray(tree[0]["layers"]["query_norm"]["scale"]) for tree in (gradients, others)]
    chex.assert_trees_all_close(*norms, rtol=0.02, atol=0.02 * float(np.abs(norms[1]).max()))


@SLOW
def test_each_device_has_its_groups_and_heads():
    total, arguments = case(WIDE)
    mesh = sharding.make_mesh(
        sharding.MeshConfig(data=2, fsdp=1, tensor=2), devices=jax.devices()[:4]
    )
    whole = jax.device_put(arguments, sharding.named(mesh))
    actual = evaluate(total, True, whole, mesh)
    expected = evaluate(total, True, arguments)
    chex.assert_trees_all_close(
        jax.device_get(actual), jax.device_get(expected), rtol=1e-4, atol=1e-4
    )


def test_heads_are_joined_and_their_cotangents_split_by_head():
    generator = np.random.default_rng(0)
    heads = jnp.asarray(generator.normal(size=(2, 3, 48, 128)), jnp.bfloat16)  # three steps a row
    rows, transpose = jax.vjp(lambda x: rows_of_heads(x, interpret=True), heads)
    plain, transpose_plainly = jax.vjp(lambda x: jnp.swapaxes(x, 1, 2).reshape(96, 384), heads)
    chex.assert_trees_all_equal(rows, plain)
    cotangent = jnp.asarray(generator.normal(size=rows.shape), jnp.bfloat16)
    chex.assert_trees_all_equal(transpose(cotangent), transpose_plainly(cotangent))


def test_the_kernel_needs_splash_and_whole_tiles():
    rows = {"prompt": 128, "longest": 64, "packed": False}
    assert has_head_kernel(WIDE, row=256, **rows)
    assert not has_head_kernel(WIDE, row=250, **rows)
    blocks = dataclasses.replace(WIDE, attention="blocks")
    assert not has_head_kernel(blocks, row=256, **rows)
    queries = jnp.zeros((1, 8, 2, 8))
    with pytest.raises(ValueError, match=r"factor=1\.0 of queries needs attention 'splash'"):
        joint_attention(
            queries, queries, queries,
            prompt_where=jnp.ones((1, 4), bool), group_size=2, factor=1.0,
        )  # fmt: skip
