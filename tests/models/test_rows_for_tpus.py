"""Training passes on TPUs: rows of whole blocks, and rotation by a product."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_oracle import QWEN3, random_params

from dvaojax import models, sharding
from dvaojax.models import layers
from dvaojax.models.attention import backend, completion_padding, joint_attention, row_padding
from dvaojax.models.config import checkpointed
from dvaojax.plan import described
from dvaojax.plan.chips import parse_slice

WIDE = dataclasses.replace(QWEN3, num_layers=2, num_heads=2, num_kv_heads=1, head_width=128)


def states(config, params, *, packed, prompt=130, completions=(2, 4, 32)):
    """The states of two groups of 4 x 31 tokens after prompts of 130 columns."""
    generator = np.random.default_rng(0)
    prompts, completions = (
        generator.integers(0, config.vocab_size, shape).astype(np.int32)
        for shape in ((2, prompt), completions)
    )
    lengths = np.array([prompt, 97], np.int32)
    decoder = models.apply(config, params)
    if not packed:
        return decoder.joint_states(prompts, lengths, completions)
    tokens = completions[:, :, :-1].reshape(2, -1)
    offsets = np.broadcast_to(np.arange(124, dtype=np.int32) % 31, tokens.shape)
    segments = np.broadcast_to(np.arange(124, dtype=np.int32) // 31, tokens.shape)
    return decoder.packed_states(prompts, lengths, tokens, offsets, segments, longest=31)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_rows_are_padded_once_for_the_kernel_and_not_in_its_calls(packed):
    """Rows of 254 tokens become two blocks of 128: the same states, no other padding."""
    params = random_params(WIDE)
    blocks, splash = (
        jax.jit(partial(states, dataclasses.replace(WIDE, attention=name), packed=packed))
        for name in ("blocks", "splash")
    )
    program = splash.lower(params).as_text()
    assert "2x254x" not in program
    assert "512x" in program  # the tokens of both rows
    chex.assert_trees_all_close(splash(params), blocks(params), rtol=1e-4, atol=1e-4)
    chex.assert_shape(splash(params)[1], (2, 124, WIDE.width))


@pytest.mark.slow
def test_completions_are_whole_blocks_where_few_tokens_make_them_so():
    """Rows of 128 + 2 x 126 tokens, 2 more for each completion: the same states."""
    params = random_params(WIDE)
    blocks, splash = (
        jax.jit(
            partial(
                states,
                dataclasses.replace(WIDE, attention=name),
                packed=False,
                prompt=128,
                completions=(2, 2, 127),
            )
        )
        for name in ("blocks", "splash")
    )
    assert "768x" in splash.lower(params).as_text()  # the tokens of both rows
    chex.assert_trees_all_close(splash(params), blocks(params), rtol=1e-4, atol=1e-4)
    chex.assert_shape(splash(params)[1], (2, 252, WIDE.width))


def test_padding_is_small_or_left_to_the_kernel(monkeypatch):
    monkeypatch.setattr(backend, "platform", lambda: "tpu")
    config = dataclasses.replace(WIDE, compute_dtype="bfloat16")
    padding = partial(row_padding, prompt=1024, longest=1023, packed=False)
    assert padding(config, row=1024 + 16 * 1023) == 16  # 34 blocks of 512
    assert padding(config, row=17 * 1024) == 0
    more = partial(completion_padding, config, prompt=1024, group=16)
    assert more(length=1023) == 1  # 17 x 1024
    assert more(length=1150) == 2
    assert more(length=1024) == more(length=100) == more(length=1100) == 0
    assert completion_padding(config, prompt=1000, group=16, length=1023) == 0
    assert padding(config, row=1024 + 3 * 1023) == 3
    assert padding(config, row=2100) == 0  # 460 more tokens would take a fifth of the time
    assert padding(dataclasses.replace(config, attention="blocks"), row=17_392) == 0
    monkeypatch.undo()
    assert padding(config, row=17_392) == 0


def test_rotation_by_a_product_is_the_rotation_of_halves(monkeypatch):
    angles = layers.rotation(jnp.arange(40, dtype=jnp.int32) * 37, WIDE)
    generator = np.random.default_rng(0)
    x, weights = (jnp.asarray(generator.normal(size=(40, 3, 128)), jnp.bfloat16) for _ in range(2))

    def total(x):
        rotated = layers.rotate(x, angles)
        return jnp.sum(rotated.astype(jnp.float32) * weights.astype(jnp.float32)), rotated

    def evaluate():
        return jax.jit(jax.value_and_grad(total, has_aux=True))(x)

    halves = evaluate()
    monkeypatch.setattr(layers, "platform", lambda: "tpu")
    assert "dot_general" in jax.jit(total).lower(x).as_text()
    product = evaluate()
    chex.assert_trees_all_close(product[0][1], halves[0][1], atol=1e-6)  # exact before rounding
    chex.assert_trees_all_close(product[1], halves[1], rtol=2.0**-6, atol=2.0**-6)


@pytest.mark.slow
def test_the_kernels_result_is_kept_where_remat_keeps_attention():
    """Forward, gradients of queries and of keys and values; forward again if it is not kept."""
    pytest.importorskip("libtpu", reason="libtpu is not installed (extra `plan`)")
    described.set_environment()
    mesh = sharding.make_mesh(
        sharding.MeshConfig(data=1), devices=described.slice_devices(parse_slice("v5e:1x1"))
    )
    everywhere = sharding.named(mesh)
    queries, keys = (
        jax.ShapeDtypeStruct((1, 1536, heads, 128), jnp.bfloat16, sharding=everywhere)
        for heads in (2, 1)
    )

    def calls(remat):
        config = dataclasses.replace(WIDE, remat=remat)

        def total(queries, keys, values):
            options = {"prompt_where": jnp.ones((1, 512), bool), "group_size": 4}
            attend = checkpointed(partial(joint_attention, **options), config, is_scanned=False)
            return jnp.sum(attend(queries, keys, values).astype(jnp.float32) ** 2)

        gradient = jax.value_and_grad(total, argnums=(0, 1, 2))
        lowered = jax.jit(sharding.on_mesh(mesh, gradient)).lower(queries, keys, keys)
        return lowered.compile().as_text().count('custom_call_target="tpu_custom_call"')

    # Splash attention and the layout of its result, forward and backward; two kernels backward.
    assert calls("attention") == 5
    assert calls("products") == 6
