"""Parts of a decoder layer: norm, rotary embedding, projections and gated feed-forward."""

import math
from functools import partial
from typing import Any, NamedTuple, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from dvaojax.models.attention.backend import platform
from dvaojax.models.attention.head_kernel import heads_of_rows
from dvaojax.models.config import ModelConfig, accumulation_dtype

PyTree = TypeVar("PyTree")


class RMSNorm(nnx.Module):
    """Root mean square normalisation with a scale (Zhang and Sennrich, arXiv:1910.07467).

    Maps `[..., width]` to the same shape, computed in float32 at least. Unlike LayerNorm it neither
    subtracts the mean nor adds a bias.
    """

    def __init__(self, width: int, config: ModelConfig):
        self.scale = nnx.Param(jnp.ones(width, config.param_dtype))
        self.epsilon = config.norm_epsilon

    def __call__(self, x: Array) -> Array:
        wide = x.astype(accumulation_dtype(x.dtype))
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        scale = self.scale[...].astype(wide.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        return (wide * jax.lax.rsqrt(mean_square + self.epsilon) * scale).astype(x.dtype)


class Rotation(NamedTuple):
    """Cosines and sines of the rotary angles of given positions, shared by all layers.

    Attributes:
        cos: `[..., S, 1, C / 2]`, in float32 at least.
        sin: of the same shape.
    """

    cos: Array
    sin: Array


def rotation(positions: Array, config: ModelConfig) -> Rotation:
    """The rotary embedding's angles (Su et al., arXiv:2104.09864).

    Args:
        positions: `[..., S]` int, counted from the prompt's first token.
        config: the decoder's shape.
    """
    wide = accumulation_dtype(jnp.dtype(config.compute_dtype))
    frequencies = _frequencies(config, wide).reshape((1,) * positions.ndim + (-1,))
    angles = (positions[..., None].astype(wide) * frequencies)[..., None, :]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    if platform() == "cpu":
        # XLA fuses cosines into what reads them, and so computes them again for every head of
        # every layer; it does not fuse this gather of all features.
        features = jnp.arange(cos.shape[-1])
        cos, sin = cos[..., features], sin[..., features]
    return Rotation(cos, sin)


def _frequencies(config: ModelConfig, wide: np.dtype) -> Array:
    """`[C / 2]`, in radians per token."""
    half = config.head_width // 2
    frequencies = 1.0 / config.rope_theta ** (jnp.arange(half, dtype=wide) / half)
    if config.rope_scaling is None:
        return frequencies
    scaling = config.rope_scaling
    turns = scaling.original_length * frequencies / (2.0 * math.pi)
    between = (turns - scaling.slow_turns) / (scaling.fast_turns - scaling.slow_turns)
    kept = jnp.clip(between, 0.0, 1.0)
    return frequencies * (kept + (1.0 - kept) / scaling.factor)


def rotate(x: Array, angles: Rotation) -> Array:
    """Applies the rotary position embedding, with the halves paired as in Llama.

    Feature `i` is paired with `i + C/2`.

    Not to be confused with: pairing each feature with its neighbour, which differs by a permutation
    of the weights.

    Args:
        x: `[..., S, heads, C]`.
        angles: the rotation of each position.

    Returns:
        `[..., S, heads, C]` in the dtype of `x`; computed in float32 at least.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_equal_rank([x, angles.cos, angles.sin])
    if platform() == "tpu" and x.dtype == jnp.bfloat16:
        return _rotate_by_product(x, angles)
    first, second = jnp.split(x.astype(angles.cos.dtype), 2, axis=-1)
    cos, sin = angles
    rotated = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)


def _rotate_by_product(x: Array, angles: Rotation) -> Array:
    """`rotate` of bfloat16 numbers for TPUs, where halves of heads fill half of the vector lanes.

    The exchange of the halves, one of them negated, is a product with a signed permutation, which
    is exact: every sum has one term.
    """
    cos, sin = (jnp.concatenate([a, a], axis=-1) for a in angles)
    half = x.shape[-1] // 2
    exchange = np.zeros((2 * half, 2 * half), np.float32)
    exchange[range(half, 2 * half), range(half)] = -1.0
    exchange[range(half), range(half, 2 * half)] = 1.0
    exchanged = jnp.einsum(
        "...c,cd->...d", x, jnp.asarray(exchange, x.dtype), preferred_element_type=cos.dtype
    )
    return (x.astype(cos.dtype) * cos + exchanged * sin).astype(x.dtype)


class Matrices(NamedTuple):
    """A layer's weights in the compute dtype, as its matrix products use them.

    Matrices with the same input are joined, so that a decoded token takes four products per layer
    instead of seven.

    Attributes:
        qkv: `[D, N * (R + 2) * C]`: for each key/value head its `R = H / N` queries, its key and
            its value, so that a mesh that splits the heads splits this axis too.
        output: `[H * C, D]`.
        gate_up: `[D, 2, F]`, or a pair of `[D, F]`: of many tokens, whose gradients would have to
            be joined for one product. The middle axis is not split over devices.
        down: `[F, D]`.
    """

    qkv: Array
    output: Array
    gate_up: Any
    down: Array


class Weight(nnx.Param):
    """A matrix of a layer, which `Matrices` replaces."""


class Layer(nnx.Module):
    """One pre-norm decoder layer, without the attention itself.

    Attention differs between prefill, decoding and training. The computation before it, `project`,
    and after it, `finish`, does not.
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
        """The joined and cast weights; a loop over tokens computes them once, before the loop."""
        return cast(self.joined(is_gate_with_up=True), self.config)

    def joined(self, *, is_gate_with_up: bool) -> Matrices:
        """The joined weights in the parameters' dtype.

        Args:
            is_gate_with_up: one matrix for both. The backward pass then joins their gradients,
                which takes longer than a second product on all platforms but TPUs.
        """
        config = self.config
        gate_up = self.gate[...], self.up[...]
        by_head = (config.width, config.num_kv_heads, -1, config.head_width)
        qkv = [w[...].reshape(by_head) for w in (self.query, self.key, self.value)]
        return Matrices(
            qkv=jnp.concatenate(qkv, axis=2).reshape(config.width, -1),
            output=self.output[...].reshape(-1, config.width),
            gate_up=jnp.stack(gate_up, axis=1) if is_gate_with_up else gate_up,
            down=self.down[...],
        )

    def project(self, x: Array, angles: Rotation, matrices: Matrices) -> tuple[Array, Array, Array]:
        """Queries `[M, H, C]` and keys `[M, N, C]`, both rotated, and values `[M, N, C]`.

        Args:
            x: `[M, D]`, the residual stream.
            angles: the rotation of each token.
            matrices: the layer's.
        """
        config = self.config
        joined = product(self.attention_norm(x), matrices.qkv)
        joined = joined.reshape(len(x), config.num_kv_heads, -1, config.head_width)
        if platform() == "gpu":  # three kernels fewer
            return self._split(self._rotate_joined(joined, angles))
        queries, keys, values = self._split(joined)
        if config.attention_bias:
            queries += _like(self.query_bias[...], queries)
            keys += _like(self.key_bias[...], keys)
            values += _like(self.value_bias[...], values)
        if config.qk_norm:
            queries, keys = self.query_norm(queries), self.key_norm(keys)
        return rotate(queries, angles), rotate(keys, angles), values

    def project_rows(
        self, x: Array, angles: Rotation, matrices: Matrices, *, shape: tuple[int, int]
    ) -> tuple[Array, Array, Array]:
        """`project` of whole rows by a kernel for TPUs, and the queries scaled for attention.

        Args:
            x: `[B * S, D]`, the residual stream.
            angles: the rotation of each token.
            matrices: the layer's.
            shape: `B` and `S`; see `attention.has_head_kernel`.

        Returns:
            Queries `[B, S, H, C]` times `C^-0.5`, keys and values `[B, S, N, C]`.
        """
        config = self.config
        joined = product(self.attention_norm(x), matrices.qkv)
        if config.attention_bias:
            joined += _like(self._joined_bias().reshape(-1), joined)
        scales = None
        if config.qk_norm:
            scales = jnp.stack([self.query_norm.scale[...], self.key_norm.scale[...]])
        heads = heads_of_rows(
            joined,
            (angles.cos.reshape(*shape, -1), angles.sin.reshape(*shape, -1)),
            scales,
            ratio=config.num_heads // config.num_kv_heads,
            head_width=config.head_width,
            epsilon=config.norm_epsilon,
        )
        queries, keys, values = (jnp.swapaxes(a, 1, 2) for a in heads)
        return queries, keys, values

    def _joined_bias(self) -> Array:
        """`[N, R + 2, C]`, the biases in the order of the joined matrix."""
        heads = (self.config.num_kv_heads, -1, self.config.head_width)
        biases = (self.query_bias, self.key_bias, self.value_bias)
        return jnp.concatenate([b[...].reshape(heads) for b in biases], axis=1)

    def _split(self, joined: Array) -> tuple[Array, Array, Array]:
        """Queries `[M, H, C]`, keys and values `[M, N, C]` from `[M, N, R + 2, C]`."""
        ratio = joined.shape[2] - 2
        queries, keys, values = jnp.split(joined, (ratio, ratio + 1), axis=2)
        queries = queries.reshape(len(joined), self.config.num_heads, self.config.head_width)
        return queries, keys[:, :, 0], values[:, :, 0]

    def _rotate_joined(self, joined: Array, angles: Rotation) -> Array:
        """Bias, norm and rotation of queries, keys and values `[M, N, R + 2, C]` in one array."""
        config, ratio = self.config, joined.shape[2] - 2
        if config.attention_bias:
            joined += self._joined_bias()[None].astype(joined.dtype)
        wide = joined.astype(angles.cos.dtype)
        is_value = (jnp.arange(ratio + 2) == ratio + 1)[None, None, :, None]
        if config.qk_norm:
            scales = [self.query_norm.scale[...]] * ratio + [self.key_norm.scale[...]] * 2
            scale = jnp.stack(scales)[None, None].astype(wide.dtype)
            mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
            factor = jnp.where(is_value, 1.0, jax.lax.rsqrt(mean_square + config.norm_epsilon))
            scale = jnp.where(is_value, 1.0, scale)
            wide = (wide * factor * scale).astype(joined.dtype).astype(wide.dtype)
        cos = jnp.where(is_value, 1.0, angles.cos[:, None])
        sin = jnp.where(is_value, 0.0, angles.sin[:, None])
        return rotate(wide, Rotation(cos, sin)).astype(joined.dtype)

    def finish(self, x: Array, attended: Array, matrices: Matrices) -> Array:
        """`[M, D]`, the residual stream after attention's output projection and feed-forward.

        Args:
            x: `[M, D]`, the residual stream.
            attended: `[M, H * C]`, the result of attention.
            matrices: the layer's.
        """
        x = x + product(attended, matrices.output)
        gate, up = _gate_and_up(self.ff_norm(x), matrices.gate_up)
        return x + product(jax.nn.silu(gate) * up, matrices.down)


def cast(matrices: PyTree, config: ModelConfig) -> PyTree:
    """All arrays of a pytree in the compute dtype."""
    return jax.tree.map(lambda m: m.astype(config.compute_dtype), matrices)


def _gate_and_up(x: Array, matrices: Array | tuple[Array, Array]) -> tuple[Array, Array]:
    """`[M, F]` each, from `[M, D]`."""
    if isinstance(matrices, tuple):
        return product(x, matrices[0]), product(x, matrices[1])
    both = product(x, matrices)
    return both[:, 0], both[:, 1]


def product(x: Array, matrix: Array) -> Array:
    """Rows `[M, D]` times a matrix `[D, ...]` with one or more column axes.

    The result carries the checkpoint name "product", which `config.REMAT` refers to.
    """
    return checkpoint_name(_product(x, matrix), "product")


@jax.custom_vjp
def _product(x: Array, matrix: Array) -> Array:
    """The product, with an explicit backward pass.

    Automatic differentiation gives the transposed gradient of the matrix, for which XLA transposes
    the wider of the two inputs.
    """
    return jnp.tensordot(x, matrix, axes=1)


def _product_backward(saved: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, matrix = saved
    columns = tuple(range(1, cotangent.ndim))
    x_gradient = jnp.tensordot(cotangent, matrix, axes=(columns, columns))
    return x_gradient, jnp.tensordot(x, cotangent, axes=(0, 0))


_product.defvjp(lambda x, matrix: (_product(x, matrix), (x, matrix)), _product_backward)


def _weight(shape: tuple[int, ...], *, fan_in: int, rngs: nnx.Rngs, dtype: str) -> Weight:
    """A normally distributed weight with variance `1 / fan_in`, so products keep unit variance."""
    return Weight(jax.random.normal(rngs.params(), shape, dtype) * fan_in**-0.5)


def _like(bias: Array, x: Array) -> Array:
    return bias.astype(x.dtype).reshape((1,) * (x.ndim - bias.ndim) + bias.shape)
