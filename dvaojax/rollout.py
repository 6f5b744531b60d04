"""The sampler: every prompt is prefilled once, its G completions are decoded side by side.

One compiled program: prefill, then a loop of one token a turn that ends as soon as every
completion has stopped. A completion's randomness comes from its own key alone, so neither its
companions nor the number of devices can change it.
"""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.models import decoder
from dvaojax.models.cache import CompletionCache, empty_cache
from dvaojax.models.config import ModelConfig
from dvaojax.sampling import Sampling, log_distribution, sample_token
from dvaojax.types import Rollout


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

    Returns:
        The completions; log-probabilities are those of the distribution each token was drawn
        from, so under truncated sampling they are renormalised over the tokens that were kept.
    """
    chex.assert_rank([prompt_tokens, prompt_lengths, keys], [2, 1, 2])
    chex.assert_equal_shape_prefix([prompt_tokens, prompt_lengths, keys], 1)
    model = decoder.apply(config, params)
    draw = partial(
        _draw, keys=keys, sampling=sampling, stop_tokens=stop_tokens, pad_token=pad_token
    )

    def goes_on(state: _Loop) -> Array:
        return (state.column < max_new_tokens) & jnp.any(state.active)

    def turn(state: _Loop) -> _Loop:
        hidden, caches = model.decode(
            state.last_tokens, state.column - 1, prompt_lengths, prompt_caches, state.caches
        )
        return draw(state._replace(caches=caches), model.logits(hidden))

    hidden, prompt_caches = model.prefill(prompt_tokens)
    last = jnp.take_along_axis(hidden, (prompt_lengths - 1)[:, None, None], axis=1)
    first_logits = jnp.broadcast_to(model.logits(last), (*keys.shape, config.vocab_size))
    state = draw(
        _start(config, *keys.shape, length=max_new_tokens, pad_token=pad_token), first_logits
    )
    return lax.while_loop(goes_on, turn, state).rollout


class _Loop(NamedTuple):
    """What one turn of the loop hands to the next; `column` tokens of each row are done."""

    column: Array
    rollout: Rollout
    last_tokens: Array  # [B, G]
    active: Array  # [B, G] true while a completion goes on
    caches: tuple[CompletionCache, ...]


def _start(
    config: ModelConfig, num_prompts: int, group_size: int, *, length: int, pad_token: int
) -> _Loop:
    """Nothing drawn yet, in room for `length` tokens of every completion."""
    groups = (num_prompts, group_size)
    shape = (*groups, length)
    return _Loop(
        column=jnp.zeros((), jnp.int32),
        rollout=Rollout(
            tokens=jnp.full(shape, pad_token, jnp.int32),
            mask=jnp.zeros(shape, bool),
            logprobs=jnp.zeros(shape, jnp.float32),
            stopped=jnp.zeros(groups, bool),
        ),
        last_tokens=jnp.zeros(groups, jnp.int32),
        active=jnp.ones(groups, bool),
        caches=empty_cache(config, num_prompts=num_prompts, group_size=group_size, length=length),
    )


def _draw(
    state: _Loop,
    logits: Array,
    *,
    keys: Array,
    sampling: Sampling,
    stop_tokens: tuple[int, ...],
    pad_token: int,
) -> _Loop:
    """Token number `column` of every completion that goes on, from its logits `[B, G, V]`."""
    # A token's key is its own: the place of a token, not the number of turns, decides it.
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (0, None))
    drawn, logprobs = jax.vmap(jax.vmap(sample_token))(
        fold(keys, state.column), log_distribution(logits, sampling)
    )
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
    return _Loop(state.column + 1, done, tokens, state.active & ~stopped, state.caches)
