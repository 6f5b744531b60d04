"""The compiled part of a run: its mesh, its shardings and its jitted functions."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding

from dvaojax import aggregators, models, sharding
from dvaojax.aggregators import Aggregator
from dvaojax.aggregators.dvao_denoised import average_repeats
from dvaojax.config import Config, make_shadows
from dvaojax.errors import UserError
from dvaojax.learning.curvature import CapoConfig, prospective_step, with_quantiles
from dvaojax.learning.gradient_cosines import GradientCosines
from dvaojax.learning.gradient_noise import squared_norm
from dvaojax.learning.gradients import (
    Learner,
    LossFunction,
    StepMetrics,
    gradient_of,
    init_learner,
)
from dvaojax.learning.micro_batches import BY_DEVICE, own_rows
from dvaojax.learning.optimizer import OptimizerConfig, make_optimizer
from dvaojax.learning.policy_logprobs import policy_gradient_norms, policy_logprobs
from dvaojax.learning.policy_loss import PolicyBatch, make_policy_loss
from dvaojax.learning.preparation import joined_once
from dvaojax.learning.projected_gradients import GroupGradients, projected_gradients
from dvaojax.learning.reflection import with_self_certainty
from dvaojax.learning.shadows import Shadows
from dvaojax.learning.train_step import (
    TrainState,
    TrainStep,
    by_micro_batch,
    make_train_step,
    step_inputs,
)
from dvaojax.learning.warm_start import (
    Demonstrations,
    make_demonstration_loss,
    make_warm_start_step,
)
from dvaojax.models import Params
from dvaojax.numerics import Mean, masked_sum
from dvaojax.train.sampler import Sampler, make_sampler
from dvaojax.types import Experience

Constrain = Callable[[Any], Any]
GroupGradientFunction = Callable[[TrainState, Experience, Array], tuple[GroupGradients, Array]]


@dataclasses.dataclass(frozen=True)
class Program:
    """The jitted functions of one run, and the shardings of their arrays.

    Attributes:
        mesh: the devices.
        by_group: sharding of arrays whose leading axis is the groups.
        init: key -> parameters, created in their shardings.
        begin_warm_start: parameters -> learner.
        warm_start: (learner, demonstrations) -> (learner, metrics); the learner is donated.
        begin: (parameters, key) -> the state before the first step.
        sample: the sampler of a step.
        evaluate: the sampler of an evaluation.
        step: (state, experience, reference) -> (state, metrics, advantages); the state is donated.
        gradient_norms: (parameters, experience) -> `[B, G]` float32, a proxy of the norms of the
            gradients of the completions' log-probabilities.
        group_gradients: (state, experience, key) -> projected gradients of the groups of a step's
            size, and the largest size of an advantage of each, `[B]`.
        state_shapes: the state's pytree as shapes with shardings.
    """

    mesh: Mesh
    by_group: NamedSharding
    init: Callable[[Array], Params]
    begin_warm_start: Callable[[Params], Learner]
    warm_start: Callable[[Learner, Demonstrations], tuple[Learner, StepMetrics]]
    begin: Callable[[Params, Array], TrainState]
    sample: Sampler
    evaluate: Sampler
    step: TrainStep
    gradient_norms: Callable[[Params, Experience], Array]
    group_gradients: GroupGradientFunction
    state_shapes: TrainState


def make_program(
    config: Config, aggregator: Aggregator, *, devices: Sequence[Any] | None = None
) -> Program:
    """Builds the jitted functions; each is compiled at its first call.

    Args:
        config: the run.
        aggregator: turns rewards into advantages.
        devices: of the mesh; all devices of this machine by default. Abstract devices are enough
            for functions that are compiled and never called.

    Raises:
        UserError: the mesh does not fit the devices, the model or the batch.
    """
    mesh = _training_mesh(config, devices)
    by_group, replicated = sharding.named(mesh, "group"), sharding.named(mesh)
    constrain = partial(jax.lax.with_sharding_constraint, shardings=by_group)
    optimizer = make_optimizer(config.optimizer, config.num_updates)
    weights = aggregators.named_weights(config.weights, config.objectives)
    shadows = Shadows(make_shadows(config), weights)

    def begin(params: Params, key: Array) -> TrainState:
        num_objectives = len(config.objectives)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            learner=init_learner(params, optimizer),
            aggregator_state=aggregator.init(num_objectives),
            key=key,
            shadow_states=shadows.init(num_objectives),
        )

    init = partial(models.init, config.model)
    params_shapes = jax.eval_shape(init, jax.random.key(0))
    state_shapes = jax.eval_shape(begin, params_shapes, jax.random.key(0))
    state_shardings = _shardings(mesh, state_shapes)
    begin_warm_start, warm_start = _warm_start(config, mesh, params_shapes, constrain)
    return Program(
        mesh=mesh,
        by_group=by_group,
        init=jax.jit(init, out_shardings=_shardings(mesh, params_shapes)),
        begin_warm_start=begin_warm_start,
        warm_start=warm_start,
        begin=jax.jit(begin, out_shardings=state_shardings),
        sample=make_sampler(config, config.sampling, config.largest_group, mesh),
        evaluate=evaluation_sampler(config, mesh),
        step=jax.jit(
            sharding.on_mesh(mesh, _step(config, optimizer, aggregator, shadows, constrain)),
            donate_argnums=0,
            # Metrics are replicated, so that every process can read them.
            out_shardings=(state_shardings, replicated, by_group),
        ),
        gradient_norms=jax.jit(
            sharding.on_mesh(mesh, _gradient_norms(config, constrain)), out_shardings=replicated
        ),
        group_gradients=jax.jit(
            sharding.on_mesh(mesh, _group_gradients(config, aggregator, constrain, mesh)),
            out_shardings=replicated,
        ),
        state_shapes=jax.tree.map(
            lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where),
            state_shapes,
            state_shardings,
        ),
    )


def _step(
    config: Config,
    optimizer: optax.GradientTransformation,
    aggregator: Aggregator,
    shadows: Shadows,
    constrain: Constrain,
) -> TrainStep:
    """The train step, with statistics of the rewards among its metrics."""
    temperature = config.sampling.temperature
    loss = make_policy_loss(
        config.loss,
        model=config.model,
        temperature=temperature,
        max_new_tokens=config.max_new_tokens,
    )

    def logprobs(params: Params, experience: Experience) -> Array:
        return policy_logprobs(params, experience, model=config.model, temperature=temperature)[0]

    prospective = prospective_step(
        config.loss.capo,
        config.optimizer,
        num_updates=config.num_updates,
        is_head_tied=config.model.tied_head,
    )
    train_step = make_train_step(
        config.learning,
        loss=loss,
        optimizer=optimizer,
        aggregator=aggregator,
        shadows=shadows,
        reference_logprobs=logprobs if config.loss.needs_reference else None,
        recomputed_logprobs=logprobs if config.loss.importance_cap > 0.0 else None,
        gradient_norms=partial(policy_gradient_norms, model=config.model, temperature=temperature),
        cosines=_cosines(config),
        constrain=constrain,
        prepare=joined_once(config.model),
        observe=squared_norm if config.optimizer.follows_noise else None,
        prospective=prospective if config.loss.capo.is_used else None,
    )

    certain = _self_certainty(config, constrain)

    def step(state: TrainState, experience: Experience, reference_params: Params | None):
        if experience.references is not None:
            experience = certain(state.learner.params, experience)
        reward_metrics = _reward_metrics(experience, shadows.weights)
        state, metrics, advantages = train_step(state, experience, reference_params)
        # A copy: the state's own counter is donated to the next step before the host reads it.
        skipped = Mean(state.learner.skipped_in_a_row.astype(jnp.float32), jnp.ones(()))
        metrics = {**reward_metrics, **with_quantiles(metrics), "skipped_in_a_row": skipped}
        return state, metrics, advantages

    return step


def _self_certainty(config: Config, constrain: Constrain) -> Callable[..., Experience]:
    """(parameters, experience) -> experience with the objective that the policy computes."""
    return partial(
        with_self_certainty,
        model=config.model,
        temperature=config.sampling.temperature,
        micro_batches=config.learning.mini_batches * config.learning.micro_batches,
        constrain=constrain,
    )


def _loss_without_penalty(config: Config, **changes: Any) -> LossFunction:
    """The policy loss of the run without penalty and CAPO, with some settings changed."""
    return make_policy_loss(
        dataclasses.replace(config.loss, kl_weight=0.0, capo=CapoConfig(), **changes),
        model=config.model,
        temperature=config.sampling.temperature,
        max_new_tokens=config.max_new_tokens,
    )


def _cosines(config: Config) -> GradientCosines | None:
    """The reading of the gradients of the objectives, with the loss without its penalty."""
    every = config.learning.gradient_cosines
    if not every:
        return None
    return GradientCosines(config.objectives, every, _loss_without_penalty(config))


def _gradient_norms(config: Config, constrain: Constrain) -> Callable[[Params, Experience], Array]:
    """The roots of the sums of `policy_gradient_norms` over the tokens of each completion."""
    pieces = config.learning.mini_batches * config.learning.micro_batches
    token_norms = partial(
        policy_gradient_norms, model=config.model, temperature=config.sampling.temperature
    )

    def gradient_norms(params: Params, experience: Experience) -> Array:
        experience = experience._replace(references=None)
        mask = experience.completion_mask
        lengths = jnp.sum(mask, axis=-1, dtype=jnp.float32)
        batch = PolicyBatch(experience, lengths, jnp.zeros_like(experience.logprobs))
        rows = own_rows(len(mask), micro_batches=pieces)
        prepared = joined_once(config.model)(params, batch)
        norms = by_micro_batch(
            token_norms, prepared, batch, rows[None], access=BY_DEVICE, constrain=constrain
        )
        return jnp.sqrt(masked_sum(norms, mask, axis=-1))

    return gradient_norms


def _group_gradients(
    config: Config, aggregator: Aggregator, constrain: Constrain, mesh: Mesh
) -> GroupGradientFunction:
    """Projected gradients of groups, with the advantages that the next step would use.

    The gradient is that of the policy loss at ratio 1: without its penalty, and with the sampler's
    probabilities in the denominator.
    """
    selection = config.allocation.selection
    gradient = gradient_of(_loss_without_penalty(config, importance_cap=0.0))
    certain = _self_certainty(config, constrain)
    groups_at_once = selection.groups_at_once * sharding.num_parts(mesh, "group")[1]

    def group_gradients(
        state: TrainState, experience: Experience, key: Array
    ) -> tuple[GroupGradients, Array]:
        params = state.learner.params
        if experience.references is not None:
            experience = certain(params, experience)
        inputs = step_inputs(experience)
        advantages, _ = aggregator.update(
            experience.rewards,
            experience.reward_mask,
            state.aggregator_state,
            jax.random.split(state.key, 3)[1],
            **aggregator.inputs_among(inputs),
        )
        gradients = projected_gradients(
            gradient,
            params,
            PolicyBatch(experience, advantages, jnp.zeros_like(experience.logprobs)),
            own_rows(len(advantages), micro_batches=max(len(advantages) // groups_at_once, 1)),
            key,
            dimension=selection.dimension,
            constrain=constrain,
            prepare=joined_once(config.model),
        )
        return gradients, jnp.max(jnp.abs(advantages), axis=-1)

    return group_gradients


def _reward_metrics(experience: Experience, weights: Array) -> StepMetrics:
    """Metrics of a step's rewards; `[K]` means have one entry per objective."""
    rewards, mask = experience.rewards, experience.reward_mask
    diagnostics = aggregators.diagnostics(rewards, weights, mask=mask)
    noise: StepMetrics = {}
    if experience.repeated is not None:
        scored = jnp.isfinite(experience.repeated) & mask[..., None]
        values = average_repeats(jnp.where(scored, experience.repeated, 0), mask=scored).noise
        groups = jnp.any(mask, axis=1)
        noise["reward_noise"] = Mean(
            masked_sum(values, groups, axis=0), jnp.sum(groups, axis=0, dtype=values.dtype)
        )
    return noise | {
        "reward": Mean(
            masked_sum(rewards, mask, axis=(0, 1)), jnp.sum(mask, axis=(0, 1), dtype=jnp.float32)
        ),
        "spread": diagnostics.spread,
        "effective_weight": diagnostics.effective_weight,
        "agreement": diagnostics.mean_agreement,
        "zero_variance_groups": diagnostics.zero_variance_groups,
    }


def _warm_start(config: Config, mesh: Mesh, params_shapes: Params, constrain: Constrain):
    """The two jitted functions of the warm start."""
    settings = config.warm_start
    optimizer_config = OptimizerConfig(
        learning_rate=settings.learning_rate,
        schedule="cosine",
        warmup_updates=min(20, settings.num_steps // 10),
    )
    optimizer = make_optimizer(optimizer_config, settings.num_steps)
    begin = partial(init_learner, optimizer=optimizer)
    shardings = _shardings(mesh, jax.eval_shape(begin, params_shapes))
    step = make_warm_start_step(
        make_demonstration_loss(config.model),
        optimizer,
        micro_batches=settings.micro_batches,
        constrain=constrain,
        prepare=joined_once(config.model),
    )
    return (
        jax.jit(begin, out_shardings=shardings),
        jax.jit(
            sharding.on_mesh(mesh, step),
            donate_argnums=0,
            out_shardings=(shardings, sharding.named(mesh)),
        ),
    )


def evaluation_sampler(config: Config, mesh: Mesh) -> Sampler:
    """A sampler with the evaluation's token distribution, token limit and number of completions."""
    settings = config.evaluation
    limit = settings.max_new_tokens or config.max_new_tokens
    longer = dataclasses.replace(config, max_new_tokens=limit)
    return make_sampler(longer, settings.sampling, settings.samples, mesh)


def _shardings(mesh: Mesh, tree: Any) -> Any:
    return sharding.shardings(mesh, tree, models.logical_axes)


def _training_mesh(config: Config, devices: Sequence[Any] | None) -> Mesh:
    """The mesh of a training run, checked against everything that is sharded over it."""
    learning, warm_start = config.learning, config.warm_start
    pieces = learning.mini_batches * learning.micro_batches
    demonstrations = warm_start.batch_size if warm_start.num_steps else 0
    groups = {
        "prompts_per_step / (learning.mini_batches x learning.micro_batches)": (
            config.prompts_per_step // pieces
        ),
        "warm_start.batch_size / warm_start.micro_batches": (
            demonstrations // warm_start.micro_batches
        ),
    }
    return checked_mesh(config, groups, devices=devices)


def checked_mesh(
    config: Config, groups: Mapping[str, int], *, devices: Sequence[Any] | None = None
) -> Mesh:
    """The configured mesh, checked against the model and against numbers of groups.

    Args:
        config: mesh and model.
        groups: description for an error message -> number of groups sharded over the mesh.
        devices: as in `make_program`.

    Raises:
        UserError: the mesh does not fit.
    """
    try:
        mesh = sharding.make_mesh(config.mesh, devices)
    except ValueError as error:
        raise UserError(str(error)) from error
    model = config.model
    sizes = (
        *(("group", what, size) for what, size in groups.items()),
        ("embed", "model.width", model.width),
        ("heads", "model.num_heads", model.num_heads),
        ("kv_heads", "model.num_kv_heads", model.num_kv_heads),
        ("ff", "model.ff_width", model.ff_width),
        ("vocab", "model.vocab_size", model.vocab_size),
    )
    for rules in (sharding.RULES, sharding.SAMPLER_RULES[config.mesh.sampler]):
        for axis, what, size in sizes:
            axes, parts = sharding.num_parts(mesh, axis, rules)
            if size % parts:
                raise UserError(f"mesh: {what} = {size} does not divide over {axes} = {parts}")
    if model.logits_backward == "keep" and sharding.num_parts(mesh, "vocab")[1] > 1:
        raise UserError(
            "model.logits_backward='keep' needs a vocabulary that is not split: set mesh.tensor=1, "
            "or 'recompute'"
        )
    return mesh
