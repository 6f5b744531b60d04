"""The sampler: each prompt is prefilled once, and its G completions are decoded in parallel.

It is one compiled program: prefill, then a loop with one token per step that ends as soon as all
completions have ended. The randomness of a completion depends only on its own key, so a completion
does not depend on the other completions or on the number of devices.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from dvaojax import sharding
from dvaojax.models import decoder, unrolled
from dvaojax.models.config import ModelConfig
from dvaojax.models.unrolled import Caches, UnrolledDecoder
from dvaojax.numerics import require_axes, require_shape
from dvaojax.rollout.sampling import Sampling, draw_tokens
from dvaojax.types import Rollout

MAX_STAGES = 4
MIN_STAGE = 16  # tokens; shorter stages cost more to compile than they save
MANY_ROWS = 300  # on one device, from which on matrix products are bound by arithmetic
GROUP_EIGHTHS = (1, 3, 5, 8)  # sizes that unfinished groups are decoded in, in 1/8 of a group


def completion_keys(key: Array, serials: Array, *, group_size: int) -> Array:
    """One random key per completion.

    Args:
        key: the run's sampling key; it is consumed.
        serials: `[B]` int, a unique number of each prompt: its position in the data stream.
        group_size: `G`.

    Returns:
        `[B, G]` keys, each a function of the run's key, the serial and the index in the group.
    """
    members = jnp.arange(group_size)
    group_keys = jax.vmap(
        lambda prompt_key: jax.vmap(lambda g: jax.random.fold_in(prompt_key, g))(members)
    )
    return group_keys(jax.vmap(lambda serial: jax.random.fold_in(key, serial))(serials))


def rollout(
    params: decoder.Params,
    prompt_tokens: Array,
    prompt_lengths: Array,
    keys: Array,
    *,
    config: ModelConfig,
    sampling: Sampling,
    max_new_tokens: int,
    stop_tokens: tuple[int, ...],
    pad_token: int,
    limits: Array | None = None,
    max_stages: int = MAX_STAGES,
) -> Rollout:
    """Samples a group of completions for each prompt.

    Args:
        params: the decoder's parameters.
        prompt_tokens: `[B, P]` int32, padding on the right.
        prompt_lengths: `[B]` int32, at least 1.
        keys: `[B, G]` from `completion_keys`; they are consumed.
        config: the decoder's shape.
        sampling: temperature and truncation of the distribution.
        max_new_tokens: `T`, at least 1, including the stop token.
        stop_tokens: each of them ends a completion and is part of it; with none, completions end at
            their limit.
        pad_token: fills the columns after the end, where the mask is false; it may be a stop token.
        limits: `[B, G]` int, maximal number of tokens of each completion, at most `max_new_tokens`,
            which is the default. 0 means no completion, so one program samples groups of different
            sizes.
        max_stages: maximal number of stages of the rollout, see `stages`; 1 compiles fastest.

    Returns:
        The completions. Log-probabilities are those of the distribution each token was drawn
        from, so with truncated sampling they are renormalised over the tokens that were kept.

    Raises:
        AssertionError: the shapes do not fit.
    """
    require_axes("prompt_tokens", prompt_tokens, (2,), axes="[B, P]")
    batch = prompt_tokens.shape[:1]
    require_shape("prompt_lengths", prompt_lengths, batch, axes="[B]", like="prompt_tokens")
    require_axes("keys", keys, (2,), axes="[B, G]")
    shape = (*batch, keys.shape[1])
    require_shape("keys", keys, shape, axes="[B, G]", like="prompt_tokens [B, P]")
    if limits is None:
        limits = jnp.full(keys.shape, max_new_tokens, jnp.int32)
    require_shape("limits", limits, keys.shape, axes="[B, G]", like="keys")
    decoding_model = unrolled(decoder.apply(config, params))
    hidden, prompt_caches = decoding_model.prefill(prompt_tokens)
    last = jnp.take_along_axis(hidden, (prompt_lengths - 1)[:, None, None], axis=1)
    logits = decoding_model.decoder.logits(last)
    first_logits = jnp.broadcast_to(logits, (*keys.shape, config.vocab_size))
    append_token = partial(
        _append_token, sampling=sampling, stop_tokens=stop_tokens, pad_token=pad_token
    )

    def decode_step(state: _SamplingState) -> _SamplingState:
        ends = jnp.where(state.active, state.column, 0)
        hidden, caches = decoding_model.decode(
            state.last_tokens, state.column - 1, ends, prompt_lengths, prompt_caches, state.caches
        )
        return append_token(state._replace(caches=caches), decoding_model.logits(hidden))

    state = _initial_state(keys, limits, length=max_new_tokens, pad_token=pad_token)
    state = append_token(state, first_logits)
    for stage in _stages(decoding_model, max_new_tokens, keys.shape, max_stages):
        state = _run_stage(stage, decode_step, state, decoding_model)
    return state.rollout


class Stage(NamedTuple):
    """A range of columns of a rollout that is decoded with caches of one length.

    Attributes:
        end: the column after the last one of the stage; caches have this length.
        group_sizes: numbers of completions of a group that can be decoded together, descending. The
            smallest one that fits the unfinished completions of every group is used.
    """

    end: int
    group_sizes: tuple[int, ...]


def stages(max_new_tokens: int, group_size: int, max_stages: int = MAX_STAGES) -> list[Stage]:
    """The stages of a rollout: each ends at twice the column of the one before.

    A cache of full length from the start would be read in full for every token, and completions
    that have ended would be computed until the last one ends.
    """
    bounds = [max_new_tokens]
    while len(bounds) < max_stages and bounds[0] >= 2 * MIN_STAGE:
        bounds.insert(0, -(-bounds[0] // 2))
    sizes = {-(-group_size * eighths // 8) for eighths in GROUP_EIGHTHS}
    descending = tuple(sorted(sizes, reverse=True))
    return [Stage(end, descending if i else (group_size,)) for i, end in enumerate(bounds)]


def _stages(
    model: UnrolledDecoder, length: int, shape: tuple[int, ...], max_stages: int
) -> list[Stage]:
    """The stages of a rollout of `shape`, `[B, G]`.

    A kernel reads only what is filled, so one stage is enough. Completions that have ended still
    cost their matrix products, which matters where these take longer than reading the weights.
    """
    batch, group_size = shape
    if model.backend == "einsum":
        return stages(length, group_size, max_stages)
    rows = batch * group_size // sharding.num_shards("group")
    sizes = {group_size, -(-group_size // 2) if rows > MANY_ROWS else group_size}
    return [Stage(length, tuple(sorted(sizes, reverse=True)))]


class _SamplingState(NamedTuple):
    """State of the sampling loop."""

    column: Array  # number of columns that are filled
    rollout: Rollout
    last_tokens: Array  # [B, G]
    active: Array  # [B, G] true for unfinished completions
    uniforms: Array  # [B, G, T] the random number that each token is drawn with
    limits: Array  # [B, G] maximal number of tokens of each completion
    caches: Caches


def _initial_state(keys: Array, limits: Array, *, length: int, pad_token: int) -> _SamplingState:
    """Initial state of the sampling loop, with capacity for `length` tokens and without caches."""
    shape = (*keys.shape, length)
    return _SamplingState(
        column=jnp.zeros((), jnp.int32),
        rollout=Rollout(
            tokens=jnp.full(shape, pad_token, jnp.int32),
            mask=jnp.zeros(shape, bool),
            logprobs=jnp.zeros(shape, jnp.float32),
            stopped=jnp.zeros(keys.shape, bool),
        ),
        last_tokens=jnp.zeros(keys.shape, jnp.int32),
        active=limits > 0,
        uniforms=_uniforms(keys, length),
        limits=limits,
        caches=(),
    )


def _uniforms(keys: Array, length: int) -> Array:
    """`[B, G, length]` random numbers in [0, 1), each a function of a key and a column only."""

    def token_uniform(key: Array, column: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(key, column))

    columns = jnp.arange(length)
    over_columns = jax.vmap(token_uniform, (None, 0))
    return jax.vmap(jax.vmap(over_columns, (0, None)), (0, None))(keys, columns)


def _run_stage(
    stage: Stage,
    decode_step: Callable[[_SamplingState], _SamplingState],
    state: _SamplingState,
    model: UnrolledDecoder,
) -> _SamplingState:
    """The state after a stage, which ends early if all completions have ended.

    The number of unfinished completions only falls, so each size of a group has one loop, in
    falling order. The loop of whole groups is outside any conditional: with another branch that
    gathers from the same caches, XLA would copy every cache at every token.
    """
    batch, group = state.active.shape
    if not state.caches:
        empty = model.empty_caches(num_prompts=batch, group_size=group, length=stage.end)
        state = state._replace(caches=empty)
    state = state._replace(caches=tuple(cache.extended(stage.end) for cache in state.caches))

    def is_unfinished(state: _SamplingState, *, smaller: int = 0) -> Array:
        return (state.column < stage.end) & (_max_active(state) > smaller)

    sizes = stage.group_sizes
    for size, smaller in zip(sizes, (*sizes[1:], 0), strict=True):
        condition = partial(is_unfinished, smaller=smaller)
        if size == group:
            state = lax.while_loop(condition, decode_step, state)
        else:
            decode = partial(_decode_members, size, condition, decode_step)
            state = lax.cond(condition(state), decode, lambda state: state, state)
    return state


def _decode_members(
    size: int,
    condition: Callable[[_SamplingState], Array],
    decode_step: Callable[[_SamplingState], _SamplingState],
    state: _SamplingState,
) -> _SamplingState:
    """Decodes `size` members of every group, the unfinished ones among them, in smaller caches."""
    members = jnp.argsort(~state.active, axis=1, stable=True)[:, :size]
    part = lax.while_loop(condition, decode_step, _select_members(state, members))
    return _update_members(state, part, members)


def _max_active(state: _SamplingState) -> Array:
    """The largest number of unfinished completions in a group."""
    return jnp.max(jnp.sum(state.active, axis=1))


def _select_members(state: _SamplingState, members: Array) -> _SamplingState:
    """The state of some members of every group; `members` are their indices, `[B, size]`."""
    return jax.tree.map(lambda axes, a: _gather(a, members, axes), _completion_axes(state), state)


def _update_members(state: _SamplingState, part: _SamplingState, members: Array) -> _SamplingState:
    """The state with the selected members replaced by those of `part`."""
    return jax.tree.map(
        lambda axes, a, new: _scatter(a, new, members, axes), _completion_axes(state), state, part
    )


def _completion_axes(state: _SamplingState) -> _SamplingState:
    """For each leaf of the state, the number of leading axes that number completions: 0 to 2."""
    axes = jax.tree.map(lambda a: min(a.ndim, 2), state)
    cache_axes = state.caches[0].completion_axes
    return axes._replace(caches=jax.tree.map(lambda a: cache_axes, state.caches))


def _gather(a: Array, members: Array, axes: int) -> Array:
    if axes == 0:
        return a
    part = jax.vmap(lambda row, members: row[members])(_by_group(a, members, axes), members)
    return part.reshape(-1, *part.shape[2:]) if axes == 1 else part


def _scatter(a: Array, new: Array, members: Array, axes: int) -> Array:
    if axes == 0:
        return new
    rows, new_rows = (_by_group(x, members, axes) for x in (a, new))
    set_members = jax.vmap(lambda row, new, members: row.at[members].set(new))
    return set_members(rows, new_rows, members).reshape(a.shape)


def _by_group(a: Array, members: Array, axes: int) -> Array:
    """`[B, G, ...]`, of an array whose `axes` leading axes number the completions."""
    return a.reshape(len(members), -1, *a.shape[axes:])


def _append_token(
    state: _SamplingState,
    logits: Array,
    *,
    sampling: Sampling,
    stop_tokens: tuple[int, ...],
    pad_token: int,
) -> _SamplingState:
    """Draws the next token of every unfinished completion from its logits `[B, G, V]`."""
    uniforms = lax.dynamic_index_in_dim(state.uniforms, state.column, axis=2, keepdims=False)
    drawn, logprobs = draw_tokens(uniforms, logits, sampling)
    tokens = jnp.where(state.active, drawn, pad_token)
    stops = jnp.asarray(stop_tokens, jnp.int32)
    # Active completions only, because `pad_token` may be a stop token.
    stopped = state.active & jnp.any(tokens[..., None] == stops[None, None], axis=-1)
    logprobs = jnp.where(state.active, logprobs, 0.0)

    def write(rows: Array, column: Array) -> Array:
        return lax.dynamic_update_slice(rows, column[..., None], (0, 0, state.column))

    previous = state.rollout
    rollout = Rollout(
        tokens=write(previous.tokens, tokens),
        mask=write(previous.mask, state.active),
        logprobs=write(previous.logprobs, logprobs),
        stopped=previous.stopped | stopped,
    )
    column = state.column + 1
    return state._replace(
        column=column,
        rollout=rollout,
        last_tokens=tokens,
        active=state.active & ~stopped & (column < state.limits),
    )
