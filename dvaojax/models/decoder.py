"""A decoder-only transformer that keeps the group: Qwen3, Qwen2 or Llama by configuration.

Three passes share one set of layers:

- `prefill` runs the prompts once per group and keeps their keys and values;
- `__call__` runs prompts and completions in one pass for training;
- `unrolled.UnrolledDecoder.decode` adds one token to every completion of every group.

The module is Flax NNX and is split at this border: `init` gives a plain pytree of arrays, and
`apply` calls a method with one. Everything above sees pure functions of that pytree.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from dvaojax.models.attention import (
    cache_layout,
    joint_attention,
    packed_attention,
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

        Raises:
            AssertionError: the shapes do not fit.
        """
        chex.assert_rank(tokens, 2)
        positions = jnp.broadcast_to(columns(tokens.shape[1])[None], tokens.shape)

        # What stands behind a prompt's end sees it and is seen by nothing.
        attend_prompts = partial(
            joint_attention,
            prompt_where=jnp.ones(tokens.shape, bool),
            group_size=1,
            implementation=self.config.attention,
        )

        def attend(queries, keys, values):
            cache = PromptCache(*cache_layout(keys, values))
            return attend_prompts(queries, keys, values), cache

        hidden, stacked = self._scan(attend, tokens, positions)
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
        first, rest = self.rows(prompt_tokens, prompt_lengths, completion_tokens)
        batch, group, length = completion_tokens.shape
        first = jnp.broadcast_to(first[:, None, None], (batch, group, 1, self.config.width))
        rest = rest.reshape(batch, group, length - 1, self.config.width)
        return jnp.concatenate([first, rest], axis=2)

    def rows(
        self, prompt_tokens: Array, prompt_lengths: Array, completion_tokens: Array
    ) -> tuple[Array, Array]:
        """The same states as they are computed, a group's completions in one row.

        To put them in the order of `completion_tokens` is to move them all by one place, which is
        cheap for what is computed from them and dear for the states themselves.

        Args:
            prompt_tokens: `[B, P]`, padding on the right.
            prompt_lengths: `[B]`.
            completion_tokens: `[B, G, T]`.

        Returns:
            `[B, D]`, the states that predict the first token of every completion, and
            `[B, G * (T - 1), D]`, those that predict the others.

        Raises:
            AssertionError: the shapes do not fit.
        """
        chex.assert_rank([prompt_tokens, prompt_lengths, completion_tokens], [2, 1, 3])
        chex.assert_equal_shape_prefix([prompt_tokens, prompt_lengths, completion_tokens], 1)
        inputs = completion_tokens[:, :, :-1]
        offsets = jnp.broadcast_to(columns(inputs.shape[2])[None, None], inputs.shape)
        attend = partial(joint_attention, group_size=inputs.shape[1])
        return self._behind_prompts(
            prompt_tokens, prompt_lengths, _flat(inputs), _flat(offsets), attend
        )

    def packed(
        self,
        prompt_tokens: Array,
        prompt_lengths: Array,
        tokens: Array,
        offsets: Array,
        segments: Array,
        *,
        longest: int,
    ) -> tuple[Array, Array]:
        """Hidden states where completions of several lengths stand one behind the other.

        Args:
            prompt_tokens: `[B, P]`, padding on the right.
            prompt_lengths: `[B]`.
            tokens: `[B, S]`, the completions' tokens but the last of each.
            offsets: `[B, S]`, the place of each in its completion.
            segments: `[B, S]`, which completion it belongs to, -1 on padding.
            longest: no completion has more tokens in a row.

        Returns:
            `[B, D]` and `[B, S, D]` after the last norm: the states that predict the first token of
            every completion, and those that predict what follows each token.

        Raises:
            AssertionError: the shapes do not fit.
        """
        chex.assert_rank([prompt_tokens, prompt_lengths], [2, 1])
        chex.assert_equal_shape([tokens, offsets, segments])
        attend = partial(packed_attention, segments=segments, longest=longest)
        return self._behind_prompts(prompt_tokens, prompt_lengths, tokens, offsets, attend)

    def _behind_prompts(
        self,
        prompt_tokens: Array,
        prompt_lengths: Array,
        tokens: Array,
        offsets: Array,
        attend: Callable[..., Array],
    ) -> tuple[Array, Array]:
        """States of the prompts' last tokens and of the `[B, S]` tokens behind the prompts."""
        width = prompt_tokens.shape[1]
        before = jnp.broadcast_to(columns(width)[None], prompt_tokens.shape)
        positions = jnp.concatenate([before, prompt_lengths[:, None] + offsets], axis=1)
        rows = jnp.concatenate([prompt_tokens, tokens], axis=1)
        prompt_where = within(prompt_lengths, width)
        attend = partial(attend, prompt_where=prompt_where, implementation=self.config.attention)
        hidden, _ = self._scan(lambda *projected: (attend(*projected), None), rows, positions)
        last = jnp.take_along_axis(hidden, (prompt_lengths - 1)[:, None, None], axis=1)
        return self.norm(last[:, 0]), self.norm(hidden[:, width:])

    def embed(self, tokens: Array) -> Array:
        """`[..., D]`, the tokens' rows of the embedding."""
        # Rows are taken before they are cast: their gradients add up in the parameters' float.
        return self.embedding[...][tokens].astype(self.config.compute_dtype)

    def _scan(self, attend: Callable[..., tuple[Array, Any]], tokens: Array, positions: Array):
        """`[B, S, D]` before the last norm, and what `attend` returns besides, stacked.

        Between the attentions tokens are rows of one matrix: with a leading axis of 1, for one
        group, the compiler would give a whole reduction to one core.
        """
        graph, stacked = nnx.split(self.layers)
        by = rotation(positions.reshape(-1), self.config)

        def body(x, params):
            layer = nnx.merge(graph, params)
            matrices = layer.matrices()
            projected = layer.project(constrain(x, "group"), by, matrices)
            attended, extra = attend(*(a.reshape(*tokens.shape, *a.shape[1:]) for a in projected))
            return layer.finish(x, attended.reshape(x.shape[0], -1), matrices), extra

        x = self.embed(tokens.reshape(-1))
        x, extras = lax.scan(REMAT[self.config.remat](body), x, stacked)
        return x.reshape(*tokens.shape, self.config.width), extras

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


def _flat(x: Array) -> Array:
    """`[B, G, S]` to `[B, G * S]`."""
    return x.reshape(x.shape[0], -1)
