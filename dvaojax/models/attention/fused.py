"""Training attention by cuDNN's fused kernels, for NVIDIA GPUs of the Ampere generation or later.

A row's attention is three calls: prompts to themselves, every completion to itself, and completions
to their prompt. The last two share a softmax and are merged by the logsumexp of each. In the
backward pass both get the merged result and the merged logsumexp, from which they compute their
parts of the gradients, so no gradient of a logsumexp is needed (as in ring attention, Liu et al.,
arXiv:2310.01889). Scores of other completions are never computed.

Packed completions attend to themselves blockwise, since several lengths are no rectangle for cuDNN.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from dvaojax.models.attention import blockwise
from dvaojax.models.attention.online_softmax import BackwardInputs, ColumnRange
from dvaojax.sharding import constrain

try:  # a private module, whose public function has neither float32 statistics nor their use
    from jax._src.cudnn import fused_attention_stablehlo as _module
except ImportError:  # pragma: no cover
    _module = None
cudnn: Any = _module

# From JAX 0.12 on, every call says that no function changes its scores.
_CHANGES_SCORES = jax.__version_info__ >= (0, 12)
WRAPPER_OPTIONS = {"score_mod": None} if _CHANGES_SCORES else {}
PRIMITIVE_OPTIONS = {"score_mod_name": None, "score_mod_jaxpr": None} if _CHANGES_SCORES else {}

Gradients = tuple[Array, Array, Array]


class Kernel(NamedTuple):
    """Attention of queries `[B, S, H, C]` to keys and values `[B, K, N, C]`.

    `lengths`, `[B]` int32, is the number of leading keys that all queries of a row attend to, at
    least one. None means causal attention of S queries to K = S keys.

    Attributes:
        forward: from queries, keys, values and lengths to the result, `[B, S, H, C]`, and the
            logsumexp of the scores, `[B, H, S]` float32.
        backward: from queries, keys, values, lengths, a logsumexp, a result and its cotangent, of
            which the last three may belong to a softmax over further keys, to the contributions of
            these keys to the gradients of queries, keys and values.
    """

    forward: Callable[[Array, Array, Array, Array | None], tuple[Array, Array]]
    backward: Callable[[Array, Array, Array, Array | None, Array, Array, Array], Gradients]


class FusedLayout(NamedTuple):
    """Layout of the tokens of a row, known at compile time.

    Attributes:
        prompt: `P`, tokens of the prompt with its padding.
        group_size: number of completions of one length; 0 if completions are packed.
        longest: upper bound of the length of a packed completion.
        max_scores: maximal number of scores of packed completions in memory.
    """

    prompt: int
    group_size: int
    longest: int
    max_scores: int


def obstacle(
    *, platform: str, capability: tuple[int, ...], head_width: int, dtype: np.dtype
) -> str | None:
    """Why the kernels cannot be used, in the form "it needs ..."; None if they can.

    Args:
        platform: "cpu", "gpu" or "tpu".
        capability: compute capability of the GPU; empty if it is not an NVIDIA GPU.
        head_width: `C`.
        dtype: of queries, keys and values.
    """
    widest = 256 if capability >= (9, 0) else 128
    if platform != "gpu":
        return f"it needs an NVIDIA GPU, not {platform}"
    if not capability:
        return "it needs a GPU of NVIDIA"
    if capability < (8, 0):
        present = ".".join(map(str, capability))
        return f"it needs compute capability 8.0 (Ampere) or later, not {present}"
    if np.dtype(dtype) != np.dtype(jnp.bfloat16):
        return f"it needs bfloat16, not {np.dtype(dtype).name}"
    if head_width % 8 or head_width > widest:
        return f"it needs heads of a multiple of 8 up to {widest}, not of {head_width}"
    return None if _is_installed() else "it needs cuDNN, which JAX does not find"


def _is_installed() -> bool:
    if cudnn is None:
        return False
    try:
        cudnn.check_cudnn_version()
    except RuntimeError:
        return False
    return True


def _cudnn_forward(
    queries: Array, keys: Array, values: Array, lengths: Array | None
) -> tuple[Array, Array]:
    arguments, options = cudnn_arguments(queries, keys, values, lengths)
    bind = cudnn._dot_product_attention_fwd_p_wrapper.bind
    output, logsumexp = bind(*arguments, **options, **WRAPPER_OPTIONS, is_training=True)
    return output, logsumexp


def _cudnn_backward(
    queries: Array,
    keys: Array,
    values: Array,
    lengths: Array | None,
    logsumexp: Array,
    output: Array,
    cotangent: Array,
) -> Gradients:
    arguments, options = cudnn_arguments(queries, keys, values, lengths)
    bind = cudnn._dot_product_attention_bwd_p_wrapper.bind
    given = (*arguments, logsumexp, output, cotangent)
    grad_queries, grad_keys, grad_values = bind(*given, **options, **WRAPPER_OPTIONS)
    return grad_queries, grad_keys, grad_values


def cudnn_arguments(
    queries: Array, keys: Array, values: Array, lengths: Array | None, layout: str = "BTNH"
) -> tuple[tuple[Array, ...], dict]:
    """The arrays and options that all of cuDNN's calls have in common.

    Args:
        queries: `[B, S, H, C]`; `[B, H, S, C]` in the layout "BNTH".
        keys: `[B, K, N, C]`; `[B, N, K, C]`.
        values: of the same shape.
        lengths: `[B]` or None, as for `Kernel`.
        layout: the order of tokens and heads.

    Returns:
        The ten arrays of a call, of which unused ones are `[0]`, and its options.
    """
    unused = jnp.zeros(0, queries.dtype)
    sizes = (unused, unused)
    if lengths is not None:
        sizes = (jnp.full_like(lengths, queries.shape[layout.index("T")]), lengths)
    mask = cudnn.MaskType.CAUSAL if lengths is None else cudnn.MaskType.PADDING
    options = {
        "scale": queries.shape[-1] ** -0.5,
        "seed": 0,
        "dropout_rate": 0.0,
        "variadic_args": (False, False),
        "mask_type": mask,
        "layout": cudnn.AttentionLayout[layout].value,
        "sliding_window_length": None,
    }
    # Bias, sizes, offsets of packed rows and page tables.
    return (queries, keys, values, unused, *sizes, *(unused,) * 4), options


CUDNN = Kernel(_cudnn_forward, _cudnn_backward)


def attend_fused(
    queries: Array,
    keys: Array,
    values: Array,
    lengths: Array,
    own: ColumnRange | None,
    *,
    layout: FusedLayout,
    kernel: Kernel = CUDNN,
) -> Array:
    """Attention of rows with a prompt followed by its completions.

    Args:
        queries: `[B, P + S, H, C]`.
        keys: `[B, P + S, N, C]`.
        values: `[B, P + S, N, C]`.
        lengths: `[B]` int32, tokens of each prompt, at least one.
        own: for packed completions, the columns of its completion that each token attends to,
            `[B, 1, 1, S]`; else None.
        layout: the layout of the rows.
        kernel: cuDNN's, or another with the same contract.

    Returns:
        `[B, P + S, H, C]` in the dtype of the queries.
    """
    return _attend(queries, keys, values, lengths, own, layout, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _attend(
    queries: Array,
    keys: Array,
    values: Array,
    lengths: Array,
    own: ColumnRange | None,
    layout: FusedLayout,
    kernel: Kernel,
) -> Array:
    return _forward(queries, keys, values, lengths, own, layout, kernel)[0]


def _forward(
    queries: Array,
    keys: Array,
    values: Array,
    lengths: Array,
    own: ColumnRange | None,
    layout: FusedLayout,
    kernel: Kernel,
):
    """The result, and the residuals of the backward pass."""
    q, k, v = (_split(x, layout.prompt) for x in (queries, keys, values))
    output, logsumexp = kernel.forward(q[0], k[0], v[0], None)
    statistics = (logsumexp,)
    if queries.shape[1] > layout.prompt:
        completions = (q[1], k[1], v[1])
        if own is None:
            own_part = _attend_rectangle(*completions, layout, kernel)
        else:
            own_part = _attend_packed(*completions, own, layout)
        merged = _merge(own_part, kernel.forward(q[1], k[0], v[0], lengths))
        output = jnp.concatenate([output, merged[0].astype(output.dtype)], axis=1)
        statistics = (logsumexp, merged[1])
    # Named, so that a policy of `jax.checkpoint` can save them.
    output, statistics = checkpoint_name((output, statistics), "attention")
    return output, (queries, keys, values, lengths, own, output, statistics)


def _backward(layout: FusedLayout, kernel: Kernel, residuals, cotangent: Array):
    """The gradients of queries, keys and values."""
    queries, keys, values, lengths, own, output, statistics = residuals
    q, k, v, o, do = (_split(x, layout.prompt) for x in (queries, keys, values, output, cotangent))
    gradients = kernel.backward(q[0], k[0], v[0], None, statistics[0], o[0], do[0])
    if queries.shape[1] > layout.prompt:
        after = (statistics[1], o[1], do[1])
        completions = (q[1], k[1], v[1])
        if own is None:
            own_part = _gradients_rectangle(*completions, after, layout, kernel)
        else:
            own_part = _gradients_packed(*completions, own, after, layout)
        shared = kernel.backward(q[1], k[0], v[0], lengths, *after)
        gradients = (
            jnp.concatenate([gradients[0], own_part[0] + shared[0]], axis=1),
            jnp.concatenate([gradients[1] + shared[1], own_part[1]], axis=1),
            jnp.concatenate([gradients[2] + shared[2], own_part[2]], axis=1),
        )
    return *gradients, None, None


_attend.defvjp(_forward, _backward)


def _merge(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    """Attention to the keys of both; `[B, S, H, C]` in float32 at least, and `[B, H, S]`."""
    total = jnp.logaddexp(first[1], second[1])
    terms = [
        output.astype(total.dtype) * _by_token(jnp.exp(logsumexp - total))
        for output, logsumexp in (first, second)
    ]
    return terms[0] + terms[1], total


def _by_token(x: Array) -> Array:
    """`[B, H, S]` to `[B, S, H, 1]`."""
    return jnp.swapaxes(x, 1, 2)[..., None]


def _attend_rectangle(
    queries: Array, keys: Array, values: Array, layout: FusedLayout, kernel: Kernel
) -> tuple[Array, Array]:
    """Attention of completions of one length to themselves."""
    fold = partial(_fold, group_size=layout.group_size)
    output, logsumexp = kernel.forward(fold(queries), fold(keys), fold(values), None)
    return output.reshape(queries.shape), _unfold_statistics(logsumexp, len(queries))


def _gradients_rectangle(
    queries: Array,
    keys: Array,
    values: Array,
    after: tuple[Array, Array, Array],
    layout: FusedLayout,
    kernel: Kernel,
) -> Gradients:
    """The gradients of `_attend_rectangle`; `after` is the merged statistics, result, cotangent."""
    fold = partial(_fold, group_size=layout.group_size)
    logsumexp = _fold_statistics(after[0], layout.group_size)
    gradients = kernel.backward(
        fold(queries), fold(keys), fold(values), None, logsumexp, fold(after[1]), fold(after[2])
    )
    like = (queries, keys, values)
    grad_queries, grad_keys, grad_values = (
        x.reshape(y.shape) for x, y in zip(gradients, like, strict=True)
    )
    return grad_queries, grad_keys, grad_values


def _attend_packed(
    queries: Array,
    keys: Array,
    values: Array,
    own: ColumnRange,
    layout: FusedLayout,
) -> tuple[Array, Array]:
    """Attention of packed completions to themselves, blockwise."""
    q, k, v = (x[:, :, None] for x in blockwise.by_head(queries, keys, values))
    part = blockwise.attend_to_past(
        q, k, v, own, longest=layout.longest, max_scores=layout.max_scores
    )
    logsumexp = part.logsumexp[:, :, 0].swapaxes(2, 3)  # [B, N, R, S]
    output = blockwise.by_token(part.output[:, :, 0])
    return output, logsumexp.reshape(len(queries), -1, queries.shape[1])


def _gradients_packed(
    queries: Array,
    keys: Array,
    values: Array,
    own: ColumnRange,
    after: tuple[Array, Array, Array],
    layout: FusedLayout,
) -> Gradients:
    """The gradients of `_attend_packed`; `after` is the merged statistics, result, cotangent."""
    q, k, v = (x[:, :, None] for x in blockwise.by_head(queries, keys, values))
    logsumexp, output, cotangent = after
    wide = logsumexp.dtype
    delta = jnp.sum(output.astype(wide) * cotangent.astype(wide), axis=-1, keepdims=True)
    by_head = partial(_queries_by_head, like=keys)
    inputs = BackwardInputs(
        by_head(_by_token(logsumexp))[..., 0], by_head(delta)[..., 0], by_head(cotangent)
    )
    gradients = blockwise.past_gradients(
        q, k, v, own, inputs, longest=layout.longest, max_scores=layout.max_scores
    )
    grad_keys, grad_values = (jnp.swapaxes(x[:, :, 0], 1, 2) for x in gradients[1:])
    grad_queries = blockwise.by_token(gradients[0][:, :, 0]).astype(queries.dtype)
    return grad_queries, grad_keys.astype(keys.dtype), grad_values.astype(values.dtype)


def _queries_by_head(x: Array, *, like: Array) -> Array:
    """`[B, S, H, C]` to `[B, N, 1, S, R, C]`, where `like` are the keys."""
    return blockwise.by_head(x, like, like)[0][:, :, None]


def _split(x: Array, width: int) -> tuple[Array, Array]:
    """Prompt and completions of `[B, P + S, heads, C]`, with groups and heads split over devices.

    The kernels run on every device's own groups and heads; the other axes must be whole.
    """
    x = constrain(x, "group", None, "heads", None)
    return x[:, :width], x[:, width:]


def _fold(x: Array, *, group_size: int) -> Array:
    """`[B, G * S, ...]` to `[B * G, S, ...]`."""
    return x.reshape(len(x) * group_size, -1, *x.shape[2:])


def _fold_statistics(x: Array, group_size: int) -> Array:
    """`[B, H, G * S]` to `[B * G, H, S]`."""
    batch, heads, _ = x.shape
    apart = x.reshape(batch, heads, group_size, -1)
    return jnp.swapaxes(apart, 1, 2).reshape(batch * group_size, heads, -1)


def _unfold_statistics(x: Array, batch: int) -> Array:
    """The inverse of `_fold_statistics`."""
    apart = x.reshape(batch, -1, *x.shape[1:])
    return jnp.swapaxes(apart, 1, 2).reshape(batch, x.shape[1], -1)
