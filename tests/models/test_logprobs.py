"""Chunked log-probabilities against unchunked ones, and their memory."""

import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dvaojax.models import token_logprobs

SHAPE, WIDTH, VOCABULARY = (2, 3, 7), 5, 11


@pytest.fixture(scope="module")
def inputs():
    generator = np.random.default_rng(0)
    hidden = generator.normal(size=(*SHAPE, WIDTH)).astype(np.float32)
    matrix = generator.normal(size=(WIDTH, VOCABULARY)).astype(np.float32)
    return hidden, matrix, generator.integers(0, VOCABULARY, SHAPE).astype(np.int32)


def loop(hidden, matrix, tokens, temperature):
    """Log-probabilities and entropies, one token after another in float64."""
    out = np.empty((2, *tokens.shape))
    for index in np.ndindex(tokens.shape):
        scores = hidden[index].astype(np.float64) @ matrix / temperature
        probabilities = np.exp(scores) / np.exp(scores).sum()
        out[(0, *index)] = np.log(probabilities[tokens[index]])
        out[(1, *index)] = -sum(p * np.log(p) for p in probabilities)
    return out


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.3])
@pytest.mark.parametrize("chunk_size", [1, 8, 4096])
def test_against_a_loop(inputs, temperature, chunk_size):
    function = partial(token_logprobs, temperature=temperature, chunk_size=chunk_size)
    logp, entropy = jax.jit(function)(*inputs)
    chex.assert_shape([logp, entropy], SHAPE)
    chex.assert_type([logp, entropy], jnp.float32)
    np.testing.assert_allclose([logp, entropy], loop(*inputs, temperature), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk_size", [1, 6, 8, 42])
def test_chunked_equals_unchunked_in_gradient(inputs, chunk_size):
    # Two rows of 21 tokens in chunks of 1, 3, 4 (which does not divide 21) and 21 tokens of a row.
    *arrays, tokens = inputs
    weights = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)

    def total(hidden, matrix):
        scores = jnp.einsum("...d,dv->...v", hidden, matrix) / 0.7
        logp = jax.nn.log_softmax(scores)
        return jnp.sum(jnp.take_along_axis(logp, tokens[..., None], axis=-1)[..., 0] * weights)

    def chunked_total(hidden, matrix):
        logp, _ = token_logprobs(hidden, matrix, tokens, temperature=0.7, chunk_size=chunk_size)
        return jnp.sum(logp * weights)

    expected, actual = (
        jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(*arrays) for f in (total, chunked_total)
    )
    chex.assert_trees_all_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_entropy_has_no_gradient(inputs):
    *arrays, tokens = inputs
    gradient = jax.jit(
        jax.grad(lambda *pair: jnp.sum(token_logprobs(*pair, tokens)[1]), argnums=(0, 1))
    )(*arrays)
    chex.assert_trees_all_equal(gradient, jax.tree.map(np.zeros_like, tuple(arrays)))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_rejects_temperatures_that_are_not_positive(inputs, temperature):
    with pytest.raises(ValueError, match=r"temperature=.* must be positive"):
        token_logprobs(*inputs, temperature=temperature)


def test_rejects_shapes_that_do_not_match(inputs):
    hidden, matrix, tokens = inputs
    for wrong in ((hidden[:1], matrix, tokens), (hidden, matrix.T, tokens)):
        with pytest.raises(AssertionError):
            token_logprobs(*wrong)


def compiled_gradient(batch, length, vocabulary, chunk_size, sharding=None):
    """The compiled value and gradient of a sum of log-probabilities."""
    replicated = None if sharding is None else NamedSharding(sharding.mesh, PartitionSpec())
    hidden = jax.ShapeDtypeStruct((batch, length, 16), jnp.float32, sharding=sharding)
    matrix = jax.ShapeDtypeStruct((16, vocabulary), jnp.float32, sharding=replicated)
    tokens = jax.ShapeDtypeStruct((batch, length), jnp.int32, sharding=sharding)

    def total(hidden, matrix, tokens):
        return jnp.sum(token_logprobs(hidden, matrix, tokens, chunk_size=chunk_size)[0])

    return (
        jax.jit(jax.value_and_grad(total, argnums=(0, 1))).lower(hidden, matrix, tokens).compile()
    )


def test_chunks_bound_the_memory_of_value_and_gradient():
    batch, length, vocabulary, chunk_size = 4, 256, 2000, 32
    full = batch * length * vocabulary * 4  # bytes of all the logits
    chunked_bytes, unchunked_bytes = (
        compiled_gradient(batch, length, vocabulary, size).memory_analysis().temp_size_in_bytes
        for size in (chunk_size, batch * length)
    )
    assert unchunked_bytes > full
    assert chunked_bytes < full / 4  # several copies of a chunk, which has 1/32 of the logits


def test_devices_share_every_chunk():
    # If a chunk belonged to one device, every device would compute all chunks in sequence.
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    program = compiled_gradient(
        8, 16, 211, 32, NamedSharding(mesh, PartitionSpec("data"))
    ).as_text()
    logits = {tuple(map(int, s.split(","))) for s in re.findall(r"f32\[([\d,]+),211\]", program)}
    assert (4,) in logits
    assert max(np.prod(shape) for shape in logits) <= 16  # the matrix itself is the largest
    assert "all-gather" not in program
