"""A tabular policy, ragged experience for it, and its gradient as a float64 loop."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dvaojax.aggregators import make
from dvaojax.learning import policy_loss
from dvaojax.learning.gradients import init_learner
from dvaojax.learning.policy_loss import LossConfig, make_policy_loss
from dvaojax.learning.train_step import LearningConfig, TrainState, make_train_step
from dvaojax.types import Experience

VOCABULARY = 6
WEIGHTS = jnp.asarray([1.0, 0.5, 2.0])
MAX_NEW_TOKENS = 9


def table_logprobs(params, experience, *, model=None, temperature=1.0):
    """`policy_logprobs` of a bigram policy, which only depends on the previous token."""
    tokens = experience.completion_tokens
    last = jnp.take_along_axis(
        experience.prompt_tokens, experience.prompt_lengths[:, None] - 1, axis=1
    )
    first = jnp.broadcast_to(last[..., None], (*tokens.shape[:2], 1))
    before = jnp.concatenate([first, tokens[..., :-1]], axis=-1)
    logprobs = jax.nn.log_softmax(params["table"][before] / temperature)
    chosen = jnp.take_along_axis(logprobs, tokens[..., None], axis=-1)[..., 0]
    return chosen, -jnp.sum(jnp.exp(logprobs) * logprobs, axis=-1)


def table_params(seed=0):
    table = np.random.default_rng(seed).normal(size=(VOCABULARY, VOCABULARY))
    return {"table": jnp.asarray(table, jnp.float32)}


def ragged_experience(seed=0, *, prompts=8, group=4, length=7):
    """Completions from full to empty; padding holds NaN; some rewards are masked.

    The sampler's log-probabilities differ from the policy's, so that ratios lie on both sides of
    the clip range.
    """
    rng = np.random.default_rng(seed)
    shape = (prompts, group, length)
    lengths = rng.integers(1, length + 1, shape[:2])
    lengths[0], lengths[1], lengths[-1, 1] = length, 1, 0
    mask = np.arange(length) < lengths[..., None]
    prompt_tokens = rng.integers(1, VOCABULARY, (prompts, 5)).astype(np.int32)
    experience = Experience(
        prompt_tokens=prompt_tokens,
        prompt_lengths=rng.integers(1, 6, prompts).astype(np.int32),
        completion_tokens=np.where(mask, rng.integers(0, VOCABULARY, shape), 0).astype(np.int32),
        completion_mask=mask,
        logprobs=np.zeros(shape, np.float32),
        rewards=rng.normal(size=(*shape[:2], 3)).astype(np.float32),
        reward_mask=rng.random((*shape[:2], 3)) > 0.1,
    )
    logprobs = np.asarray(table_logprobs(table_params(), experience)[0])
    noisy = logprobs + 0.3 * rng.normal(size=shape).astype(np.float32)
    return jax.tree.map(jnp.asarray, experience._replace(logprobs=np.where(mask, noisy, np.nan)))


def table_loss(config=None, *, temperature=1.0):
    """`make_policy_loss` of the table policy."""
    loss = make_policy_loss(
        config or LossConfig(),
        model=None,
        temperature=temperature,
        max_new_tokens=MAX_NEW_TOKENS,
    )

    def loss_of_table(params, batch):
        with mock.patch.object(policy_loss, "policy_logprobs", table_logprobs):
            return loss(params, batch)

    return loss_of_table


def new_state(optimizer, params=None, *, aggregator_state=(), key=0):
    learner = init_learner(params or table_params(), optimizer)
    return TrainState(jnp.zeros((), jnp.int32), learner, aggregator_state, jax.random.key(key))


def step_of(loss, *, optimizer=None, aggregator=None, learning=None, **parts):
    """A jitted step; by default gradient descent at rate 1, whose update is minus the gradient."""
    return jax.jit(
        make_train_step(
            learning or LearningConfig(),
            loss=loss,
            optimizer=optimizer or optax.sgd(1.0),
            aggregator=aggregator or make("rloo", WEIGHTS),
            **parts,
        )
    )


@functools.cache
def table_step(config=None, *, temperature=1.0, learning=None):
    """The step of the tabular policy, cached for all tests; a KL penalty adds a reference."""
    loss = table_loss(config, temperature=temperature)
    parts = {}
    if config is not None and config.kl_weight > 0.0:
        parts["reference_logprobs"] = lambda params, e: table_logprobs(params, e)[0]
    return step_of(loss, learning=learning, **parts)


def descent(step, experience, *, reference=None):
    """Gradient, metrics and advantages of a step with one update."""
    state = new_state(optax.sgd(1.0))
    after, metrics, advantages = step(state, experience, reference)
    gradient = state.learner.params["table"] - after.learner.params["table"]
    return gradient, metrics, advantages


def gradient_by_loop(experience, advantages, *, reduction, clip=0.2, params=None):
    """Gradient of the clipped surrogate with respect to the table, as a loop in float64."""
    table = np.asarray((params or table_params())["table"], np.float64)
    gradient, mask = np.zeros_like(table), np.asarray(experience.completion_mask)
    lengths = mask.sum(-1)
    divisor = lengths.sum() if reduction == "token_mean" else (lengths > 0).sum()
    for b, g, t in np.argwhere(mask):
        prompt_end = experience.prompt_tokens[b, experience.prompt_lengths[b] - 1]
        before = int(experience.completion_tokens[b, g, t - 1] if t else prompt_end)
        token = int(experience.completion_tokens[b, g, t])
        probabilities = np.exp(table[before]) / np.exp(table[before]).sum()
        ratio = probabilities[token] / np.exp(np.float64(experience.logprobs[b, g, t]))
        advantage = float(advantages[b, g, t] if np.ndim(advantages) == 3 else advantages[b, g])
        if (ratio > 1 + clip and advantage > 0) or (ratio < 1 - clip and advantage < 0):
            continue
        share = {"token_mean": 1, "sequence_mean": lengths[b, g]}.get(reduction, MAX_NEW_TOKENS)
        weight = -advantage * ratio / share / divisor
        gradient[before] -= weight * probabilities
        gradient[before, token] += weight
    return gradient
