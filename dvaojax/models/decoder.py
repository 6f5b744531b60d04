"""A decoder-only transformer that keeps the group: Qwen3, Qwen2 or Llama by configuration.

Three passes share one set of layers:

- `prefill` runs the prompts once per group and keeps their keys and values;
- `__call__` runs prompts and completions in one pass for training;
- `unrolled.UnrolledDecoder.decode` adds one token to every completion of every group.

The module is Flax NNX and is split at this border: `init` gives a plain pytree of arrays, and
`apply` calls a method with one. Everything above sees pure functions of that pytree.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from dvaojax.models.attention import (
    cache_layout,
    joint_attention,
    prompt_attention,
)
from dvaojax.models.cache import PromptCache
from dvaojax.models.config import REMAT, ModelConfig
from dvaojax.models.layers import Layer, RMSNorm, rotation
from dvaojax.models.logprobs import to_logits
from dvaojax.models.places import columns, within
from dvaojax.sharding import constrain

Params = Any  # a nested dict of arrays, the layers' stacked along a leading axis `L`

# The logical axes of every parameter, by its name; `sharding.RULES` maps them to mesh axes.
LOGICAL_AXES: dict[str, tuple[str | None, ...]] = {
    "embedding": ("vocab", "embed"),
    "head": ("embed", "vocab"),
    "query": ("layer", "embed", "heads", None),
    "key": ("layer", "embed", "kv_heads", None),
    "value": ("layer", "embed", "kv_heads", None),
    "output": ("layer", "heads", None, "embed"),
    "query_bias": ("layer", "heads", None),
    "key_bias": ("layer", "kv_heads", None),
    "value_bias": ("layer", "kv_heads", None),
    "gate": ("layer", "embed", "ff"),
    "up": ("layer", "embed", "ff"),
    "down": ("layer", "ff", "embed"),
}


class Decoder(nnx.Module):
    """Token embedding, `L` layers with stacked parameters, a norm and a head."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        shape = (config.vocab_size, config.width)
        self.config = config
        self.embedding = nnx.Param(
            jax.random.normal(rngs.params(), shape, config.param_dtype) * 0.02
        )
        if not config.tied_head:
            head = jax.random.normal(rngs.params(), shape[::-1], config.param_dtype) * 0.02
            self.head = nnx.Param(head)
        stack = nnx.vmap(lambda rngs: Layer(config, rngs=rngs))
        self.layers = stack(rngs.split(config.num_layers))
        self.norm = RMSNorm(config.width, config)

    def output_matrix(self) -> Array:
        """`[D, V]`, from hidden states to logits, in the compute dtype."""
        matrix = self.embedding[...].T if self.config.tied_head else self.head[...]
        # Whole along D before any loop reads it, or every turn would gather it.
        return constrain(matrix.astype(self.config.compute_dtype), None, "vocab")

    def logits(self, hidden: Array) -> Array:
        """`[..., V]`, in float32 at least, from hidden states `[..., D]`."""
        return to_logits(hidden, self.output_matrix())

    def prefill(self, tokens: Array) -> tuple[Array, tuple[PromptCache, ...]]:
        """The prompts' hidden states and their caches, once per group.

        Args:
            tokens: `[B, P]`, padding on the right.

        Returns:
            `[B, P, D]` hidden states after the last norm, and one cache a layer.
        """
        chex.assert_rank(tokens, 2)
        by = rotation(columns(tokens.shape[1])[None], self.config)

        def step(x, layer):
            matrices = layer.matrices()
            queries, keys, values = layer.project(x, by, matrices)
            cache = PromptCache(*cache_layout(keys, values))
            return layer.finish(x, prompt_attention(queries, *cache), matrices), cache

        hidden, stacked = self._scan(step, self.embed(tokens))
        return self.norm(hidden), tuple(unstack(stacked, self.config.num_layers))

    def __call__(
        self, prompt_tokens: Array, prompt_lengths: Array, completion_tokens: Array
    ) -> Array:
        """Hidden states that predict every completion token; each prompt is computed once.

        Args:
            prompt_tokens: `[B, P]`, padding on the right.
            prompt_lengths: `[B]`.
            completion_tokens: `[B, G, T]`, padding on the right.

        Returns:
            `[B, G, T, D]` after the last norm; column `t` predicts completion token `t`, so the
            first is the prompt's last token's and the last completion token is never run.
        """
        chex.assert_rank([prompt_tokens, prompt_lengths, completion_tokens], [2, 1, 3])
        (batch, width), (group, length) = prompt_tokens.shape, completion_tokens.shape[1:]
        chex.assert_shape(prompt_lengths, (batch,))
        chex.assert_axis_dimension(completion_tokens, 0, batch)
        inputs = completion_tokens[:, :, : length - 1]
        after = prompt_lengths[:, None, None] + columns(length - 1)[None, None]
        before = jnp.broadcast_to(columns(width)[None], prompt_tokens.shape)
        by = rotation(_rows(before, jnp.broadcast_to(after, inputs.shape)), self.config)
        prompt_where = within(prompt_lengths, width)

        def step(x, layer):
            matrices = layer.matrices()
            projected = layer.project(x, by, matrices)
            attended = joint_attention(*projected, prompt_where=prompt_where, group_size=group)
            return layer.finish(x, attended, matrices), None

        hidden, _ = self._scan(step, self.embed(_rows(prompt_tokens, inputs)))
        first = jnp.take_along_axis(hidden, (prompt_lengths - 1)[:, None, None], axis=1)
        first = jnp.broadcast_to(first[:, None], (batch, group, 1, self.config.width))
        rest = hidden[:, width:].reshape(*inputs.shape, self.config.width)
        return self.norm(jnp.concatenate([first, rest], axis=2))

    def embed(self, tokens: Array) -> Array:
        """`[..., D]`, the tokens' rows of the embedding."""
        # Rows are taken before they are cast: their gradients add up in the parameters' float.
        return self.embedding[...][tokens].astype(self.config.compute_dtype)

    def _scan(self, step: Callable[[Array, Layer], tuple[Array, Any]], x: Array):
        """Runs `step` layer after layer over the stacked parameters."""
        graph, stacked = nnx.split(self.layers)

        def body(x, params):
            return step(constrain(x, "group"), nnx.merge(graph, params))

        return lax.scan(REMAT[self.config.remat](body), x, stacked)

    def unstacked(self) -> tuple[Layer, ...]:
        """The layers one by one, sliced from the stack."""
        graph, stacked = nnx.split(self.layers)
        slices = unstack(stacked, self.config.num_layers)
        return tuple(nnx.merge(graph, params) for params in slices)


def init(config: ModelConfig, key: Array) -> Params:
    """Random parameters as a nested dict; the key is consumed."""
    return nnx.to_pure_dict(nnx.state(Decoder(config, rngs=nnx.Rngs(params=key))))


def apply(config: ModelConfig, params: Params) -> Decoder:
    """The decoder with these parameters; call its methods inside the same traced function.

    Raises:
        AssertionError: the parameters are not those of a decoder of this shape.
    """
    graph, state = nnx.split(
        nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(params=jax.random.key(0))))
    )
    chex.assert_trees_all_equal_shapes(params, nnx.to_pure_dict(state))
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)


def logical_axes(path: tuple[Any, ...], leaf: Any) -> tuple[str | None, ...]:
    """The logical axes of a leaf of the parameters' pytree, or of one shaped after it.

    Leaves are recognised by the last key of their path, so the moments of an optimiser get the
    axes of their parameters. Norm scales, and whatever has not the shape of a parameter, are
    whole everywhere.
    """
    whole = (None,) * jnp.ndim(leaf)
    is_named = bool(path) and isinstance(path[-1], jax.tree_util.DictKey)
    axes = LOGICAL_AXES.get(path[-1].key, whole) if is_named else whole
    return axes if len(axes) == len(whole) else whole


def unstack(tree: Any, count: int) -> list[Any]:
    """The trees along the leading axis of every leaf."""
    return [jax.tree.map(lambda a, i=i: a[i], tree) for i in range(count)]


def _rows(of_prompts: Array, of_completions: Array) -> Array:
    """`[B, P]` and `[B, G, S]` to `[B, P + G * S]`: a prompt and, behind it, its completions."""
    batch, group, length = of_completions.shape
    return jnp.concatenate([of_prompts, of_completions.reshape(batch, group * length)], axis=1)
