"""A decoder-only transformer that keeps the group: Qwen3, Qwen2 or Llama by configuration.

Three passes share one set of layers:

- `prefill` runs the prompts once per group and keeps their keys and values;
- `decode` adds one token to every completion of every group;
- `__call__` runs prompts and completions in one pass for training.

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

from dvaojax.models.attention import group_attention, prompt_attention
from dvaojax.models.cache import CompletionCache, PromptCache
from dvaojax.models.config import ModelConfig
from dvaojax.models.layers import Layer, RMSNorm

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


# How a layer's activations reach the backward pass, by the name the configuration gives.
REMAT = {"none": lambda body: body, "layer": jax.checkpoint}


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
        return matrix.astype(self.config.compute_dtype)

    def logits(self, hidden: Array) -> Array:
        """`[..., V]` float32 from hidden states `[..., D]`."""
        matrix = self.output_matrix()
        return jnp.einsum("...d,dv->...v", hidden, matrix, preferred_element_type=jnp.float32)

    def prefill(self, tokens: Array) -> tuple[Array, tuple[PromptCache, ...]]:
        """The prompts' hidden states and their caches, once per group.

        Args:
            tokens: `[B, P]`, padding on the right.

        Returns:
            `[B, P, D]` hidden states after the last norm, and one cache a layer.
        """
        chex.assert_rank(tokens, 2)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)

        def step(x, layer):
            queries, keys, values = layer.project(x, positions)
            cache = PromptCache(_heads_first(keys), _heads_first(values))
            return layer.finish(x, prompt_attention(queries, *cache)), cache

        hidden, stacked = self._scan(step, self._embed(tokens))
        return self.norm(hidden), tuple(_unstack(stacked, self.config.num_layers))

    def decode(
        self,
        tokens: Array,
        column: Array,
        prompt_lengths: Array,
        prompt_caches: tuple[PromptCache, ...],
        caches: tuple[CompletionCache, ...],
    ) -> tuple[Array, tuple[CompletionCache, ...]]:
        """One more token of every completion.

        Layers are unrolled: a scan would slice the stacked weights anew at every token.

        Args:
            tokens: `[B, G]`, the completions' tokens number `column`.
            column: scalar int, the same for all completions.
            prompt_lengths: `[B]`.
            prompt_caches: from `prefill`.
            caches: the completions' own, filled up to `column`.

        Returns:
            `[B, G, D]` hidden states after the last norm, and the caches with `column` filled.
        """
        chex.assert_rank(tokens, 2)
        prompt_where = _within(prompt_lengths, prompt_caches[0].keys.shape[2])
        positions = jnp.broadcast_to(prompt_lengths[:, None] + column, tokens.shape)[..., None]
        seen = (jnp.arange(caches[0].keys.shape[3]) <= column)[None]  # one query, all columns
        x, filled = self._embed(tokens)[:, :, None], []
        for layer, prompt_cache, cache in zip(self._layers(), prompt_caches, caches, strict=True):
            queries, keys, values = layer.project(x, positions)
            cache = cache.write(_heads_first(keys), _heads_first(values), column)
            attended = group_attention(
                queries, *prompt_cache, *cache, prompt_where=prompt_where, where=seen
            )
            x = layer.finish(x, attended)
            filled.append(cache)
        return self.norm(x[:, :, 0]), tuple(filled)

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
        batch, width = prompt_tokens.shape[0], prompt_tokens.shape[1]
        _, group, length = completion_tokens.shape
        inputs = completion_tokens[:, :, :-1]
        tokens = jnp.concatenate([prompt_tokens, inputs.reshape(batch, -1)], axis=1)
        after = prompt_lengths[:, None, None] + jnp.arange(length - 1)[None, None]
        after = jnp.broadcast_to(after, inputs.shape).reshape(batch, -1)
        before = jnp.broadcast_to(jnp.arange(width)[None], prompt_tokens.shape)
        positions = jnp.concatenate([before, after.astype(before.dtype)], axis=1)
        prompt_where = _within(prompt_lengths, width)
        causal = jnp.tril(jnp.ones((length - 1, length - 1), bool))

        def step(x, layer):
            projected = layer.project(x, positions)
            q, k, v = (a[:, :width] for a in projected)
            k, v = _heads_first(k), _heads_first(v)
            own = [a[:, width:].reshape(batch, group, length - 1, *a.shape[2:]) for a in projected]
            attended = group_attention(
                own[0], k, v, _heads_first(own[1]), _heads_first(own[2]),
                prompt_where=prompt_where, where=causal,
            )  # fmt: skip
            attended = attended.reshape(batch, -1, *attended.shape[3:])
            attended = jnp.concatenate([prompt_attention(q, k, v), attended], axis=1)
            return layer.finish(x, attended), None

        hidden, _ = self._scan(step, self._embed(tokens))
        last = jnp.take_along_axis(hidden, (prompt_lengths - 1)[:, None, None], axis=1)
        last = jnp.broadcast_to(last[:, None], (batch, group, 1, last.shape[-1]))
        own = hidden[:, width:].reshape(batch, group, length - 1, -1)
        return self.norm(jnp.concatenate([last, own], axis=2))

    def _embed(self, tokens: Array) -> Array:
        return self.embedding[...].astype(self.config.compute_dtype)[tokens]

    def _scan(self, step: Callable[[Array, Layer], tuple[Array, Any]], x: Array):
        """Runs `step` layer after layer over the stacked parameters."""
        graph, stacked = nnx.split(self.layers)

        def body(x, params):
            return step(x, nnx.merge(graph, params))

        return lax.scan(REMAT[self.config.remat](body), x, stacked)

    def _layers(self) -> list[Layer]:
        """The layers one by one, sliced from the stack."""
        graph, stacked = nnx.split(self.layers)
        slices = _unstack(stacked, self.config.num_layers)
        return [nnx.merge(graph, params) for params in slices]


def init(config: ModelConfig, key: Array) -> Params:
    """Random parameters as a nested dict; the key is consumed."""
    return nnx.to_pure_dict(nnx.state(Decoder(config, rngs=nnx.Rngs(params=key))))


def apply(config: ModelConfig, params: Params) -> Decoder:
    """The decoder with these parameters; call its methods inside the same traced function."""
    graph, state = nnx.split(
        nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(params=jax.random.key(0))))
    )
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)


def logical_axes(path: tuple[Any, ...], leaf: Any) -> tuple[str | None, ...]:
    """The logical axes of a leaf of the parameters' pytree, or of one shaped after it.

    Leaves are recognised by the last key of their path, so the moments of an optimiser get the
    axes of their parameters. Norm scales and whatever is not a parameter are whole everywhere.
    """
    name = getattr(path[-1], "key", None) if path else None
    return LOGICAL_AXES[name] if name in LOGICAL_AXES else (None,) * jnp.ndim(leaf)


def _unstack(tree: Any, count: int) -> list[Any]:
    """The trees along the leading axis of every leaf."""
    return [jax.tree.map(lambda a, i=i: a[i], tree) for i in range(count)]


def _heads_first(x: Array) -> Array:
    """`[..., S, N, C]` to `[..., N, S, C]`, so that each head's rows are contiguous."""
    return jnp.swapaxes(x, -3, -2)


def _within(lengths: Array, width: int) -> Array:
    """`[B, width]` true on the first `lengths` columns."""
    return jnp.arange(width)[None] < lengths[:, None]
