"""The sampler: every prompt is prefilled once, its G completions are decoded side by side.

One compiled program: prefill, then a loop of one token a turn that ends as soon as every
completion has stopped. A completion's randomness comes from its own key alone, so neither its
companions nor the number of devices can change it.
"""

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


class _Loop(NamedTuple):
    """What one turn of the loop hands to the next; `column` tokens of each row are done."""

    column: Array
    rollout: Rollout
    last_tokens: Array  # [B, G]
    active: Array  # [B, G] true while a completion goes on
    caches: tuple[CompletionCache, ...]


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
        max_new_tokens: `T`, the stop token included.
        stop_tokens: any of them ends a completion and is part of it.
        pad_token: what stands behind the end; it is never read.

    Returns:
        The completions; log-probabilities are those of the distribution each token was drawn
        from, so under truncated sampling they are renormalised over the tokens that were kept.
    """
    chex.assert_rank([prompt_tokens, prompt_lengths], [2, 1])
    chex.assert_axis_dimension(prompt_tokens, 0, keys.shape[0])
    batch, group = keys.shape[:2]
    model = decoder.apply(config, params)
    stops = jnp.asarray(stop_tokens, jnp.int32)

    def record(state: _Loop, hidden: Array) -> _Loop:
        """Draws token number `column` of every completion that goes on."""
        logprobs = log_distribution(model.logits(hidden), sampling)
        fold = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (0, None))
        tokens, chosen = jax.vmap(jax.vmap(sample_token))(fold(keys, state.column), logprobs)
        tokens = jnp.where(state.active, tokens, pad_token)
        stopped = jnp.any(tokens[..., None] == stops[None, None], axis=-1) & state.active
        done = state.rollout
        column = (0, 0, state.column)
        done = Rollout(
            tokens=lax.dynamic_update_slice(done.tokens, tokens[..., None], column),
            mask=lax.dynamic_update_slice(done.mask, state.active[..., None], column),
            logprobs=lax.dynamic_update_slice(
                done.logprobs, jnp.where(state.active, chosen, 0.0)[..., None], column
            ),
            stopped=done.stopped | stopped,
        )
        return _Loop(state.column + 1, done, tokens, state.active & ~stopped, state.caches)

    def goes_on(state: _Loop) -> Array:
        return (state.column < max_new_tokens) & jnp.any(state.active)

    def turn(state: _Loop) -> _Loop:
        hidden, caches = model.decode(
            state.last_tokens, state.column - 1, prompt_lengths, prompt_caches, state.caches
        )
        return record(state._replace(caches=caches), hidden)

    hidden, prompt_caches = model.prefill(prompt_tokens)
    last = jnp.take_along_axis(hidden, (prompt_lengths - 1)[:, None, None], axis=1)
    shape = (batch, group, max_new_tokens)
    state = _Loop(
        column=jnp.zeros((), jnp.int32),
        rollout=Rollout(
            tokens=jnp.full(shape, pad_token, jnp.int32),
            mask=jnp.zeros(shape, bool),
            logprobs=jnp.zeros(shape, jnp.float32),
            stopped=jnp.zeros((batch, group), bool),
        ),
        last_tokens=jnp.zeros((batch, group), jnp.int32),
        active=jnp.ones((batch, group), bool),
        caches=empty_cache(config, num_prompts=batch, group_size=group, length=max_new_tokens),
    )
    state = record(state, jnp.broadcast_to(last, (batch, group, last.shape[-1])))
    return lax.while_loop(goes_on, turn, state).rollout
