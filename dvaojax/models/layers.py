"""The pieces of a decoder layer: norm, rotary embedding, projections, gated feed-forward."""

import math
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from dvaojax.models.config import ModelConfig
from dvaojax.models.precision import accumulator


class RMSNorm(nnx.Module):
    """Division by the root mean square, times a scale (Zhang and Sennrich, arXiv:1910.07467).

    Unlike LayerNorm it neither centres nor shifts: `[..., width]` to the same, in float32 at least.
    """

    def __init__(self, width: int, config: ModelConfig):
        self.scale = nnx.Param(jnp.ones(width, config.param_dtype))
        self.epsilon = config.norm_epsilon

    def __call__(self, x: Array) -> Array:
        wide = x.astype(accumulator(x.dtype))
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        scale = self.scale[...].astype(wide.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        return (wide * jax.lax.rsqrt(mean_square + self.epsilon) * scale).astype(x.dtype)


class Rotation(NamedTuple):
    """Cosines and sines of the rotary angles of some positions, the same for all layers.

    Attributes:
        cos: `[..., S, 1, C / 2]`, in float32 at least.
        sin: the same.
    """

    cos: Array
    sin: Array


def rotation(positions: Array, config: ModelConfig) -> Rotation:
    """The rotary embedding's angles (Su et al., arXiv:2104.09864).

    Args:
        positions: `[..., S]` int, counted from the prompt's first token.
        config: the decoder's shape.
    """
    wide = accumulator(jnp.dtype(config.compute_dtype))
    frequencies = _frequencies(config, wide).reshape((1,) * positions.ndim + (-1,))
    angles = (positions[..., None].astype(wide) * frequencies)[..., None, :]
    return Rotation(jnp.cos(angles), jnp.sin(angles))


def _frequencies(config: ModelConfig, wide: np.dtype) -> Array:
    """`[C / 2]`, in radians a token."""
    half = config.head_width // 2
    frequencies = 1.0 / config.rope_theta ** (jnp.arange(half, dtype=wide) / half)
    if config.rope_scaling is None:
        return frequencies
    scaling = config.rope_scaling
    turns = scaling.original_length * frequencies / (2.0 * math.pi)
    between = (turns - scaling.slow_turns) / (scaling.fast_turns - scaling.slow_turns)
    kept = jnp.clip(between, 0.0, 1.0)
    return frequencies * (kept + (1.0 - kept) / scaling.factor)


def rotate(x: Array, by: Rotation) -> Array:
    """Rotary position embedding, halves paired as in Llama.

    Feature `i` is paired with `i + C/2`, not with its neighbour: the two layouts differ by a
    permutation of the weights and are often confused.

    Args:
        x: `[..., S, heads, C]`.
        by: of its positions.

    Returns:
        `[..., S, heads, C]` in the float of `x`; computed in float32 at least.

    Raises:
        AssertionError: the shapes do not fit.
    """
    first, second = jnp.split(x.astype(by.cos.dtype), 2, axis=-1)
    chex.assert_equal_rank([first, by.cos, by.sin])
    turned = [first * by.cos - second * by.sin, second * by.cos + first * by.sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


class Matrices(NamedTuple):
    """A layer's matrices as its products read them, in the compute dtype.

    What reads the same input is one matrix: a decoded token makes four products a layer instead of
    seven.

    Attributes:
        qkv: `[D, N * (R + 2) * C]`: for each key/value head its `R = H / N` queries, its key and
            its value, so that a mesh that splits the heads splits this too.
        output: `[H * C, D]`.
        gate_up: `[D, 2, F]`, whose middle axis no mesh splits.
        down: `[F, D]`.
    """

    qkv: Array
    output: Array
    gate_up: Array
    down: Array


class Layer(nnx.Module):
    """One pre-norm decoder layer, without the attention product itself.

    Which keys a query sees differs between prefill, decoding and training; what stands before and
    after it does not. `project` and `finish` are those two halves.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        width, head, ff = config.width, config.head_width, config.ff_width
        weight = partial(_weight, rngs=rngs, dtype=config.param_dtype)
        self.config = config
        self.attention_norm = RMSNorm(width, config)
        self.query = weight((width, config.num_heads, head), fan_in=width)
        self.key = weight((width, config.num_kv_heads, head), fan_in=width)
        self.value = weight((width, config.num_kv_heads, head), fan_in=width)
        self.output = weight((config.num_heads, head, width), fan_in=config.num_heads * head)
        if config.attention_bias:
            zeros = partial(jnp.zeros, dtype=config.param_dtype)
            self.query_bias = nnx.Param(zeros((config.num_heads, head)))
            self.key_bias = nnx.Param(zeros((config.num_kv_heads, head)))
            self.value_bias = nnx.Param(zeros((config.num_kv_heads, head)))
        if config.qk_norm:
            self.query_norm = RMSNorm(head, config)
            self.key_norm = RMSNorm(head, config)
        self.ff_norm = RMSNorm(width, config)
        self.gate = weight((width, ff), fan_in=width)
        self.up = weight((width, ff), fan_in=width)
        self.down = weight((ff, width), fan_in=ff)

    def matrices(self) -> Matrices:
        """Joined and cast; a loop over tokens takes them once, outside."""
        config, dtype = self.config, self.config.compute_dtype
        by_head = (config.width, config.num_kv_heads, -1, config.head_width)
        qkv = [w[...].reshape(by_head) for w in (self.query, self.key, self.value)]
        return Matrices(
            qkv=jnp.concatenate(qkv, axis=2).reshape(config.width, -1).astype(dtype),
            output=self.output[...].reshape(-1, config.width).astype(dtype),
            gate_up=jnp.stack([self.gate[...], self.up[...]], axis=1).astype(dtype),
            down=self.down[...].astype(dtype),
        )

    def project(self, x: Array, by: Rotation, matrices: Matrices) -> tuple[Array, Array, Array]:
        """Queries `[M, H, C]`, keys and values `[M, N, C]` of tokens `[M, D]`; the first two
        rotated."""
        config, ratio = self.config, self.config.num_heads // self.config.num_kv_heads
        joined = product(self.attention_norm(x), matrices.qkv)
        joined = joined.reshape(-1, config.num_kv_heads, ratio + 2, config.head_width)
        queries, keys, values = jnp.split(joined, (ratio, ratio + 1), axis=2)
        queries = queries.reshape(-1, config.num_heads, config.head_width)
        keys, values = keys[:, :, 0], values[:, :, 0]
        if config.attention_bias:
            queries += _like(self.query_bias[...], queries)
            keys += _like(self.key_bias[...], keys)
            values += _like(self.value_bias[...], values)
        if config.qk_norm:
            queries, keys = self.query_norm(queries), self.key_norm(keys)
        return rotate(queries, by), rotate(keys, by), values

    def finish(self, x: Array, attended: Array, matrices: Matrices) -> Array:
        """The residual stream `[M, D]` after attention's output, from `attended`, `[M, H * C]`,
        and the gated feed-forward (SwiGLU)."""
        x = x + product(attended, matrices.output)
        gate, up = jnp.split(product(self.ff_norm(x), matrices.gate_up), 2, axis=1)
        return x + product((jax.nn.silu(gate) * up)[:, 0], matrices.down)


def product(x: Array, matrix: Array) -> Array:
    """Rows `[M, D]` times a matrix `[D, ...]`, of which several axes may be the columns.

    Its name is what `config.REMAT` knows it by.
    """
    return checkpoint_name(_product(x, matrix), "product")


@jax.custom_vjp
def _product(x: Array, matrix: Array) -> Array:
    """The backward pass is written out because of the order of one operand: derived by itself, the
    gradient of the matrix comes transposed, and the wider of the two inputs is turned for it.
    """
    return jnp.tensordot(x, matrix, axes=1)


def _product_backward(saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, matrix = saved
    columns = tuple(range(1, cotangent.ndim))
    of_x = jnp.tensordot(cotangent, matrix, axes=(columns, columns))
    return of_x, jnp.tensordot(x, cotangent, axes=(0, 0))


_product.defvjp(lambda x, matrix: (_product(x, matrix), (x, matrix)), _product_backward)


def _weight(shape: tuple[int, ...], *, fan_in: int, rngs: nnx.Rngs, dtype: str) -> nnx.Param:
    """A matrix whose products keep unit variance."""
    return nnx.Param(jax.random.normal(rngs.params(), shape, dtype) * fan_in**-0.5)


def _like(bias: Array, x: Array) -> Array:
    return bias.astype(x.dtype).reshape((1,) * (x.ndim - bias.ndim) + bias.shape)
