"""(state, experience) -> (state, metrics): pure, sharded, donated.

The rewards arrive as `[B, G, K]` and become advantages inside the step, on the whole batch, before
anything is cut into mini-batches or micro-batches; so no way of cutting can change them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from dvaojax.aggregators import Aggregator
from dvaojax.learning.gradients import (
    Learner,
    Loss,
    Metrics,
    accumulate,
    gradient_of,
    taken,
    update,
)
from dvaojax.learning.packed_width import by_fullness, cut_to_the_fullest
from dvaojax.learning.policy_loss import Batch
from dvaojax.learning.shadows import Shadows
from dvaojax.learning.turns import advantages_of_tokens
from dvaojax.models import Params
from dvaojax.numerics import masked_mean
from dvaojax.types import Experience


@dataclasses.dataclass(frozen=True)
class LearningConfig:
    """How often one step's experience is used, and in what pieces.

    Attributes:
        epochs: passes over the step's experience.
        mini_batches: optimiser updates per pass; divides the prompts of a step.
        micro_batches: pieces of a mini-batch whose gradients are added up; divides its prompts.

    Raises:
        ValueError: a number is below 1.
    """

    epochs: int = 1
    mini_batches: int = 1
    micro_batches: int = 1

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                value = getattr(self, field.name)
                raise ValueError(f"learning.{field.name}={value} must be at least 1")

    @property
    def updates_per_step(self) -> int:
        """Optimiser updates a step makes."""
        return self.epochs * self.mini_batches


class TrainState(NamedTuple):
    """Everything a step changes; it goes in, is donated, and comes out.

    Attributes:
        step: scalar int32, steps done.
        learner: parameters, optimiser state, and the count of skipped updates.
        aggregator_state: the advantage aggregator's; `()` for a pure function.
        key: the random key that the next step consumes.
        shadow_states: those of the shadow aggregators, in their order.
    """

    step: Array
    learner: Learner
    aggregator_state: Any
    key: Array
    shadow_states: tuple[Any, ...] = ()


# Parameters and experience to `[B, G, T]` log-probabilities.
Reference = Callable[[Params, Experience], Array]
TrainStep = Callable[[TrainState, Experience, Params | None], tuple[TrainState, Metrics, Array]]


def make_train_step(
    config: LearningConfig,
    *,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    aggregator: Aggregator,
    reference_logprobs: Reference | None = None,
    shadows: Shadows | None = None,
    recomputed_logprobs: Reference | None = None,
    constrain: Callable[[Any], Any] = lambda piece: piece,
) -> TrainStep:
    """The step of a run, to be jitted with its state donated.

    Args:
        config: epochs, mini-batches and micro-batches.
        loss: from parameters and a `Batch`.
        optimizer: a gradient transformation.
        aggregator: rewards to advantages, with whatever state it keeps.
        reference_logprobs: how the reference policy sees the completions; None uses none.
        shadows: further aggregators, evaluated on the same rewards; None has none.
        recomputed_logprobs: how the policy sees them before the first update, where the loss is to
            know that besides what the sampler saw; None where it is not.
        constrain: applied to every micro-batch, to say over which devices its groups are split.

    Returns:
        `step(state, experience, reference)`, which returns the next state, metrics as sums and
        counts, and the advantages `[B, G]`, or `[B, G, S]` where completions are episodes of S
        turns. `reference` holds the reference policy's parameters, or None.
    """

    gradient = cut_to_the_fullest(gradient_of(loss))

    def step(state: TrainState, experience: Experience, reference: Params | None):
        _check_shapes(experience)
        key, aggregator_key, order_key = jax.random.split(state.key, 3)
        lengths = jnp.sum(experience.completion_mask, axis=-1, dtype=jnp.float32)
        advantages, aggregator_state = aggregator.update(
            experience.rewards,
            experience.reward_mask,
            state.aggregator_state,
            aggregator_key,
            lengths=lengths,
        )
        order = update_order(order_key, config, num_prompts=advantages.shape[0])
        if experience.packed is not None:
            order = by_fullness(order, experience.packed)
        of_tokens = advantages
        if experience.turns is not None:
            of_tokens = advantages_of_tokens(advantages, experience.turns)
        batch = Batch(experience, of_tokens, jnp.zeros_like(experience.logprobs))
        if reference_logprobs is not None:
            seen = _in_pieces(reference_logprobs, reference, batch, order, constrain)
            batch = batch._replace(reference_logprobs=seen)
        if recomputed_logprobs is not None:
            params = state.learner.params
            seen = _in_pieces(recomputed_logprobs, params, batch, order, constrain)
            batch = batch._replace(recomputed_logprobs=seen)

        def one_update(learner: Learner, rows: Array) -> tuple[Learner, Metrics]:
            total, metrics = accumulate(gradient, learner.params, batch, rows, constrain=constrain)
            return update(learner, total, metrics, optimizer)

        learner, metrics = lax.scan(one_update, state.learner, order)
        metrics = jax.tree.map(lambda a: jnp.sum(a, axis=0), metrics)
        is_drawn = lengths > 0
        turns = tuple(range(lengths.ndim, advantages.ndim))
        counted = jnp.broadcast_to(jnp.expand_dims(is_drawn, turns), advantages.shape)
        metrics["advantage_mean_square"] = masked_mean(jnp.square(advantages), counted)
        metrics["completion_length"] = masked_mean(lengths, is_drawn)
        shadow_states = state.shadow_states
        if shadows is not None:
            beside, shadow_states = shadows.update(
                experience, advantages, shadow_states, aggregator_key, lengths=lengths
            )
            metrics |= beside
        after = TrainState(state.step + 1, learner, aggregator_state, key, shadow_states)
        return after, metrics, advantages

    return step


def update_order(key: Array, config: LearningConfig, *, num_prompts: int) -> Array:
    """`[updates, micro_batches, prompts]` int32: which groups each micro-batch takes.

    A pass that makes a single update takes the groups as they come, for then order is nothing;
    otherwise every pass is shuffled anew. The key is consumed.

    Raises:
        ValueError: the prompts do not divide into that many pieces.
    """
    pieces = config.mini_batches * config.micro_batches
    if num_prompts % pieces:
        raise ValueError(
            f"{num_prompts} prompts do not divide into learning.mini_batches="
            f"{config.mini_batches} x learning.micro_batches={config.micro_batches}"
        )
    keys = jax.random.split(key, config.epochs)
    if config.mini_batches == 1:
        order = jnp.broadcast_to(jnp.arange(num_prompts)[None], (config.epochs, num_prompts))
    else:
        order = jax.vmap(lambda key: jax.random.permutation(key, num_prompts))(keys)
    return order.reshape(config.updates_per_step, config.micro_batches, -1)


def _in_pieces(
    logprobs: Reference,
    params: Params,
    batch: Batch,
    order: Array,
    constrain: Callable[[Any], Any],
) -> Array:
    """`logprobs` of the whole batch, in the pieces that it is learnt from."""
    num_prompts, size = batch.advantages.shape[0], order.shape[-1]
    one_pass = order.reshape(-1, size)[: num_prompts // size]
    of_batch = cut_to_the_fullest(lambda params, batch: logprobs(params, batch.experience))
    seen = lax.map(lambda rows: of_batch(params, constrain(taken(batch, rows))), one_pass)
    return lax.stop_gradient(jnp.zeros_like(batch.reference_logprobs).at[one_pass].set(seen))


def _check_shapes(experience: Experience) -> None:
    batch, group, length = experience.completion_tokens.shape
    chex.assert_shape(experience.prompt_tokens, (batch, None))
    chex.assert_shape(experience.prompt_lengths, (batch,))
    of_tokens = [experience.completion_mask, experience.logprobs]
    chex.assert_shape(of_tokens, (batch, group, length))
    chex.assert_shape([experience.rewards, experience.reward_mask], (batch, group, None))
    if experience.packed is not None:
        chex.assert_shape(experience.packed, (batch, None))
