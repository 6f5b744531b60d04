"""Checks of a configuration as a whole, and the aggregators it selects."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dvaojax import aggregators, plugins
from dvaojax.aggregators import Aggregator
from dvaojax.config.field_types import check_types
from dvaojax.config.schema import Config
from dvaojax.config.trusted import check_selection
from dvaojax.errors import UserError, suggest
from dvaojax.rewards.asynchronous import split_functions
from dvaojax.rewards.judge import JudgeConfig
from dvaojax.types import Prompt, TaskWithDemonstrations, TaskWithGates, TaskWithHints

MOST_HINT_LEVELS = 7
"""Levels of hints of a task, for each of which a problem has random keys of its own."""


def validate(config: Config) -> None:
    """Checks that the parts of a configuration are consistent; loads plug-ins.

    Raises:
        UserError: they are not; one line that names the key and the way out.
    """
    check_types(config)
    checks = (_check_name, _check_numbers, _check_task, _check_rewards, _check_model, _check_batch)
    for check in (*checks, _check_learning):
        check(config)
    make_aggregator(config)
    make_shadows(config)
    _check_group_size(config)
    _check_cosines(config)
    _check_references(config)
    _check_hints(config)
    config.loss.check_options()
    config.allocation.check(config.group_size, config.weights)
    check_selection(config)
    _check_needs(config)
    if config.sampling.truncates:
        raise UserError(
            "sampling: temperature 0, top_k, top_p and min_p renormalise the sampler's "
            "probabilities and bias the policy ratio; train with temperature alone and set "
            "them under evaluation.sampling"
        )
    if config.warm_start.num_steps and not isinstance(config.task, TaskWithDemonstrations):
        raise UserError(
            f"warm_start.num_steps={config.warm_start.num_steps}, but task {config.task.name} "
            "has no demonstrations: set warm_start.num_steps=0"
        )


def _check_hints(config: Config) -> None:
    """Raises a UserError if problems cannot be asked with hints as the configuration says."""
    objective, task = config.hints.objective, config.task
    if not objective:
        return
    if objective not in config.objectives:
        raise UserError(f"hints.objective: unknown {suggest(objective, config.objectives)}")
    levels = task.hint_levels if isinstance(task, TaskWithHints) else 0
    if not 1 <= levels <= MOST_HINT_LEVELS:
        raise UserError(
            f"hints.objective={objective}: task {task.name} has {levels} levels of hints, and 1 to "
            f"{MOST_HINT_LEVELS} are needed (`hint_levels` of the task)"
        )


def validate_evaluation(config: Config) -> None:
    """Checks the parts of a configuration that an evaluation uses, and no others.

    Raises:
        UserError: there is no test problem, the model lacks tokens of the task, or a time limit of
            rewards needs workers.
    """
    check_types(config)
    if not config.task.prompts("test"):
        raise UserError(f"task: {config.task.name} has no test problems")
    _check_rewards(config)
    _check_model(config)


def make_aggregator(config: Config) -> Aggregator:
    """The advantage aggregator that the configuration selects.

    Raises:
        UserError: there is no such method or knob, a knob has an invalid value, or the weights are
            not those of the task's objectives.
    """
    knobs = aggregator_knobs(config)
    name = config.aggregator.name
    return _checked_aggregator(config, name, knobs, key=f"aggregator.name={name}")


def aggregator_knobs(config: Config) -> dict[str, Any]:
    """The values that `aggregator.options` sets, of the types of the method's defaults.

    Raises:
        UserError: there is no such method or knob, or a value is of another type.
    """
    name = _known_aggregator(config.aggregator.name, key="aggregator.name")
    try:
        knobs = aggregators.read_options(name, config.aggregator.options, config.objectives)
    except UserError as error:
        raise UserError(f"aggregator.options: {error}") from error
    return _gates_of_task(config, name) | knobs


def _gates_of_task(config: Config, name: str) -> dict[str, Any]:
    """The knob `gates` from the task, if the aggregator has this knob and the task has gates."""
    knows = "gates" in aggregators.knobs_of(aggregators.find(name))
    if not knows or not isinstance(config.task, TaskWithGates) or not config.task.gates:
        return {}
    for objective in config.task.gates:
        if objective not in config.objectives:
            raise UserError(
                f"task.gates: unknown objective {suggest(objective, config.objectives)}"
            )
    gates = config.task.gates
    return {"gates": tuple(float(gates.get(o, -math.inf)) for o in config.objectives)}


def compares_within_groups(config: Config, *, group_size: int) -> bool:
    """Whether groups whose completions all have equal rewards teach this run nothing.

    The aggregator is tried on such groups, with rewards that differ between the groups; most
    methods compare the completions of a group and return 0.

    Args:
        config: of the run.
        group_size: `G` of the groups.
    """
    aggregator, num_objectives = make_aggregator(config), len(config.objectives)
    per_group = jax.random.uniform(jax.random.key(0), (8, 1, num_objectives))
    rewards = jnp.broadcast_to(per_group, (8, group_size, num_objectives))
    inputs = _inputs(jnp.ones, (8, group_size), 1) | {"scores": rewards[..., None]}
    advantages, _ = jax.jit(aggregator.update)(
        rewards,
        jnp.ones(rewards.shape, bool),
        aggregator.init(num_objectives),
        jax.random.key(0),
        **aggregator.inputs_among(inputs),
    )
    return bool(jnp.all(jnp.abs(jnp.nan_to_num(advantages)) < 1e-3))


def make_shadows(config: Config) -> dict[str, Aggregator]:
    """The shadow aggregators, by the name of each in metrics.

    This is its text in the configuration; the name of a plug-in lacks the directory of its file.

    Raises:
        UserError: as in `make_aggregator`, or two are the same.
    """
    shadows: dict[str, Aggregator] = {}
    for text in config.aggregator.shadows:
        name, options = _split_shadow(text)
        label = ":".join([plugins.short_name(name), *options])
        if label in shadows:
            raise UserError(f"aggregator.shadows: {label} is named twice")
        try:
            own = aggregators.read_options(name, options, config.objectives)
            knobs = _gates_of_task(config, name) | own
        except UserError as error:
            raise UserError(f"aggregator.shadows: {text}: {error}") from error
        key = f"aggregator.shadows: {text}"
        shadows[label] = _checked_aggregator(config, name, knobs, key=key)
    return shadows


def _split_shadow(text: str) -> tuple[str, list[str]]:
    """The name and the options of a shadow; the name of a plug-in contains a colon itself."""
    first, *others = text.split(":")
    if first in aggregators.METHODS:
        return first, others
    count = next((i for i, part in enumerate(others) if "=" in part), len(others))
    return ":".join([first, *others[:count]]), others[count:]


def _known_aggregator(name: str, *, key: str) -> str:
    """The name, if there is such an aggregator."""
    try:
        aggregators.find(name)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    return name


def _checked_aggregator(
    config: Config, name: str, knobs: Mapping[str, Any], *, key: str
) -> Aggregator:
    """An aggregator for the run's objectives, traced with the shapes of a step."""
    weights = aggregators.named_weights(config.weights, config.objectives)
    groups = (config.prompts_per_step, config.largest_group)
    inputs = _inputs(jax.ShapeDtypeStruct, groups, config.max_new_tokens)
    scores = (*groups, len(weights), config.rewards.repeats)
    if config.rewards.repeats > 1:
        inputs["scores"] = jax.ShapeDtypeStruct(scores, "float32")
    try:  # the method's own checks of its knobs and weights
        if plugins.is_plugin(name):
            with plugins.blaming(name):
                return _traced(name, weights, inputs, knobs)
        return _traced(name, weights, inputs, knobs)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{key}: {error}") from error


def _inputs(
    make: Callable[[tuple[int, ...], Any], Any], groups: tuple[int, int], length: int
) -> dict[str, Any]:
    """Further inputs of an aggregator by name, of groups `[B, G]` of completions of `T` tokens."""
    tokens = (*groups, length)
    return {
        "lengths": make(groups, "float32"),
        "gradient_weights": make(groups, "float32"),
        "token_gradient_weights": make(tokens, "float32"),
        "where": make(tokens, "bool"),
    }


def _traced(
    name: str, weights: jax.Array, inputs: Mapping[str, Any], knobs: Mapping[str, Any]
) -> Aggregator:
    """An aggregator that returns advantages of the right shape."""
    shape = (*inputs["lengths"].shape, len(weights))
    rewards, mask = (jax.ShapeDtypeStruct(shape, dtype) for dtype in ("float32", "bool"))
    aggregator = aggregators.make(name, weights, **knobs)
    if not isinstance(aggregator, Aggregator):
        raise UserError(f"{name} returned a {type(aggregator).__name__}, not an Aggregator")
    if "scores" in aggregator.needs and "scores" not in inputs:
        raise UserError(
            f"{name} estimates the noise of rewards from several scores of each completion: set "
            "rewards.repeats to at least 2"
        )
    state, random = jax.eval_shape(lambda: (aggregator.init(shape[2]), jax.random.key(0)))
    further = aggregator.inputs_among(inputs)
    advantages, _ = jax.eval_shape(aggregator.update, rewards, mask, state, random, **further)
    axes = inputs["where" if aggregator.is_per_token else "lengths"].shape
    expected = jax.ShapeDtypeStruct(axes, "float32")
    if not isinstance(advantages, jax.ShapeDtypeStruct) or (
        (advantages.shape, advantages.dtype) != (expected.shape, expected.dtype)
    ):
        raise UserError(
            f"{name} returned {_described(advantages)} for rewards {_described(rewards)}, not "
            f"advantages {_described(expected)}"
        )
    return aggregator


def _described(array: Any) -> str:
    """Type and shape, such as `float32[4,8]`."""
    if not isinstance(array, jax.ShapeDtypeStruct):
        return f"a {type(array).__name__}"
    return f"{array.dtype}[{','.join(map(str, array.shape))}]"


def _check_name(config: Config) -> None:
    if not config.name or config.name in (".", "..") or "/" in config.name:
        raise UserError(f"name={config.name!r} is not a valid name of a directory")


def _check_numbers(config: Config) -> None:
    for key in ("seed", "pipeline_depth", "early_stop", "max_skipped_in_a_row", "samples_per_step"):
        if getattr(config, key) < 0:
            raise UserError(f"{key}={getattr(config, key)} must not be negative")
    if config.early_stop and not config.evaluation.every:
        raise UserError(
            f"early_stop={config.early_stop} counts evaluations during training, and there are "
            "none: set evaluation.every to the steps between two of them"
        )
    if not 1.0 <= config.lost_host_seconds <= 600.0:
        raise UserError(
            f"lost_host_seconds={config.lost_host_seconds} must be between 1 and 600 seconds"
        )
    if not any(config.weights.values()):
        raise UserError(f"weights={dict(config.weights)}: at least one must be above 0")
    if config.seed >= 2**32:
        raise UserError(f"seed={config.seed} must be below 2**32: random keys have 32 bits of it")
    for name, weight in config.weights.items():
        if not 0.0 <= weight < math.inf:
            raise UserError(
                f"weights.{name}={weight} is not a finite number of at least 0; to reward the "
                "opposite, negate the objective"
            )


def _check_references(config: Config) -> None:
    """References must be texts or numbers where an objective is about their probability."""
    if not config.has_self_certainty:
        return
    if config.aggregator.check_invariants:
        raise UserError(
            "aggregator.check_invariants reads the rewards of the reward functions, without "
            "self_certainty, which the step computes: set one of the two"
        )
    for prompt in config.task.prompts("train")[:1]:
        if not isinstance(prompt.reference, str | int | float):
            raise UserError(
                f"weights.self_certainty: the references of task {config.task.name} are of type "
                f"{type(prompt.reference).__name__}, not texts or numbers"
            )


def _check_task(config: Config) -> None:
    for name, function in config.task.objectives.items():
        if not callable(function):
            raise UserError(f"task: the objective {name} is {function!r:.80}, not a function")
    for split in ("train", "test"):
        prompts = config.task.prompts(split)
        if not isinstance(prompts, Sequence):
            kind = type(prompts).__name__
            raise UserError(f"task: prompts({split!r}) returned a {kind}: make it a list of Prompt")
        if not prompts:
            raise UserError(f"task: {config.task.name} has no {split} problems")
        if not isinstance(prompts[0], Prompt):
            kind = type(prompts[0]).__name__
            raise UserError(f"task: prompts({split!r}) contains a {kind}, not a Prompt")
        if not isinstance(prompts[0].text, str):
            kind = type(prompts[0].text).__name__
            raise UserError(f"task: the text of prompt {prompts[0].index} is a {kind}")


def _check_rewards(config: Config) -> None:
    rewards, (own, _) = config.rewards, split_functions(config.task.objectives)
    judge = getattr(config.task, "judge", None)
    if rewards.repeats > 1 and isinstance(judge, JudgeConfig) and judge.temperature == 0.0:
        raise UserError(
            f"rewards.repeats={rewards.repeats}: at task.judge.temperature=0 a judge repeats its "
            "replies; set it above 0"
        )
    if rewards.timeout_seconds > 0.0 and rewards.workers == 0 and own:
        raise UserError(
            f"rewards.timeout_seconds={rewards.timeout_seconds} needs rewards.workers: a call of "
            f"{next(iter(own))} in the process that trains cannot be interrupted"
        )


def _check_model(config: Config) -> None:
    vocabulary = config.task.tokenizer.vocab_size
    if config.model.vocab_size < vocabulary:
        raise UserError(
            f"model.vocab_size={config.model.vocab_size} is smaller than the {vocabulary} tokens "
            f"of task {config.task.name}"
        )


def _check_needs(config: Config) -> None:
    """Aggregators with further inputs need steps that have them, and losses that take them."""
    aggregator = make_aggregator(config)
    if config.loss.is_pairwise and aggregator.is_per_token:
        raise UserError(
            f"loss.name={config.loss.name} compares whole completions, and aggregator.name="
            f"{config.aggregator.name} has an advantage for each token: choose another of the two"
        )
    if config.allocation.selects and set(aggregator.needs) - {"scores"}:
        raise UserError(
            f"aggregator.name={config.aggregator.name} needs gradient norms, which "
            f"allocation.name={config.allocation.name} does not compute for its candidates: choose "
            "another aggregator"
        )


def _check_cosines(config: Config) -> None:
    every, objectives = config.learning.gradient_cosines, config.objectives
    if every and len(objectives) == 1:
        raise UserError(
            f"learning.gradient_cosines={every} compares the gradients of the objectives, and "
            f"{objectives[0]} is the only one: set it to 0"
        )


def _check_group_size(config: Config) -> None:
    if config.largest_group == 1 and compares_within_groups(config, group_size=1):
        raise UserError(
            f"group_size=1: {config.aggregator.name} compares the completions of a prompt with "
            "each other, so a single one teaches nothing; set group_size to at least 2"
        )


def _check_batch(config: Config) -> None:
    sizes = ("num_steps", "prompts_per_step", "group_size", "max_new_tokens", "rollout_stages")
    for key in sizes:
        if getattr(config, key) < 1:
            raise UserError(f"{key}={getattr(config, key)} must be at least 1")
    pieces = config.learning.mini_batches * config.learning.micro_batches
    if config.prompts_per_step % pieces:
        raise UserError(
            f"prompts_per_step={config.prompts_per_step} does not divide into "
            f"learning.mini_batches={config.learning.mini_batches} x "
            f"learning.micro_batches={config.learning.micro_batches}"
        )


def _check_learning(config: Config) -> None:
    """Settings of loss, optimiser and allocation that need something of each other."""
    if config.optimizer.follows_noise and config.learning.micro_batches < 2:
        raise UserError(
            f"optimizer.snr_floor={config.optimizer.snr_floor} needs at least two micro-batches, "
            "whose gradients are compared: set learning.micro_batches"
        )
    if config.loss.capo.is_used and config.model.logits_backward != "recompute":
        raise UserError(
            "loss.capo reads probabilities that model.logits_backward="
            f"{config.model.logits_backward!r} does not compute: set 'recompute'"
        )
    if config.allocation.selects and config.loss.is_pairwise:
        raise UserError(
            "allocation.name=gradalign takes the gradients of groups at ratio 1, which "
            f"loss.name={config.loss.name} has not: set another loss or rule"
        )
