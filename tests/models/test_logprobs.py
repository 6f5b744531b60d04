"""Chunked log-probabilities against unchunked ones in float64, their memory and their products."""

import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dvaojax import sharding
from dvaojax.models import token_logprobs
from dvaojax.models.config import LOGITS_BACKWARD
from dvaojax.sharding import MeshConfig

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


@pytest.mark.parametrize("backward", LOGITS_BACKWARD)
@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.3])
@pytest.mark.parametrize("chunk_size", [1, 8, 4096])
def test_against_a_loop(inputs, temperature, chunk_size, backward):
    function = partial(
        token_logprobs, temperature=temperature, chunk_size=chunk_size, backward=backward
    )
    logp, entropy = jax.jit(function)(*inputs)
    chex.assert_shape([logp, entropy], SHAPE)
    chex.assert_type([logp, entropy], jnp.float32)
    np.testing.assert_allclose([logp, entropy], loop(*inputs, temperature), atol=1e-5, rtol=1e-5)


def plain_logprobs(hidden, matrix, tokens, temperature):
    """Log-probabilities for automatic differentiation: no chunks, no custom backward pass."""
    logprobs = jax.nn.log_softmax(jnp.einsum("...d,dv->...v", hidden, matrix) / temperature)
    return jnp.take_along_axis(logprobs, tokens[..., None], axis=-1)[..., 0]


def wide_inputs(scale, vocabulary=300):
    """Float64 inputs whose logits differ by about `10 * scale` nats."""
    generator = np.random.default_rng(3)
    hidden = generator.normal(size=(*SHAPE, WIDTH)) * scale
    matrix = generator.normal(size=(WIDTH, vocabulary))
    tokens = generator.integers(0, vocabulary, SHAPE).astype(np.int32)
    tokens[0] = np.argmax(hidden[0] @ matrix, axis=-1)  # probabilities near one
    return hidden, matrix, tokens


# Two rows of 21 tokens in chunks of 1, 3, 4 (which does not divide 21) and 21 tokens of a row; for
# "keep" these are 21 (at most one for 128 columns), 7, 6 and 1 tiles.
@pytest.mark.parametrize("backward", LOGITS_BACKWARD)
@pytest.mark.parametrize("chunk_size", [1, 6, 8, 42])
def test_gradients_are_those_of_automatic_differentiation_in_float64(chunk_size, backward):
    weights = np.random.default_rng(1).normal(size=SHAPE)
    weights[:, :, 4:] = 0.0  # ragged: tokens outside the loss have no cotangent
    weights[1, 2] = 0.0
    with jax.enable_x64(True):
        for scale, temperature in ((1.0, 1.0), (0.3, 0.6), (60.0, 1.3)):  # logits 800 nats apart
            *arrays, tokens = wide_inputs(scale)
            measure = partial(
                token_logprobs, temperature=temperature, chunk_size=chunk_size, backward=backward
            )
            expected, actual = (
                jax.jit(jax.value_and_grad(lambda *pair, f=f: jnp.sum(f(*pair) * weights), (0, 1)))(
                    *arrays
                )
                for f in (
                    partial(plain_logprobs, tokens=tokens, temperature=temperature),
                    lambda *pair, f=measure, t=tokens: f(*pair, t)[0],
                )
            )
            chex.assert_trees_all_close(actual, expected, rtol=1e-11, atol=1e-11)
            assert np.abs(expected[1][1]).max() > 1e-3


@pytest.mark.parametrize("backward", LOGITS_BACKWARD)
def test_gradients_are_finite_differences(backward):
    with jax.enable_x64(True):
        hidden, matrix, tokens = wide_inputs(1.0, vocabulary=140)
        measure = partial(token_logprobs, temperature=0.8, chunk_size=8, backward=backward)
        total = jax.jit(lambda *pair: jnp.sum(jnp.sin(measure(*pair, tokens)[0])))
        jax.test_util.check_grads(total, (hidden, matrix), order=1, modes=["rev"], rtol=1e-7)


@pytest.mark.parametrize("backward", LOGITS_BACKWARD)
def test_bfloat16_gradients_are_as_precise_as_their_inputs(backward):
    """Summed over chunks in float32: many chunks are no worse than one, nor than one rounding."""
    generator = np.random.default_rng(5)
    hidden = jnp.asarray(generator.normal(size=(1, 2048, 16)), jnp.bfloat16)
    matrix = jnp.asarray(generator.normal(size=(16, 256)), jnp.bfloat16)
    tokens = generator.integers(0, 256, (1, 2048)).astype(np.int32)
    weights = np.ones((1, 2048), np.float32)

    def gradient(function, *arrays):
        return jax.jit(jax.grad(lambda *pair: jnp.sum(function(*pair) * weights), (0, 1)))(*arrays)

    wide = [np.asarray(x, np.float32) for x in (hidden, matrix)]
    exact = gradient(partial(plain_logprobs, tokens=tokens, temperature=1.0), *wide)

    def errors(chunk_size):
        measure = partial(token_logprobs, chunk_size=chunk_size, backward=backward)
        actual = gradient(lambda *pair: measure(*pair, tokens)[0], hidden, matrix)
        chex.assert_type(actual, jnp.bfloat16)
        norm = np.linalg.norm
        return [norm(np.float32(a) - e) / norm(e) for a, e in zip(actual, exact, strict=True)]

    for many, one in zip(errors(8), errors(2048), strict=True):
        assert many < 1.2 * one + 1e-4
        assert many < 2.0**-8


@pytest.mark.parametrize("backward", LOGITS_BACKWARD)
def test_entropy_has_no_gradient(inputs, backward):
    *arrays, tokens = inputs
    measure = partial(token_logprobs, backward=backward)
    gradient = jax.jit(jax.grad(lambda *pair: jnp.sum(measure(*pair, tokens)[1]), argnums=(0, 1)))(
        *arrays
    )
    chex.assert_trees_all_equal(gradient, jax.tree.map(np.zeros_like, tuple(arrays)))


@pytest.mark.parametrize("backward", LOGITS_BACKWARD)
def test_forward_mode_is_refused_by_name(inputs, backward):
    hidden, matrix, tokens = inputs
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(
            lambda h: token_logprobs(h, matrix, tokens, backward=backward), (hidden,), (hidden,)
        )


def products(program):
    """Number of matrix products with the vocabulary's axis in a program's text, loops once."""
    return len(re.findall(r"stablehlo.dot_general", program))


@pytest.mark.parametrize(("backward", "number"), [("recompute", 4), ("keep", 3)])
def test_what_is_kept_for_the_backward_pass(inputs, backward, number):
    """ "recompute": no array of tokens times vocabulary. "keep": one, and a product less."""
    hidden, matrix, tokens = inputs

    def measure(*pair):
        return token_logprobs(*pair, tokens, backward=backward)[0]

    kept = jax.tree.leaves(jax.eval_shape(lambda *pair: jax.vjp(measure, *pair)[1], hidden, matrix))
    largest = [x for x in kept if x.size >= tokens.size * VOCABULARY]
    assert len(largest) == (backward == "keep")
    total = jax.jit(jax.grad(lambda *pair: jnp.sum(measure(*pair)), argnums=(0, 1)))
    assert products(total.lower(hidden, matrix).as_text()) == number


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_rejects_temperatures_that_are_not_positive(inputs, temperature):
    with pytest.raises(ValueError, match=r"temperature=.* must be positive"):
        token_logprobs(*inputs, temperature=temperature)


def test_rejects_an_unknown_backward_pass(inputs):
    with pytest.raises(ValueError, match="backward='none' must be one of: recompute, keep"):
        token_logprobs(*inputs, backward="none")


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


def split_gradient(config, *, backward="recompute", chunk_size=8):
    """Value and gradient on eight devices with the vocabulary split, the arguments, the program."""
    mesh = sharding.make_mesh(config)
    hidden, matrix, tokens = (np.asarray(x, x.dtype) for x in wide_inputs(1.0, vocabulary=256))
    hidden, tokens = (np.concatenate([x] * 4) for x in (hidden, tokens))
    arrays = (hidden.astype(np.float32), matrix.astype(np.float32), tokens)

    def total(hidden, matrix, tokens):
        measure = partial(token_logprobs, chunk_size=chunk_size, backward=backward)
        return jnp.sum(measure(hidden, sharding.constrain(matrix, None, "vocab"), tokens)[0])

    axes = (("group",), (None, "vocab"), ("group",))
    placed = [
        jax.device_put(x, sharding.named(mesh, *a)) for x, a in zip(arrays, axes, strict=True)
    ]
    gradient = jax.jit(sharding.on_mesh(mesh, jax.value_and_grad(total, argnums=(0, 1))))
    plain = jax.value_and_grad(
        lambda *pair: jnp.sum(plain_logprobs(*pair, tokens, 1.0)), argnums=(0, 1)
    )(*arrays[:2])
    return gradient(*placed), plain, gradient.lower(*placed).compile().as_text()


def test_vocabulary_split_over_devices():
    actual, expected, program = split_gradient(MeshConfig(data=2, tensor=4))
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert re.search(r"f32\[\d+,64\]", program)  # logits of a quarter of the vocabulary
    assert not re.search(r"f32\[\d+,256\]", program)
    with pytest.raises(ValueError, match="vocabulary that is not split"):
        split_gradient(MeshConfig(data=2, tensor=4), backward="keep")


@pytest.mark.parametrize("backward", LOGITS_BACKWARD)
def test_chunks_are_counted_per_device(backward):
    """Eight rows of 21 tokens, eight devices: all 21 of a row in a chunk of 21 per device."""
    one, expected, whole = split_gradient(MeshConfig(), backward=backward, chunk_size=21)
    many, _, chunked = split_gradient(MeshConfig(), backward=backward, chunk_size=7)
    for actual in (one, many):
        chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-5)
    rows, columns = {"recompute": (7, 256), "keep": (21, 128)}[backward]
    assert "f32[21,256]" in whole
    assert f"f32[{rows},{columns}]" in chunked
    assert "f32[21,256]" not in chunked
