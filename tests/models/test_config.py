"""Every field of `ModelConfig` has an effect, and invalid values are rejected."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_oracle import QWEN3, random_groups, random_params

from dvaojax import models
from dvaojax.models import RopeScaling
from dvaojax.models.cache import empty_cache

CHANGES = {
    "vocab_size": 29,
    "width": 12,
    "num_layers": 3,
    "num_heads": 6,
    "num_kv_heads": 4,
    "head_width": 8,
    "ff_width": 24,
    "rope_theta": 1000.0,
    "rope_scaling": RopeScaling(8.0, slow_turns=0.1, fast_turns=0.4, original_length=8),
    "norm_epsilon": 1e-2,
    "qk_norm": False,
    "attention_bias": True,
    "tied_head": False,
    "param_dtype": "bfloat16",
    "compute_dtype": "bfloat16",
    "remat": "layer",
    "layer_loop": "unrolled",
    "attention": "blocks",
    "decode_attention": "einsum",
    "logits_chunk": 8,
    "logits_backward": "keep",
}


def logits(config, params):
    model = models.apply(config, params)
    groups = random_groups(QWEN3, lengths=[4, 2], width=4, group_size=2, completion_length=3)
    return model.logits(model(*groups))


@pytest.fixture(scope="module")
def base():
    params = random_params(QWEN3)
    return params, np.asarray(jax.jit(lambda p: logits(QWEN3, p))(params))


def test_every_field_has_a_change():
    assert set(CHANGES) == {field.name for field in dataclasses.fields(QWEN3)}


# These change the memory, see test_stacking.py, test_logprobs.py and test_policy_loss.py, and the
# backend of attention, see test_attention_splash.py and test_decode_attention.py.
SAME_RESULT = {
    "remat", "layer_loop", "attention", "decode_attention", "logits_chunk", "logits_backward",
}  # fmt: skip


@pytest.mark.parametrize("field", sorted(set(CHANGES) - SAME_RESULT))
def test_changing_a_field_changes_the_parameters_or_the_logits(field, base):
    config = dataclasses.replace(QWEN3, **{field: CHANGES[field]})
    params = random_params(config)
    shapes = jax.tree.map(lambda a: (a.shape, a.dtype), params)
    if shapes != jax.tree.map(lambda a: (a.shape, a.dtype), base[0]):
        chex.assert_shape(
            jax.eval_shape(lambda p: logits(config, p), params), (2, 2, 3, config.vocab_size)
        )
    else:
        difference = np.asarray(jax.jit(lambda p: logits(config, p))(params)) - base[1]
        assert np.abs(difference).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_kv_heads": 3}, r"num_kv_heads=3 must divide num_heads=4"),
        ({"num_kv_heads": 0}, r"num_kv_heads=0 must be positive"),
        ({"num_layers": 0}, r"num_layers=0 must be positive"),
        ({"norm_epsilon": float("nan")}, r"norm_epsilon=nan must be positive"),
        ({"head_width": 5}, r"head_width=5 must be even"),
        ({"param_dtype": "float16"}, r"param_dtype='float16' must be one of: float32, bfloat16"),
        ({"compute_dtype": "int8"}, r"compute_dtype='int8' must be one of"),
        ({"remat": "full"}, r"remat='full' must be one of: none, products_and_attention"),
        ({"attention": "flash"}, r"attention='flash' must be one of: auto, blocks, splash"),
    ],
)
def test_rejects_invalid_decoders(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(QWEN3, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factor": 0.0}, r"rope_scaling.factor=0.0 must be positive"),
        ({"original_length": -1}, r"rope_scaling.original_length=-1 must be positive"),
        ({"fast_turns": 1.0}, r"slow_turns=1.0 must be less than fast_turns=1.0"),
    ],
)
def test_rejects_invalid_rope_scaling(change, message):
    scaling = RopeScaling(8.0, slow_turns=1.0, fast_turns=4.0, original_length=8192)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(scaling, **change)


@pytest.mark.slow
def test_bfloat16_compute_keeps_parameters_gradients_and_logits_in_float32():
    config = dataclasses.replace(
        QWEN3, attention_bias=True, tied_head=False, compute_dtype="bfloat16"
    )
    params = random_params(config)
    groups = random_groups(config, lengths=[4, 2], width=4, group_size=2, completion_length=3)

    def logprobs(config, params):
        model = models.apply(config, params)
        hidden = model(*groups)
        chex.assert_type([hidden, model.output_matrix()], config.compute_dtype)
        logp, _ = models.token_logprobs(hidden, model.output_matrix(), groups.completions)
        chex.assert_type([model.logits(hidden), logp], jnp.float32)
        return jnp.sum(logp), logp

    (_, logp), gradient = jax.jit(jax.value_and_grad(lambda p: logprobs(config, p), has_aux=True))(
        params
    )
    chex.assert_type(jax.tree.leaves((params, gradient)), jnp.float32)
    wide = dataclasses.replace(config, compute_dtype="float32")
    _, expected = jax.jit(lambda p: logprobs(wide, p))(params)
    # Eight bits of mantissa and about twenty roundings; the second check is that it is not float32.
    np.testing.assert_allclose(logp, expected, atol=0.1)
    assert np.abs(logp - expected).max() > 1e-4


def test_caches_have_the_compute_dtype():
    config = dataclasses.replace(QWEN3, compute_dtype="bfloat16")

    def decode(params):
        model = models.apply(config, params)
        _, prompt_caches = model.prefill(jnp.zeros((2, 4), jnp.int32))
        caches = empty_cache(config, num_prompts=2, group_size=3, length=5)
        tokens, ends, lengths = (
            jnp.zeros((2, 3), jnp.int32),
            jnp.ones((2, 3), jnp.int32),
            jnp.ones(2, jnp.int32),
        )
        decoding_model = models.unrolled(model)
        return prompt_caches, decoding_model.decode(
            tokens, jnp.int32(0), ends, lengths, prompt_caches, caches
        )

    out = jax.eval_shape(decode, random_params(config))
    chex.assert_type(jax.tree.leaves(out), jnp.bfloat16)


@pytest.mark.slow
def test_bfloat16_gradients_of_many_equal_tokens_are_summed_exactly():
    # In bfloat16, a sum of equal numbers would stop growing at 256 times their size.
    count = 512
    config = dataclasses.replace(
        QWEN3, num_layers=1, tied_head=False, compute_dtype="bfloat16", head_width=2
    )
    params = random_params(config)
    for name in ("output", "down"):  # so that the layer adds nothing
        params["layers"][name][:] = 0.0

    @jax.jit
    def gradient(tokens):
        def last(embedding):
            hidden, _ = models.apply(config, params | {"embedding": embedding}).prefill(tokens)
            return jnp.sum(hidden[..., 0].astype(jnp.float32))

        return jax.grad(last)(params["embedding"])

    one = gradient(np.full((1, 1), 5, np.int32))
    many = gradient(np.full((1, count), 5, np.int32))
    chex.assert_trees_all_close(many, count * one, rtol=1e-2)
