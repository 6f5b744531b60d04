"""The train step: (state, experience, reference) -> (state, metrics, advantages), pure.

Rewards `[B, G, K]` become advantages inside the step, on the whole batch, before it is split into
mini-batches and micro-batches; so advantages do not depend on how it is split.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from dvaojax.aggregators import NORMS, Aggregator
from dvaojax.learning.curvature import ProspectiveStep
from dvaojax.learning.gradient_cosines import GradientCosines, cosine_metrics
from dvaojax.learning.gradients import (
    UNPREPARED,
    Learner,
    LossFunction,
    Preparation,
    StepMetrics,
    accumulate,
    gradient_of,
    update,
)
from dvaojax.learning.micro_batches import BY_DEVICE, BY_INDEX, Access, own_rows
from dvaojax.learning.packed_width import (
    cut_to_longest_row,
    packed_lengths,
    sort_by_packed_length,
)
from dvaojax.learning.policy_loss import PolicyBatch
from dvaojax.learning.shadows import Shadows, mean_square, per_completion
from dvaojax.learning.turns import advantages_per_token
from dvaojax.models import Params
from dvaojax.numerics import masked_mean, masked_sum, require_shape
from dvaojax.types import Experience


@dataclasses.dataclass(frozen=True)
class LearningConfig:
    """Number of passes over a step's experience, and how it is split.

    Attributes:
        epochs: passes over the step's experience.
        mini_batches: optimiser updates per pass; divides the prompts of a step.
        micro_batches: parts of a mini-batch whose gradients are added; divides its prompts.
        gradient_cosines: steps between two readings of the cosines between the gradients of the
            objectives (`gradient_cosine/A/B`, see `learning.gradient_cosines`); 0 for none. A
            reading takes a forward and a backward pass and holds a gradient for each objective;
            the run takes the same steps with and without it.

    Raises:
        ValueError: a number is below its minimum.
    """

    epochs: int = 1
    mini_batches: int = 1
    micro_batches: int = 1
    gradient_cosines: int = 0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            minimum = 0 if field.name == "gradient_cosines" else 1
            if getattr(self, field.name) < minimum:
                value = getattr(self, field.name)
                raise ValueError(f"learning.{field.name}={value} must be at least {minimum}")

    @property
    def updates_per_step(self) -> int:
        """Optimiser updates per step."""
        return self.epochs * self.mini_batches


class TrainState(NamedTuple):
    """Everything that a step changes; its buffers are donated.

    Attributes:
        step: scalar int32, number of completed steps.
        learner: parameters, optimiser state, and the number of skipped updates.
        aggregator_state: state of the aggregator; `()` for a pure function.
        key: the random key that the next step consumes.
        shadow_states: states of the shadow aggregators, in their order.
    """

    step: Array
    learner: Learner
    aggregator_state: Any
    key: Array
    shadow_states: tuple[Any, ...] = ()


# (params, experience) -> `[B, G, T]` log-probabilities.
LogprobFunction = Callable[[Params, Experience], Array]
TrainStep = Callable[[TrainState, Experience, Params | None], tuple[TrainState, StepMetrics, Array]]


def make_train_step(
    config: LearningConfig,
    *,
    loss: LossFunction,
    optimizer: optax.GradientTransformation,
    aggregator: Aggregator,
    reference_logprobs: LogprobFunction | None = None,
    shadows: Shadows | None = None,
    recomputed_logprobs: LogprobFunction | None = None,
    gradient_norms: LogprobFunction | None = None,
    cosines: GradientCosines | None = None,
    constrain: Callable[[Any], Any] = lambda piece: piece,
    prepare: Preparation = UNPREPARED,
    observe: Callable[[Params], StepMetrics] | None = None,
    prospective: Callable[[Learner], ProspectiveStep] | None = None,
) -> TrainStep:
    """The train step of a run, to be jitted with its state donated.

    Args:
        config: epochs, mini-batches and micro-batches.
        loss: a function of prepared parameters and a `PolicyBatch`.
        optimizer: a gradient transformation.
        aggregator: rewards to advantages, possibly with state.
        reference_logprobs: log-probabilities under the reference policy; None without a reference.
        shadows: further aggregators, evaluated on the same rewards; None for none.
        recomputed_logprobs: log-probabilities under the policy before the first update, if the loss
            needs them in addition to the sampler's; else None.
        gradient_norms: squared gradient norm of each token `[B, G, T]`, computed before the
            advantages if the aggregator or a shadow needs them; None if none does.
        cosines: settings of the cosines between the gradients of the objectives; None for none.
        constrain: applied to every micro-batch, for sharding constraints on its groups.
        prepare: applied to parameters once for all passes that read them.
        observe: further metrics from the gradient of each micro-batch, see `accumulate`.
        prospective: the step that the loss tries before each update, from the learner before it;
            None if the loss takes none.

    Returns:
        `step(state, experience, reference)`, which returns the next state, metrics as sums and
        counts, and the advantages `[B, G]`, or `[B, G, S]` if completions are episodes of S turns.
        Where each token has an advantage it is their mean over the tokens of a completion.
        `reference` is the parameters of the reference policy, or None.

    Raises:
        ValueError: an aggregator needs gradient norms, and there is no function for them.
    """

    alone = cut_to_longest_row(gradient_of(loss if cosines is None else cosines.loss))
    every_need = {*aggregator.needs, *(() if shadows is None else shadows.needs)}
    needs_norms = not every_need.isdisjoint(NORMS)
    access = BY_DEVICE if config.mini_batches == 1 else BY_INDEX
    in_micro_batches = partial(by_micro_batch, access=access, constrain=constrain)
    if needs_norms and gradient_norms is None:
        raise ValueError("an aggregator needs gradient_norms")

    def step(state: TrainState, experience: Experience, reference: Params | None):
        _check_shapes(experience)
        key, aggregator_key, order_key = jax.random.split(state.key, 3)
        inputs = step_inputs(experience)
        lengths = inputs["lengths"]
        order = update_order(
            order_key, config, num_prompts=lengths.shape[0], packed=experience.packed
        )
        if needs_norms and gradient_norms is not None:
            unweighted = PolicyBatch(experience, lengths, jnp.zeros_like(experience.logprobs))
            params = prepare(state.learner.params, unweighted)
            norms = in_micro_batches(gradient_norms, params, unweighted, order)
            inputs["token_gradient_weights"] = norms
            inputs["gradient_weights"] = masked_sum(norms, experience.completion_mask, axis=-1)
        advantages, aggregator_state = aggregator.update(
            experience.rewards,
            experience.reward_mask,
            state.aggregator_state,
            aggregator_key,
            **aggregator.inputs_among(inputs),
        )
        token_advantages = advantages
        if experience.turns is not None:
            token_advantages = advantages_per_token(advantages, experience.turns)
        batch = PolicyBatch(experience, token_advantages, jnp.zeros_like(experience.logprobs))
        if reference_logprobs is not None:
            params = prepare(reference, batch)
            logprobs = in_micro_batches(reference_logprobs, params, batch, order)
            batch = batch._replace(reference_logprobs=logprobs)
        if recomputed_logprobs is not None:
            params = prepare(state.learner.params, batch)
            logprobs = in_micro_batches(recomputed_logprobs, params, batch, order)
            batch = batch._replace(recomputed_logprobs=logprobs)

        def one_update(learner: Learner, rows: Array) -> tuple[Learner, StepMetrics]:
            tried = loss if prospective is None else partial(loss, step=prospective(learner))
            total, metrics = accumulate(
                cut_to_longest_row(gradient_of(tried)),
                learner.params,
                batch,
                rows,
                access=access,
                constrain=constrain,
                prepare=prepare,
                observe=observe,
            )
            return update(learner, total, metrics, optimizer)

        before: StepMetrics = {}
        if cosines is not None:
            before = cosine_metrics(
                cosines,
                state.step + 1,
                state.learner.params,
                batch,
                _one_pass(order, lengths.shape[0]),
                gradient=alone,
                access=access,
                constrain=constrain,
                prepare=prepare,
            )
        learner, metrics = lax.scan(one_update, state.learner, order)
        metrics = jax.tree.map(lambda a: jnp.sum(a, axis=0), metrics) | before
        is_sampled = lengths > 0
        metrics["advantage_mean_square"] = mean_square(
            advantages, experience.completion_mask, is_per_token=aggregator.is_per_token
        )
        if aggregator.is_per_token:
            advantages = per_completion(advantages, experience.completion_mask)
        metrics["completion_length"] = masked_mean(lengths, is_sampled)
        shadow_states = state.shadow_states
        if shadows is not None:
            shadow_metrics, shadow_states = shadows.update(
                experience, advantages, shadow_states, aggregator_key, inputs
            )
            metrics |= shadow_metrics
        after = TrainState(state.step + 1, learner, aggregator_state, key, shadow_states)
        return after, metrics, advantages

    return step


def step_inputs(experience: Experience) -> dict[str, Array]:
    """Inputs of aggregators in an experience, by the names of `Aggregator.needs`, and lengths."""
    mask, repeated = experience.completion_mask, experience.repeated
    scores = {} if repeated is None else {"scores": repeated}
    return {"lengths": jnp.sum(mask, axis=-1, dtype=jnp.float32), "where": mask, **scores}


def update_order(
    key: Array, config: LearningConfig, *, num_prompts: int, packed: Array | None = None
) -> Array:
    """`[updates, micro_batches, prompts]` int32: the groups of each micro-batch.

    With several updates per pass, every pass is shuffled, and the numbers are indices of the batch.
    With one, which groups are in a micro-batch does not matter: each takes its groups from all
    devices, see `own_rows`. The key is consumed.

    Args:
        key: of the shuffling.
        config: epochs and parts.
        num_prompts: `B`.
        packed: `[B, S]` packed rows, by whose lengths the groups of an update are sorted; None for
            padded rows.

    Raises:
        ValueError: the prompts are not divisible by the number of parts.
    """
    parts = config.mini_batches * config.micro_batches
    if num_prompts % parts:
        raise ValueError(
            f"the {num_prompts} prompts of a step must be divisible by learning.mini_batches="
            f"{config.mini_batches} x learning.micro_batches={config.micro_batches}"
        )
    if config.mini_batches == 1:
        lengths = None if packed is None else packed_lengths(packed)
        rows = own_rows(num_prompts, micro_batches=config.micro_batches, lengths=lengths)
        return jnp.broadcast_to(rows[None], (config.epochs, *rows.shape))
    keys = jax.random.split(key, config.epochs)
    order = jax.vmap(lambda key: jax.random.permutation(key, num_prompts))(keys)
    order = order.reshape(config.updates_per_step, config.micro_batches, -1)
    return order if packed is None else sort_by_packed_length(order, packed)


def by_micro_batch(
    logprobs: LogprobFunction,
    params: Params,
    batch: PolicyBatch,
    order: Array,
    *,
    access: Access,
    constrain: Callable[[Any], Any],
) -> Array:
    """`logprobs` of the whole batch, computed in micro-batches to bound memory.

    Args:
        logprobs: of prepared parameters and some groups, `[R, G, T]`.
        params: prepared.
        batch: the step's data.
        order: `[updates, micro_batches, prompts]` int, as from `update_order`.
        access: as in `accumulate`.
        constrain: applied to every micro-batch.

    Returns:
        `[B, G, T]`, without gradient.
    """
    one_pass = _one_pass(order, batch.advantages.shape[0])
    cut_logprobs = cut_to_longest_row(lambda params, batch: logprobs(params, batch.experience))

    def piece(rows: Array) -> Array:
        return cut_logprobs(params, constrain(access.take(batch, rows)))

    return lax.stop_gradient(access.put(lax.map(piece, one_pass), one_pass))


def _one_pass(order: Array, num_prompts: int) -> Array:
    """`[micro_batches, prompts]`, the micro-batches of the first pass over the step's groups."""
    size = order.shape[-1]
    return order.reshape(-1, size)[: num_prompts // size]


def _check_shapes(experience: Experience) -> None:
    batch, group, length = experience.completion_tokens.shape
    width, objectives = experience.prompt_tokens.shape[-1:], experience.rewards.shape[-1:]
    expected = {
        "prompt_tokens": ((batch, *width), "[B, P]"),
        "prompt_lengths": ((batch,), "[B]"),
        "completion_mask": ((batch, group, length), "[B, G, T]"),
        "logprobs": ((batch, group, length), "[B, G, T]"),
        "rewards": ((batch, group, *objectives), "[B, G, K]"),
        "reward_mask": ((batch, group, *objectives), "[B, G, K]"),
    }
    for name, (shape, axes) in expected.items():
        array = getattr(experience, name)
        require_shape(name, array, shape, axes=axes, like="completion_tokens [B, G, T]")
    if experience.packed is not None:
        chex.assert_shape(experience.packed, (batch, None))
    if experience.repeated is not None:
        chex.assert_shape(experience.repeated, (batch, group, *objectives, None))
