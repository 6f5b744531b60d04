"""The sampler: every prompt is prefilled once, its G completions are decoded side by side.

One compiled program: prefill, then a loop of one token a turn that ends as soon as every
completion has stopped. A completion's randomness comes from its own key alone, so neither its
companions nor the number of devices can change it.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models import decoder, unrolled
from dvaojax.models.cache import CompletionCache, empty_cache
from dvaojax.models.config import ModelConfig
from dvaojax.rollout.sampling import Sampling, log_distribution, sample_token
from dvaojax.types import Rollout

MAX_STAGES = 4
MIN_STAGE = 16  # tokens; shorter stages cost more to compile than they save
EIGHTHS = (1, 3, 5, 8)  # of a group, the sizes that it is worked on in


def completion_keys(key: Array, serials: Array, *, group_size: int) -> Array:
    """One random key per completion.

    Args:
        key: the run's sampling key; it is consumed.
        serials: `[B]` int, a number that is each prompt's own: its position in the data stream.
        group_size: `G`.

    Returns:
        `[B, G]` keys, each a function of the run's key, the serial and the place in the group.
    """
    members = jnp.arange(group_size)
    of_group = jax.vmap(
        lambda prompt_key: jax.vmap(lambda g: jax.random.fold_in(prompt_key, g))(members)
    )
    return of_group(jax.vmap(lambda serial: jax.random.fold_in(key, serial))(serials))


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
        sampling: how a token is drawn.
        max_new_tokens: `T`, at least 1, the stop token included.
        stop_tokens: any of them ends a completion and is part of it; with none, only the limit
            ends one.
        pad_token: what stands behind the end, where the mask is false; it may be a stop token.
        limits: `[B, G]` int, how many tokens each completion may have, at most `max_new_tokens`,
            which is what all may have by default. With 0 there is no completion in that place:
            groups of unequal size are drawn in one program.
        max_stages: stages of the rollout at most, see `stages`; 1 compiles quickest.

    Returns:
        The completions; log-probabilities are those of the distribution each token was drawn
        from, so under truncated sampling they are renormalised over the tokens that were kept.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_rank([prompt_tokens, prompt_lengths, keys], [2, 1, 2])
    chex.assert_equal_shape_prefix([prompt_tokens, prompt_lengths, keys], 1)
    if limits is None:
        limits = jnp.full(keys.shape, max_new_tokens, jnp.int32)
    chex.assert_equal_shape([keys, limits])
    model = decoder.apply(config, params)
    hidden, prompt_caches = model.prefill(prompt_tokens)
    last = jnp.take_along_axis(hidden, (prompt_lengths - 1)[:, None, None], axis=1)
    first_logits = jnp.broadcast_to(model.logits(last), (*keys.shape, config.vocab_size))
    ready = unrolled(model)
    draw = partial(_draw, sampling=sampling, stop_tokens=stop_tokens, pad_token=pad_token)

    def turn(state: _Loop) -> _Loop:
        hidden, caches = ready.decode(
            state.last_tokens, state.column - 1, prompt_lengths, prompt_caches, state.caches
        )
        return draw(state._replace(caches=caches), ready.logits(hidden))

    state = draw(_start(keys, limits, length=max_new_tokens, pad_token=pad_token), first_logits)
    for stage in stages(max_new_tokens, keys.shape[1], max_stages):
        state = _run(stage, turn, state, config)
    return state.rollout


class Stage(NamedTuple):
    """Some columns of a rollout, in which memory and work have one size.

    Attributes:
        until: the columns it fills end here; caches hold so many tokens meanwhile.
        group_sizes: the numbers of completions of a group that it can work on, falling. At any
            time it works on the smallest that holds what is unfinished in every group.
    """

    until: int
    group_sizes: tuple[int, ...]


def stages(max_new_tokens: int, group_size: int, max_stages: int = MAX_STAGES) -> list[Stage]:
    """The stages of a rollout: each is as long as all before it.

    A cache that stood in full from the start would be read in full at every token, and completions
    that have ended would go on being computed until the last one ends.
    """
    bounds = [max_new_tokens]
    while len(bounds) < max_stages and bounds[0] >= 2 * MIN_STAGE:
        bounds.insert(0, -(-bounds[0] // 2))
    parts = {-(-group_size * eighths // 8) for eighths in EIGHTHS}
    sizes = tuple(sorted(parts, reverse=True))
    return [Stage(until, sizes if i else (group_size,)) for i, until in enumerate(bounds)]


class _Loop(NamedTuple):
    """What one turn of the loop hands to the next; `column` tokens of each row are done."""

    column: Array
    rollout: Rollout
    last_tokens: Array  # [B, G]
    active: Array  # [B, G] true while a completion goes on
    uniforms: Array  # [B, G, T] the random number that decides each token
    limits: Array  # [B, G] tokens each completion may have
    caches: tuple[CompletionCache, ...]


def _start(keys: Array, limits: Array, *, length: int, pad_token: int) -> _Loop:
    """Nothing drawn yet, in room for `length` tokens of every completion; no caches so far."""
    shape = (*keys.shape, length)
    return _Loop(
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
    """`[B, G, length]` numbers in [0, 1): a token's is its own, whatever the other tokens are."""

    def of_token(key: Array, column: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(key, column))

    columns = jnp.arange(length)
    return jax.vmap(jax.vmap(jax.vmap(of_token, (None, 0)), (0, None)), (0, None))(keys, columns)


def _run(stage: Stage, turn: Callable[[_Loop], _Loop], state: _Loop, config: ModelConfig) -> _Loop:
    """The state after a stage, which ends early where every completion has."""
    batch, group = state.active.shape
    if not state.caches:
        empty = empty_cache(config, num_prompts=batch, group_size=group, length=stage.until)
        state = state._replace(caches=empty)
    state = state._replace(caches=tuple(cache.grown(stage.until) for cache in state.caches))

    def goes_on(state: _Loop, *, fewest: int = 0) -> Array:
        return (state.column < stage.until) & (_largest(state) > fewest)

    def with_size(size: int, fewer: int, state: _Loop) -> _Loop:
        """Turns for `size` members of every group, until `fewer` would do."""
        going = partial(goes_on, fewest=fewer)
        if size == group:
            return lax.while_loop(going, turn, state)
        members = jnp.argsort(~state.active, axis=1, stable=True)[:, :size]
        return _put_back(state, lax.while_loop(going, turn, _taken(state, members)), members)

    sizes = stage.group_sizes
    if len(sizes) == 1:
        return with_size(group, 0, state)
    branches = list(map(partial(partial, with_size), sizes, (*sizes[1:], 0)))

    def in_the_smallest(state: _Loop) -> _Loop:
        fitting = jnp.sum(_largest(state) <= jnp.array(sizes))
        return lax.switch(fitting - 1, branches, state)

    return lax.while_loop(goes_on, in_the_smallest, state)


def _largest(state: _Loop) -> Array:
    """How many completions of a group go on, in the group where most do."""
    return jnp.max(jnp.sum(state.active, axis=1))


def _taken(state: _Loop, members: Array) -> _Loop:
    """The state of some members of every group, `members` being `[B, size]` places in it."""
    return jax.tree.map(lambda axis, a: _gather(a, members, axis), _group_axes(state), state)


def _put_back(state: _Loop, part: _Loop, members: Array) -> _Loop:
    """The state with `part`, which `_taken` took and a stage has carried on."""
    return jax.tree.map(
        lambda axis, a, new: _scatter(a, new, members, axis), _group_axes(state), state, part
    )


def _group_axes(state: _Loop) -> _Loop:
    """Where the group's axis stands in each leaf of the state; 0 where there is none."""
    axes = jax.tree.map(lambda a: min(a.ndim, 1), state)
    return axes._replace(caches=jax.tree.map(lambda a: 2, state.caches))


def _gather(a: Array, members: Array, axis: int) -> Array:
    if axis == 0:
        return a
    return jax.vmap(lambda row, members: jnp.take(row, members, axis=axis - 1))(a, members)


def _scatter(a: Array, new: Array, members: Array, axis: int) -> Array:
    if axis == 0:
        return new
    if axis == 1:
        return jax.vmap(lambda row, new, members: row.at[members].set(new))(a, new, members)
    return jax.vmap(lambda row, new, members: row.at[:, members].set(new))(a, new, members)


def _draw(
    state: _Loop,
    logits: Array,
    *,
    sampling: Sampling,
    stop_tokens: tuple[int, ...],
    pad_token: int,
) -> _Loop:
    """Token number `column` of every completion that goes on, from its logits `[B, G, V]`."""
    uniforms = lax.dynamic_index_in_dim(state.uniforms, state.column, axis=2, keepdims=False)
    drawn, logprobs = jax.vmap(jax.vmap(sample_token))(uniforms, log_distribution(logits, sampling))
    tokens = jnp.where(state.active, drawn, pad_token)
    stops = jnp.asarray(stop_tokens, jnp.int32)
    # Padding may be a stop token: what it stands behind has stopped already.
    stopped = jnp.any(tokens[..., None] == stops[None, None], axis=-1)
    logprobs = jnp.where(state.active, logprobs, 0.0)

    def write(rows: Array, column: Array) -> Array:
        return lax.dynamic_update_slice(rows, column[..., None], (0, 0, state.column))

    done = state.rollout
    done = Rollout(
        tokens=write(done.tokens, tokens),
        mask=write(done.mask, state.active),
        logprobs=write(done.logprobs, logprobs),
        stopped=done.stopped | stopped,
    )
    column = state.column + 1
    return state._replace(
        column=column,
        rollout=done,
        last_tokens=tokens,
        active=state.active & ~stopped & (column < state.limits),
    )
