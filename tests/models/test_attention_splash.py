"""The splash kernel, interpreted on the CPU and compiled for a described TPU topology."""

import os
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_cases import random_rows, reference_attention
from jax.experimental import topologies

from dvaojax import sharding
from dvaojax.models.attention import joint_attention, packed_attention
from dvaojax.models.attention.backend import choose, describe
from dvaojax.models.attention.splash import GroupMask, SplashLayout
from dvaojax.models.presets import PRESETS

GROUP = SplashLayout(row=512 + 4 * 256, prompt=512, longest=256, packed=False)


def attend(kind, rows, group_size, longest, implementation, queries, keys, values):
    """The result of joint or packed attention."""
    options = {"prompt_where": rows.prompt_where, "implementation": implementation}
    if kind == "joint":
        return joint_attention(queries, keys, values, group_size=group_size, **options)
    return packed_attention(
        queries, keys, values, segments=rows.segments, longest=longest, **options
    )


def random_case(kind, num_prompts=2, num_kv_heads=1):
    """Rows of 150 + 75 tokens, which are two blocks of the kernel, and their attention."""
    lengths = [[25, 25, 25], [25, 25, 25]] if kind == "joint" else [[40, 1, 20], [5, 44]]
    rows = random_rows(
        [150, 64][:num_prompts],
        lengths[:num_prompts],
        prompt_width=150,
        completion_width=75,
        num_heads=2 * num_kv_heads,
        num_kv_heads=num_kv_heads,
        head_width=128,
    )
    return rows, partial(attend, kind, rows, 3, 44, "splash")


def weighted_sum(rows, attention, *arguments):
    result = attention(*arguments)
    return jnp.sum(result * rows.weights.astype(np.float32)), result


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["joint", "packed"])
def test_interpreted_kernel_equals_reference_attention(kind):
    rows, attention = random_case(kind)
    function = partial(weighted_sum, rows, attention)
    with_gradients = jax.jit(jax.value_and_grad(function, argnums=(0, 1, 2), has_aux=True))
    (_, result), gradients = with_gradients(*(jnp.asarray(x, jnp.float32) for x in rows[:3]))
    real = np.concatenate([rows.prompt_where, rows.segments >= 0], axis=1)
    actual = np.where(real[..., None, None], result, 0.0), jax.device_get(gradients)
    chex.assert_trees_all_close(actual, reference_attention(rows), rtol=0.0, atol=1e-5)


def test_each_device_runs_the_kernel_on_its_groups_and_heads():
    rows, attention = random_case("packed", num_kv_heads=2)
    mesh = sharding.make_mesh(
        sharding.MeshConfig(data=2, fsdp=1, tensor=2), devices=jax.devices()[:4]
    )
    whole = [np.asarray(x, np.float32) for x in rows[:3]]
    split = jax.device_put(whole, sharding.named(mesh, "group", None, "heads", None))
    expected = jax.jit(attention)(*whole)
    actual = jax.jit(sharding.on_mesh(mesh, attention))(*split)
    assert actual.sharding.is_equivalent_to(split[0].sharding, actual.ndim)
    chex.assert_trees_all_close(np.asarray(actual), np.asarray(expected), atol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
def test_skipped_blocks_are_masked_entirely(packed):
    layout = SplashLayout(row=300 + 16 * 90, prompt=300, longest=90, packed=packed)
    mask, block = GroupMask(layout), 128
    columns = np.arange(layout.length)
    visible = mask.mask_function(mask.q_sequence[:, None], columns[None])
    kept = 0
    for i, j in np.ndindex(layout.length // block, layout.length // block):
        index = slice(i * block, (i + 1) * block), slice(j * block, (j + 1) * block)
        assert mask[index].all() == visible[index].any()
        kept += int(mask[index].all())
    causal = (layout.length // block + 1) * layout.length / block / 2
    assert kept < 0.75 * causal


def test_mask_function_is_causal_and_separates_completions():
    mask = GroupMask(SplashLayout(row=7 + 3 * 4, prompt=7, longest=4, packed=False))
    visible = mask.mask_function(mask.q_sequence[:, None], np.arange(19)[None])
    for i, j in np.ndindex(19, 19):
        has_same_owner = j < 7 or (i >= 7 and (i - 7) // 4 == (j - 7) // 4)
        assert visible[i, j] == (j <= i and has_same_owner)


def test_backend_depends_on_platform_and_shape():
    bfloat16 = np.dtype(jnp.bfloat16)
    assert choose("auto", "tpu", GROUP, head_width=128, dtype=bfloat16) == "splash"
    assert choose("auto", "tpu", GROUP, head_width=64, dtype=bfloat16) == "blocks"
    assert choose("auto", "tpu", GROUP, head_width=128, dtype="float64") == "blocks"
    assert choose("auto", "cpu", GROUP, head_width=128, dtype="float32") == "blocks"
    assert choose("blocks", "tpu", GROUP, head_width=128, dtype=bfloat16) == "blocks"
    too_long = SplashLayout(row=1 << 20, prompt=1 << 14, longest=1 << 14, packed=True)
    assert choose("auto", "tpu", too_long, head_width=128, dtype=bfloat16) == "blocks"
    with pytest.raises(ValueError, match="does not support float32 heads of width 64"):
        choose("splash", "tpu", GROUP, head_width=64, dtype="float32")
    with pytest.raises(ValueError, match="'flash' must be one of: auto, blocks, splash, cudnn"):
        choose("flash", "tpu", GROUP, head_width=128, dtype="float32")
    line = describe(PRESETS["qwen3-0.6b"], "tpu", GROUP)
    assert line == "attention: splash on tpu (rows of 1536 tokens, heads of 128)"


@pytest.fixture(scope="module")
def tpus():
    """Four chips of a v5e slice, described by libtpu."""
    pytest.importorskip("libtpu", reason="libtpu is not installed (extra `plan`)")
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # do not look for a real slice
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices


@pytest.mark.parametrize("kind", ["joint", pytest.param("packed", marks=pytest.mark.slow)])
def test_compiles_for_a_tpu_slice(tpus, kind):
    # Two groups of 512 + 4 x 256 tokens on a mesh of 2 x 2: groups and heads are split.
    mesh = sharding.make_mesh(sharding.MeshConfig(data=2, fsdp=1, tensor=2), devices=tpus)
    by_head = sharding.named(mesh, "group", None, "heads", None)
    by_group = sharding.named(mesh, "group", None)
    where = jax.ShapeDtypeStruct((2, 512), bool, sharding=by_group)
    segments = jax.ShapeDtypeStruct((2, 1024), jnp.int32, sharding=by_group)
    queries, keys = (
        jax.ShapeDtypeStruct((2, GROUP.row, heads, 128), jnp.bfloat16, sharding=by_head)
        for heads in (4, 2)
    )

    def total(queries, keys, values, where, segments):
        options = {"prompt_where": where}
        if kind == "joint":
            result = joint_attention(queries, keys, values, group_size=4, **options)
        else:
            result = packed_attention(
                queries, keys, values, segments=segments, longest=256, **options
            )
        return jnp.sum(result.astype(jnp.float32))

    function = sharding.on_mesh(mesh, jax.grad(total, argnums=(0, 1, 2)))
    compiled = jax.jit(function).lower(queries, keys, keys, where, segments).compile()
    text = compiled.as_text()
    kernels = [line for line in text.splitlines() if "tpu_custom_call" in line]
    # Forward, gradient of queries, of keys and values; and the cotangent by head.
    assert sum("splash_mha_" in line for line in kernels) == 3
    assert sum("divide_heads" in line for line in kernels) == len(kernels) - 3 == 1
    assert "all-gather" not in text
    # Less than the scores of one group and one head: 1536 x 1536 in float32.
    assert compiled.memory_analysis().temp_size_in_bytes < 1536 * 1536 * 4
