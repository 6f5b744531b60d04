"""FLOPs and memory traffic, against loops over tokens and against the compiler's counts."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dvaojax import models
from dvaojax.models import flops
from dvaojax.models.config import ModelConfig
from dvaojax.models.flops import Lengths, full_lengths

SMALL = ModelConfig(
    vocab_size=31,
    width=12,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_width=6,
    ff_width=20,
    compute_dtype="bfloat16",
)
SHAPES = {
    "tied": SMALL,
    "untied": dataclasses.replace(SMALL, tied_head=False),
    "biased": dataclasses.replace(SMALL, attention_bias=True, qk_norm=False),
}
RAGGED = Lengths(np.array([5, 3]), np.array([[4, 1, 0], [2, 7, 7]]))


@pytest.fixture(params=SHAPES)
def config(request):
    return SHAPES[request.param]


@functools.cache
def products(config):
    """Number of weights of one layer's matrix products, and of the head, from the arrays."""
    shapes = jax.eval_shape(lambda: models.init(config, jax.random.key(0)))
    names = ("query", "key", "value", "output", "gate", "up", "down")
    in_layers = sum(math.prod(shapes["layers"][name].shape) for name in names)
    head = math.prod(shapes.get("head", shapes["embedding"]).shape)
    return in_layers // config.num_layers, head


def one_token(config, *, keys):
    """FLOPs of all layers on one token that attends to `keys` keys, counted in a loop."""
    count = 0
    for _layer in range(config.num_layers):
        count += 2 * products(config)[0]
        for _head in range(config.num_heads):
            for _key in range(keys):
                count += 2 * config.head_width  # its score
                count += 2 * config.head_width  # its weighted value
    return count


def by_loop(config, lengths):
    """FLOPs of prefill, decoding and the training forward pass, token by token."""
    head = 2 * products(config)[1]
    prefill = decode = forward = 0
    for prompt, group in zip(lengths.prompts, lengths.completions, strict=True):
        layers = sum(one_token(config, keys=position + 1) for position in range(prompt))
        prefill += layers + head
        forward += layers
        for completion in group:
            for position in range(completion):
                forward += head
                if position > 0:  # the previous token is run to predict this one
                    step = one_token(config, keys=prompt + position)
                    decode += step + head
                    forward += step
    return prefill, decode, forward


def test_real_tokens_are_prompts_counted_once_and_completions():
    assert RAGGED.tokens == 5 + 3 + 4 + 1 + 2 + 7 + 7


def test_number_of_parameters(config):
    in_layers, head = products(config)
    count = config.num_layers * in_layers + head * (1 if config.tied_head else 2)
    count += (2 * config.num_layers + 1) * config.width
    if config.qk_norm:
        count += config.num_layers * 2 * config.head_width
    if config.attention_bias:
        heads = config.num_heads + 2 * config.num_kv_heads
        count += config.num_layers * heads * config.head_width
    assert flops.num_params(config) == count


def test_flops_equal_a_loop_over_tokens(config):
    prefill, decode, forward = by_loop(config, RAGGED)
    assert flops.prefill_flops(config, RAGGED) == prefill
    assert flops.decode_flops(config, RAGGED) == decode
    assert flops.forward_flops(config, RAGGED) == forward
    assert flops.train_flops(config, RAGGED) == 3 * forward


def test_bytes_equal_a_loop_over_decoding_steps(config):
    size = jnp.dtype(config.compute_dtype).itemsize
    per_token = 2 * config.num_layers * config.num_kv_heads * config.head_width
    read = 0
    for step in range(1, RAGGED.completions.max()):
        cached = 0
        for prompt, group in zip(RAGGED.prompts, RAGGED.completions, strict=True):
            unfinished = [length for length in group if length > step]
            cached += prompt * bool(unfinished) + step * len(unfinished)
        assert flops.decode_step_bytes(config, cached_tokens=cached) == size * (
            config.num_layers * products(config)[0] + products(config)[1] + cached * per_token
        )
        read += flops.decode_step_bytes(config, cached_tokens=cached)
    assert flops.decode_bytes(config, RAGGED) == read


def test_a_step_without_completions_only_prefills():
    empty = RAGGED._replace(completions=np.zeros((2, 3), int))
    assert flops.decode_flops(SMALL, empty) == flops.decode_bytes(SMALL, empty) == 0
    assert flops.prefill_flops(SMALL, empty) == flops.prefill_flops(SMALL, RAGGED)


def test_a_group_computes_its_prompt_once():
    def forward(group_size):
        lengths = full_lengths(
            num_prompts=2, group_size=group_size, prompt_length=50, completion_length=4
        )
        return flops.forward_flops(SMALL, lengths)

    prompt_flops = 2 * forward(1) - forward(2)
    assert (
        prompt_flops
        == flops.prefill_flops(
            SMALL, full_lengths(num_prompts=2, group_size=1, prompt_length=50, completion_length=0)
        )
        - 2 * 2 * products(SMALL)[1]
    )


def test_counts_of_large_steps_do_not_overflow():
    width = 10**5
    huge = dataclasses.replace(SMALL, width=width, ff_width=width)

    def train(num_prompts):
        lengths = full_lengths(
            num_prompts=num_prompts, group_size=64, prompt_length=1024, completion_length=8192
        )
        return flops.train_flops(huge, lengths)

    assert train(1024) == 1024 * train(1) > 2**63


# Wide and short, so that matrix products dominate the compiler's count of all operations. One
# layer, because the compiler counts the body of a loop once.
WIDE = ModelConfig(
    vocab_size=512,
    width=128,
    num_layers=1,
    num_heads=4,
    num_kv_heads=2,
    head_width=32,
    ff_width=512,
)


def counted_flops(function, *arguments):
    return jax.jit(function).lower(*arguments).cost_analysis()["flops"]


def test_agrees_with_the_compiler_within_ten_percent():
    prompts, group, length, completion = 2, 4, 8, 9
    lengths = full_lengths(
        num_prompts=prompts, group_size=group, prompt_length=length, completion_length=completion
    )
    params = models.init(WIDE, jax.random.key(0))
    prompt_tokens = jnp.ones((prompts, length), jnp.int32)
    prompt_lengths = jnp.full((prompts,), length, jnp.int32)
    tokens = jnp.ones((prompts, group, completion), jnp.int32)

    def forward(params):
        model = models.apply(WIDE, params)
        return jnp.sum(jnp.sin(model.logits(model(prompt_tokens, prompt_lengths, tokens))))

    counted = counted_flops(forward, params)
    assert counted == pytest.approx(flops.forward_flops(WIDE, lengths), rel=0.1)
    trained = counted_flops(jax.grad(forward), params)
    assert trained == pytest.approx(flops.train_flops(WIDE, lengths), rel=0.1)


@pytest.mark.parametrize(
    "lengths",
    [
        Lengths(np.array([[5, 3]]), RAGGED.completions),
        Lengths(RAGGED.prompts, np.array([4, 2])),
        Lengths(np.array([5, 3, 1]), RAGGED.completions),
    ],
)
def test_rejects_lengths_of_a_wrong_shape(lengths):
    with pytest.raises(AssertionError):
        flops.train_flops(SMALL, lengths)
