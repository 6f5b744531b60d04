"""The pieces of a decoder layer: norm, rotary embedding, projections, gated feed-forward."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from dvaojax.models.config import ModelConfig
from dvaojax.models.precision import accumulator


class RMSNorm(nnx.Module):
    """Division by the root mean square, times a scale (Zhang and Sennrich, arXiv:1910.07467).

    Unlike LayerNorm it neither centres nor shifts. Computed in float32 at least.
    """

    def __init__(self, width: int, config: ModelConfig):
        self.scale = nnx.Param(jnp.ones(width, config.param_dtype))
        self.epsilon = config.norm_epsilon

    def __call__(self, x: Array) -> Array:
        wide = x.astype(accumulator(x.dtype))
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        scale = self.scale[...].astype(wide.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        return (wide * jax.lax.rsqrt(mean_square + self.epsilon) * scale).astype(x.dtype)


def rotate(x: Array, positions: Array, theta: float) -> Array:
    """Rotary position embedding (Su et al., arXiv:2104.09864), halves paired as in Llama.

    Feature `i` is paired with `i + C/2`, not with its neighbour: the two layouts differ by a
    permutation of the weights and are often confused.

    Args:
        x: `[..., S, heads, C]`.
        positions: `[..., S]` int, counted from the prompt's first token.
        theta: base of the wavelengths.

    Returns:
        `[..., S, heads, C]` in the float of `x`; the angles are computed in float32 at least.
    """
    chex.assert_equal_shape_prefix([x, positions], positions.ndim)
    half = x.shape[-1] // 2
    wide = accumulator(x.dtype)
    exponents = jnp.arange(half, dtype=wide) / half
    frequencies = (1.0 / theta**exponents).reshape((1,) * positions.ndim + (half,))
    angles = positions[..., None].astype(wide) * frequencies
    cos, sin = jnp.cos(angles)[..., None, :], jnp.sin(angles)[..., None, :]
    first, second = jnp.split(x.astype(wide), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


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

    def project(self, x: Array, positions: Array) -> tuple[Array, Array, Array]:
        """Queries `[..., S, H, C]`, keys and values `[..., S, N, C]`; the first two rotated."""
        x = self.attention_norm(x)
        queries, keys, values = (
            jnp.einsum("...d,dhc->...hc", x, w[...].astype(x.dtype))
            for w in (self.query, self.key, self.value)
        )
        if self.config.attention_bias:
            queries += _like(self.query_bias[...], queries)
            keys += _like(self.key_bias[...], keys)
            values += _like(self.value_bias[...], values)
        if self.config.qk_norm:
            queries, keys = self.query_norm(queries), self.key_norm(keys)
        theta = self.config.rope_theta
        return rotate(queries, positions, theta), rotate(keys, positions, theta), values

    def finish(self, x: Array, attended: Array) -> Array:
        """The residual stream after attention's output and the gated feed-forward (SwiGLU)."""
        x = x + jnp.einsum("...hc,hcd->...d", attended, self.output[...].astype(x.dtype))
        y = self.ff_norm(x)
        gate, up, down = (w[...].astype(x.dtype) for w in (self.gate, self.up, self.down))
        return x + (jax.nn.silu(y @ gate) * (y @ up)) @ down


def _weight(shape: tuple[int, ...], *, fan_in: int, rngs: nnx.Rngs, dtype: str) -> nnx.Param:
    """A matrix whose products keep unit variance."""
    return nnx.Param(jax.random.normal(rngs.params(), shape, dtype) * fan_in**-0.5)


def _like(bias: Array, x: Array) -> Array:
    return bias.astype(x.dtype).reshape((1,) * (x.ndim - bias.ndim) + bias.shape)
