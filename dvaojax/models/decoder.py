"""A decoder-only transformer with a group axis: Qwen3, Qwen2 or Llama by configuration.

Three passes share one set of layers:

- `prefill` runs each prompt once per group and returns its keys and values;
- `__call__` runs prompts and completions in one pass for training;
- `unrolled.UnrolledDecoder.decode` adds one token to every completion of every group.

The modules are Flax NNX. `init` returns a plain pytree of arrays, and `apply` returns a decoder
with the parameters of such a pytree. Other packages use only pure functions of the pytree.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.experimental.layout import Layout, with_layout_constraint

from dvaojax.models.attention import (
    completion_padding,
    has_head_kernel,
    joint_attention,
    packed_attention,
    row_padding,
)
from dvaojax.models.attention.backend import platform
from dvaojax.models.cache import BlockedPromptCache, PromptCache
from dvaojax.models.config import REMAT, ModelConfig, checkpointed
from dvaojax.models.layers import Layer, Matrices, RMSNorm, Weight, cast, rotation
from dvaojax.models.logprobs import to_logits
from dvaojax.sharding import constrain, on_every_device

Params = Any  # a nested dict of arrays; those of the layers are stacked along a leading axis `L`


class JoinedParams(NamedTuple):
    """Parameters in the form that the passes of a step use: `join`, then `cast_joined`.

    Attributes:
        matrices: of all layers, stacked along a leading axis `L`; or one by one, for passes that
            compile every layer.
        output: `[D, V]`, the output matrix.
        others: the other parameters, a nested dict.
    """

    matrices: Matrices | tuple[Matrices, ...]
    output: Array
    others: Params


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
    """Token embedding, `L` layers with stacked parameters, a norm and a head.

    Attributes:
        joined: parameters whose matrices were joined and cast before; None if each pass does it.
    """

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
        self.joined: JoinedParams | None = None

    def output_matrix(self) -> Array:
        """`[D, V]`, the matrix from hidden states to logits, in the compute dtype."""
        if self.joined is not None:
            matrix = self.joined.output
        else:
            matrix = self.embedding[...].T if self.config.tied_head else self.head[...]
        # Not split along D: a loop that reads it would gather it in every iteration.
        return constrain(matrix.astype(self.config.compute_dtype), None, "vocab")

    def logits(self, hidden: Array) -> Array:
        """`[..., V]`, in float32 at least, from hidden states `[..., D]`."""
        return to_logits(hidden, self.output_matrix())

    def prefill(
        self,
        tokens: Array,
        cache_type: type[PromptCache] | type[BlockedPromptCache] = PromptCache,
    ) -> tuple[Array, tuple[PromptCache | BlockedPromptCache, ...]]:
        """Runs the prompts, each once per group.

        Args:
            tokens: `[B, P]`, padding on the right.
            cache_type: the kind of cache that decoding reads.

        Returns:
            `[B, P, D]` hidden states after the last norm, and one cache per layer.

        Raises:
            AssertionError: the shapes do not fit.
        """
        chex.assert_rank(tokens, 2)
        positions = jnp.broadcast_to(_arange(tokens.shape[1])[None], tokens.shape)

        # Padding on the right attends to the prompt, but no prompt token attends to it.
        attend_prompts = partial(
            joint_attention,
            prompt_where=jnp.ones(tokens.shape, bool),
            group_size=1,
            implementation=self.config.attention,
        )

        def attend(queries, keys, values):
            return attend_prompts(queries, keys, values), cache_type.of(keys, values)

        hidden, stacked = self._run(attend, tokens, positions, is_unrolled=False, has_kernel=False)
        return self.norm(hidden), tuple(unstack(stacked, self.config.num_layers))

    def __call__(
        self, prompt_tokens: Array, prompt_lengths: Array, completion_tokens: Array
    ) -> Array:
        """Hidden states that predict every completion token; each prompt is run once per group.

        Args:
            prompt_tokens: `[B, P]`, padding on the right.
            prompt_lengths: `[B]`.
            completion_tokens: `[B, G, T]`, padding on the right.

        Returns:
            `[B, G, T, D]` after the last norm; column `t` predicts completion token `t`. So the
            first column is the state of the prompt's last token, and the last completion token is
            not run.
        """
        first, rest = self.joint_states(prompt_tokens, prompt_lengths, completion_tokens)
        batch, group, length = completion_tokens.shape
        first = jnp.broadcast_to(first[:, None, None], (batch, group, 1, self.config.width))
        rest = rest.reshape(batch, group, length - 1, self.config.width)
        return jnp.concatenate([first, rest], axis=2)

    def joint_states(
        self, prompt_tokens: Array, prompt_lengths: Array, completion_tokens: Array
    ) -> tuple[Array, Array]:
        """The hidden states of `__call__` as they are computed, a group's completions in one row.

        To align them with `completion_tokens` they must be shifted by one column. Shift the
        log-probabilities computed from them instead, which are much smaller.

        Args:
            prompt_tokens: `[B, P]`, padding on the right.
            prompt_lengths: `[B]`.
            completion_tokens: `[B, G, T]`.

        Returns:
            `[B, D]`, the states that predict the first token of every completion, and
            `[B, G * (T - 1), D]`, the states that predict the other tokens.

        Raises:
            AssertionError: the shapes do not fit.
        """
        chex.assert_rank([prompt_tokens, prompt_lengths, completion_tokens], [2, 1, 3])
        chex.assert_equal_shape_prefix([prompt_tokens, prompt_lengths, completion_tokens], 1)
        inputs = completion_tokens[:, :, :-1]
        batch, group, length = inputs.shape
        prompt = prompt_tokens.shape[1]
        more = completion_padding(self.config, prompt=prompt, group=group, length=length)
        inputs = jnp.pad(inputs, ((0, 0), (0, 0), (0, more)))
        longest = length + more
        offsets = jnp.broadcast_to(_arange(longest)[None, None], inputs.shape)
        padding = self._padding(prompt_tokens, group * longest, longest, packed=False)
        attend = partial(joint_attention, group_size=group, padding=padding)
        first, rest = self._states_after_prompts(
            prompt_tokens,
            prompt_lengths,
            _flat(inputs),
            _flat(offsets),
            attend,
            padding=padding,
            longest=longest,
            is_packed=False,
        )
        if more == 0:
            return first, rest
        rest = rest.reshape(batch, group, longest, -1)[:, :, :length]
        return first, rest.reshape(batch, group * length, -1)

    def _padding(self, prompt_tokens: Array, length: int, longest: int, *, packed: bool) -> int:
        """Tokens to add to rows of `length` tokens after their prompts."""
        prompt = prompt_tokens.shape[1]
        return row_padding(
            self.config, row=prompt + length, prompt=prompt, longest=longest, packed=packed
        )

    def packed_states(
        self,
        prompt_tokens: Array,
        prompt_lengths: Array,
        tokens: Array,
        offsets: Array,
        segments: Array,
        *,
        longest: int,
    ) -> tuple[Array, Array]:
        """Hidden states of packed rows: completions of several lengths, one after another.

        Args:
            prompt_tokens: `[B, P]`, padding on the right.
            prompt_lengths: `[B]`.
            tokens: `[B, S]`, the tokens of the completions without the last one of each.
            offsets: `[B, S]`, the position of each token in its completion.
            segments: `[B, S]`, the index of the completion of each token, -1 on padding.
            longest: upper bound of the number of tokens of a completion in a row.

        Returns:
            `[B, D]` and `[B, S, D]` after the last norm: the states that predict the first token of
            every completion, and the states that predict the token after each of `tokens`.

        Raises:
            AssertionError: the shapes do not fit.
        """
        chex.assert_rank([prompt_tokens, prompt_lengths], [2, 1])
        chex.assert_equal_shape([tokens, offsets, segments])
        padding = self._padding(prompt_tokens, tokens.shape[1], longest, packed=True)
        segments = jnp.pad(segments, ((0, 0), (0, padding)), constant_values=-1)
        attend = partial(packed_attention, segments=segments, longest=longest)
        return self._states_after_prompts(
            prompt_tokens,
            prompt_lengths,
            tokens,
            offsets,
            attend,
            padding=padding,
            longest=longest,
            is_packed=True,
        )

    def _states_after_prompts(
        self,
        prompt_tokens: Array,
        prompt_lengths: Array,
        tokens: Array,
        offsets: Array,
        attend: Callable[..., Array],
        *,
        padding: int,
        longest: int,
        is_packed: bool,
    ) -> tuple[Array, Array]:
        """States of the prompts' last tokens, and of the `[B, S]` tokens after the prompts.

        Rows get `padding` further tokens, whose states are dropped.
        """
        width, length = prompt_tokens.shape[1], tokens.shape[1]
        tokens, offsets = (jnp.pad(x, ((0, 0), (0, padding))) for x in (tokens, offsets))
        prompt_positions = jnp.broadcast_to(_arange(width)[None], prompt_tokens.shape)
        positions = jnp.concatenate([prompt_positions, prompt_lengths[:, None] + offsets], axis=1)
        rows = jnp.concatenate([prompt_tokens, tokens], axis=1)
        prompt_where = length_mask(prompt_lengths, width)
        has_kernel = has_head_kernel(
            self.config, row=rows.shape[1], prompt=width, longest=longest, packed=is_packed
        )
        attend = partial(
            attend,
            prompt_where=prompt_where,
            implementation=self.config.attention,
            factor=1.0 if has_kernel else None,
        )
        hidden, _ = self._run(
            lambda *heads: (attend(*heads), None),
            rows,
            positions,
            is_unrolled=unrolls_layers(self.config, is_packed=is_packed),
            has_kernel=has_kernel,
        )
        last = jnp.take_along_axis(hidden, (prompt_lengths - 1)[:, None, None], axis=1)
        return self.norm(last[:, 0]), self.norm(hidden[:, width : width + length])

    def embed(self, tokens: Array) -> Array:
        """`[..., D]`, the embeddings of the tokens."""
        # Index before the cast: gradients of equal tokens are then summed in the parameters' dtype.
        return self.embedding[...][tokens].astype(self.config.compute_dtype)

    def _run(
        self,
        attend: Callable[..., tuple[Array, Any]],
        tokens: Array,
        positions: Array,
        *,
        is_unrolled: bool,
        has_kernel: bool,
    ) -> tuple[Array, Any]:
        """Runs the layers.

        Outside attention, tokens are rows of one matrix: with a leading axis of 1, for one group,
        XLA would run a whole reduction on one CPU core.

        Args:
            attend: attention of `[B, S, ...]` queries, keys and values; returns its result and an
                extra value, such as a cache.
            tokens: `[B, S]`.
            positions: `[B, S]`.
            is_unrolled: compile every layer, not one in a loop.
            has_kernel: `head_kernel` prepares the heads; `attend` then gets scaled queries.

        Returns:
            `[B, S, D]` before the last norm, and the extra values, stacked over the layers.
        """
        graph, weights, others = nnx.split(self.layers, Weight, ...)
        angles = rotation(positions.reshape(-1), self.config)
        batch, length = tokens.shape
        # Without recomputation, the gathered matrices of all layers would be kept.
        gathers = platform() == "tpu" and REMAT[self.config.remat] is not None
        given = weights if self.joined is None else self.joined.matrices
        keep_layout = _row_major if has_kernel else lambda x: x

        def body(x, params):
            given, others = params
            if self.joined is None:
                layer = nnx.merge(graph, given, others)
                matrices = cast(layer.joined(is_gate_with_up=_is_gate_with_up()), self.config)
            else:
                layer, matrices = nnx.merge(graph, weights, others), given
            if gathers:
                matrices = _gathered(matrices)
            x = keep_layout(constrain(x, "group"))
            if has_kernel:
                heads = layer.project_rows(x, angles, matrices, shape=(batch, length))
            else:
                projected = layer.project(x, angles, matrices)
                heads = (a.reshape(batch, length, *a.shape[1:]) for a in projected)
            attended, extra = attend(*heads)
            return keep_layout(layer.finish(x, attended.reshape(len(x), -1), matrices)), extra

        checkpoint = partial(checkpointed, config=self.config, is_scanned=not is_unrolled)
        x, extras = keep_layout(self.embed(tokens.reshape(-1))), None
        if type(given) is tuple:
            whole = lax.stop_gradient(others)

            def one(x, params, index):
                given, part = params
                return body(x, (given, _part(whole, part, index)))

            for index, params in enumerate(
                zip(given, _unstack(others, self.config.num_layers), strict=True)
            ):
                x, _ = checkpoint(partial(one, index=index))(x, params)
        else:
            x, extras = lax.scan(checkpoint(body), x, (given, others), unroll=is_unrolled)
        return x.reshape(*tokens.shape, self.config.width), extras

    def unstacked(self) -> tuple[Layer, ...]:
        """The layers, sliced from the stack."""
        graph, stacked = nnx.split(self.layers)
        slices = unstack(stacked, self.config.num_layers)
        return tuple(nnx.merge(graph, params) for params in slices)


def init(config: ModelConfig, key: Array) -> Params:
    """Random parameters as a nested dict; the key is consumed."""
    return nnx.to_pure_dict(nnx.state(Decoder(config, rngs=nnx.Rngs(params=key))))


def shapes(config: ModelConfig) -> Params:
    """Shapes and data types of the parameters, without allocating them."""
    return jax.eval_shape(lambda: init(config, jax.random.key(0)))


def apply(config: ModelConfig, params: Params | JoinedParams) -> Decoder:
    """A decoder with these parameters; call its methods inside the same traced function.

    With `JoinedParams` only the training passes can be called.

    Raises:
        AssertionError: the parameters do not have the shapes of this configuration.
    """
    graph, state = nnx.split(
        nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(params=jax.random.key(0))))
    )
    expected = nnx.to_pure_dict(state)
    if not isinstance(params, JoinedParams):
        chex.assert_trees_all_equal_shapes(params, expected)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state)
    same_join = partial(join, config, is_unrolled=type(params.matrices) is tuple)
    chex.assert_trees_all_equal_shapes(params, jax.eval_shape(same_join, expected))
    nnx.replace_by_pure_dict(state, params.others)
    decoder = nnx.merge(graph, state)
    decoder.joined = params
    return decoder


def unrolls_layers(config: ModelConfig, *, is_packed: bool) -> bool:
    """Whether a training pass compiles every layer; never for packed rows, whose widths differ."""
    loop = config.layer_loop
    return not is_packed and (loop == "unrolled" or (loop == "auto" and platform() == "gpu"))


def join(config: ModelConfig, params: Params, *, is_unrolled: bool) -> JoinedParams:
    """The parameters in the form that passes use, in their own dtype; a linear function.

    The gradient of a function of the result, summed over several passes, therefore becomes the
    gradient of the parameters by one transposition, after the sum.

    Args:
        config: the decoder's shape.
        params: its parameters.
        is_unrolled: the passes compile every layer, see `unrolls_layers`; the matrices of a layer
            are then arrays of their own, of which nothing is copied.
    """
    decoder = apply(config, params)
    _, weights, _ = nnx.split(decoder.layers, Weight, ...)
    joined_layer = partial(Layer.joined, is_gate_with_up=_is_gate_with_up())
    matrices = nnx.vmap(joined_layer)(decoder.layers)
    output = params["embedding"].T if config.tied_head else params["head"]
    layers = {name: x for name, x in params["layers"].items() if name not in weights}
    others = {name: x for name, x in params.items() if name != "head"}
    matrices = _split_over_devices(matrices)
    return JoinedParams(
        matrices=tuple(_unstack(matrices, config.num_layers)) if is_unrolled else matrices,
        output=constrain(output, "embed", "vocab"),
        others={**others, "layers": layers},
    )


def _split_over_devices(matrices: Matrices) -> Matrices:
    """Stacked matrices with the sharding of the parameters that they consist of."""
    gate_up = matrices.gate_up
    if isinstance(gate_up, tuple):
        gate, up = (constrain(x, "layer", "embed", "ff") for x in gate_up)
        gate_up = (gate, up)
    else:
        gate_up = constrain(gate_up, "layer", "embed", None, "ff")
    return Matrices(
        qkv=constrain(matrices.qkv, "layer", "embed", "kv_heads"),
        output=constrain(matrices.output, "layer", "heads", "embed"),
        gate_up=gate_up,
        down=constrain(matrices.down, "layer", "ff", "embed"),
    )


@jax.custom_vjp
def _gathered(matrices: Matrices) -> Matrices:
    """A layer's matrices, not split along the width of the model; their gradients are split.

    Otherwise XLA may compute a product in as many parts as there are devices, sending the matrix
    from one to the next, and add up the parts, which takes half as long again. Products of the many
    tokens of an update take far longer than it takes to send their matrices.
    """
    return _constrained(matrices, None)


def _split_gradients(_: None, gradients: Matrices) -> tuple[Matrices]:
    # First as whole arrays, so that their products are not computed in parts either.
    return (_constrained(_constrained(gradients, None), "embed"),)


def _constrained(matrices: Matrices, width: str | None) -> Matrices:
    """Matrices of a layer, split over devices along the width of the model by `width`."""
    gate_up = matrices.gate_up
    if isinstance(gate_up, tuple):
        gate, up = (constrain(x, width, "ff") for x in gate_up)
        gate_up = (gate, up)
    else:
        gate_up = constrain(gate_up, width, None, "ff")
    return Matrices(
        qkv=constrain(matrices.qkv, width, "kv_heads"),
        output=constrain(matrices.output, "heads", width),
        gate_up=gate_up,
        down=constrain(matrices.down, "ff", width),
    )


_gathered.defvjp(lambda matrices: (_gathered(matrices), None), _split_gradients)


def cast_joined(config: ModelConfig, params: JoinedParams) -> JoinedParams:
    """Matrices and output matrix in the compute dtype."""
    matrices, output = cast((params.matrices, params.output), config)
    return JoinedParams(matrices, output, params.others)


def _is_gate_with_up() -> bool:
    return platform() == "tpu"


def logical_axes(path: tuple[Any, ...], leaf: Any) -> tuple[str | None, ...]:
    """The logical axes of a leaf of a parameter pytree, or of a pytree of the same structure.

    Leaves are recognised by the last key of their path, so an optimiser's moments get the axes of
    their parameters. Norm scales, and leaves with a different number of axes, are replicated.
    """
    replicated = (None,) * jnp.ndim(leaf)
    is_named = bool(path) and isinstance(path[-1], jax.tree_util.DictKey)
    axes = LOGICAL_AXES.get(path[-1].key, replicated) if is_named else replicated
    return axes if len(axes) == len(replicated) else replicated


def unstack(tree: Any, count: int) -> list[Any]:
    """Splits a pytree of stacked arrays along the leading axis."""
    return [jax.tree.map(lambda a, i=i: a[i], tree) for i in range(count)]


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _unstack(tree: Any, count: int) -> list[Any]:
    """`unstack`, whose backward pass stacks instead of adding up padded slices."""
    return unstack(tree, count)


_unstack.defvjp(
    lambda tree, count: (unstack(tree, count), None),
    lambda count, _, slices: (jax.tree.map(lambda *x: jnp.stack(x), *slices),),
)


def _row_major(x: Array) -> Array:
    """A residual stream `[M, D]`, on TPUs with the numbers of a token together; so its cotangent.

    XLA would keep it as the gather of the embeddings leaves it, with tokens along the lanes, which
    the products of every layer read and write more slowly.
    """
    if platform() != "tpu":
        return x
    # On each device for its own tokens: XLA does not split the constraint, and would gather all.
    fix = partial(with_layout_constraint, layouts=Layout((0, 1)))
    return on_every_device(fix, [("group", None)], ("group", None))(x)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _part(whole: Any, part: Any, index: int) -> Any:
    """`part`, one of the slices of `whole`, as a new slice; the cotangent is that of `part`.

    A layer that is computed again would otherwise need each of its slices as an array in memory,
    by a kernel of its own.
    """
    del part
    return jax.tree.map(lambda a: a[index], whole)


_part.defvjp(
    lambda whole, part, index: (_part(whole, part, index), None),
    lambda index, _, cotangent: (None, cotangent),
)


def length_mask(lengths: Array, width: int) -> Array:
    """`[B, width]`, true on the first `lengths` columns of each row; `lengths` is `[B]`."""
    return _arange(width)[None] < lengths[:, None]


def _arange(count: int) -> Array:
    return jnp.arange(count, dtype=jnp.int32)


def _flat(x: Array) -> Array:
    """`[B, G, S]` to `[B, G * S]`."""
    return x.reshape(x.shape[0], -1)
