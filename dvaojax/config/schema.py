"""A run, described by frozen dataclasses; the defaults are the embedded arithmetic task."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any, Literal

import jax

from dvaojax import aggregators
from dvaojax.aggregators import Aggregator
from dvaojax.aggregators.options import read_options
from dvaojax.allocation import AllocationConfig
from dvaojax.config.from_json import from_json
from dvaojax.errors import UserError
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.policy_loss import LossConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models import ModelConfig
from dvaojax.rollout import MAX_STAGES
from dvaojax.rollout.sampling import Sampling
from dvaojax.sharding import MeshConfig
from dvaojax.tasks.arithmetic import Arithmetic
from dvaojax.types import Task, TaskWithDemonstrations, TaskWithScorer


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """Where reward functions run and what a failing one does.

    Attributes:
        workers: processes to score in; 0 scores in the process that trains.
        timeout_seconds: limit for one call, which needs workers; 0 sets none.
        on_error: "raise" stops the run, "mask" masks the reward, counts the failure and goes on.

    Raises:
        ValueError: a number is negative, or there is a time limit without workers.
    """

    workers: int = 0
    timeout_seconds: float = 0.0
    on_error: Literal["raise", "mask"] = "raise"

    def __post_init__(self):
        if self.workers < 0 or self.timeout_seconds < 0.0:
            raise ValueError(
                f"rewards.workers={self.workers} and rewards.timeout_seconds="
                f"{self.timeout_seconds} must not be negative"
            )
        if self.timeout_seconds > 0.0 and self.workers == 0:
            raise ValueError(
                f"rewards.timeout_seconds={self.timeout_seconds} needs rewards.workers: a call in "
                "the process that trains cannot be ended"
            )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is measured on held-out problems before and after.

    Attributes:
        num_prompts: problems, the first of the task's test split; 0 takes all of them.
        samples: completions for each.
        sampling: how their tokens are drawn; may differ from training, truncation included.
        max_new_tokens: of a completion, the stop token included; 0 takes as many as training.
        prompts_per_batch: problems sampled together, which changes no completion; 0 samples as many
            completions together as a training step.

    Raises:
        ValueError: a number is below its least.
    """

    num_prompts: int = 512
    samples: int = 1
    sampling: Sampling = Sampling()
    max_new_tokens: int = 0
    prompts_per_batch: int = 0

    def __post_init__(self):
        for name, least in (
            ("num_prompts", 0),
            ("samples", 1),
            ("max_new_tokens", 0),
            ("prompts_per_batch", 0),
        ):
            if getattr(self, name) < least:
                value = getattr(self, name)
                raise ValueError(f"evaluation.{name}={value} must be at least {least}")


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When a run is saved.

    Attributes:
        every: steps between two checkpoints; the last step is always saved.
        keep_latest: how many of the newest are kept, besides the best by weighted reward.

    Raises:
        ValueError: a number is below 1.
    """

    every: int = 20
    keep_latest: int = 2

    def __post_init__(self):
        if self.every < 1 or self.keep_latest < 1:
            raise ValueError(
                f"checkpoints.every={self.every} and checkpoints.keep_latest={self.keep_latest} "
                "must be at least 1"
            )


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything a run depends on.

    Attributes:
        name: of the run; it is kept in `runs/NAME`.
        seed: of parameters, problems' order, demonstrations and sampling.
        task: prompts and objectives.
        weights: objective -> weight; one for each of the task's objectives.
        aggregator: how rewards become advantages, a name in `aggregators.METHODS`.
        aggregator_options: knobs of that aggregator, "knob=value" each; of a knob that objectives
            may differ in, "knob.objective=value" sets one of them.
        shadows: aggregators that are evaluated beside it on the same rewards and only logged, each
            a name with its knobs, if any: "gdpo" or "rvpo:sharpness=2.0:ddof=0".
        num_steps: policy-gradient steps.
        prompts_per_step: `B`.
        group_size: completions per prompt, on average where they are shared out unequally.
        allocation: how a step's completions are shared out among its prompts.
        max_new_tokens: `T`, the stop token included.
        rollout_stages: stages of a rollout, in which caches grow and ended completions are left
            out; each is compiled anew, so that 1 compiles quickest and 4 samples fastest.
        pipeline_depth: steps that sampling runs ahead of learning. 0 is strictly on-policy; at 1
            the completions of one step are scored while the devices sample the next, and every
            step learns from completions of the parameters before the last update.
        sampling: how tokens are drawn; truncations are refused here, see `validate`.
        model: the decoder's shape.
        pretrained: a directory or a repository of the hub, `owner/name`, with published weights to
            start from, see `models.pretrained`; empty for random ones. Read when a run begins, and
            not when it is resumed.
        loss: the policy's loss.
        learning: epochs, mini-batches and micro-batches of a step.
        optimizer: how a gradient becomes an update.
        warm_start: supervised learning before the first step.
        rewards: where reward functions run.
        evaluation: what is measured before and after.
        checkpoints: when the run is saved.
        mesh: how devices are laid out.
        check_invariants: whether every step's advantages are held against the propositions of
            their method; a violated one stops the run.
        max_skipped_in_a_row: updates without a finite loss and gradient that a run survives.
        samples_per_step: completions of each step kept in `samples.jsonl`.
        wandb_project: project to log to on Weights & Biases; empty for none.
    """

    name: str = "arithmetic"
    seed: int = 0
    task: Task = Arithmetic()
    weights: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"accuracy": 1.0, "brevity": 1.0, "format": 1.0}
    )
    aggregator: str = "dvao"
    aggregator_options: tuple[str, ...] = ()
    shadows: tuple[str, ...] = ()
    num_steps: int = 120
    prompts_per_step: int = 32
    group_size: int = 8
    allocation: AllocationConfig = AllocationConfig()
    max_new_tokens: int = 48
    rollout_stages: int = MAX_STAGES
    pipeline_depth: int = 0
    sampling: Sampling = Sampling()
    model: ModelConfig = ModelConfig(
        vocab_size=18,
        width=128,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_width=32,
        ff_width=384,
        rope_theta=10_000.0,
    )
    pretrained: str = ""
    loss: LossConfig = LossConfig()
    learning: LearningConfig = LearningConfig(micro_batches=8)
    optimizer: OptimizerConfig = OptimizerConfig(
        learning_rate=1e-3, schedule="linear", final_fraction=0.1
    )
    warm_start: WarmStartConfig = WarmStartConfig(
        num_steps=300, batch_size=128, micro_batches=8, learning_rate=4e-3
    )
    rewards: RewardConfig = RewardConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    mesh: MeshConfig = MeshConfig()
    check_invariants: bool = False
    max_skipped_in_a_row: int = 5
    samples_per_step: int = 4
    wandb_project: str = ""

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the reward vector's columns."""
        own = tuple(self.task.objectives)
        scored = self.task.scored_objectives if isinstance(self.task, TaskWithScorer) else ()
        return (*own, *scored)

    @property
    def largest_group(self) -> int:
        """`G` of a step's arrays: the most completions that a prompt may get."""
        return self.allocation.largest(self.group_size)

    @property
    def num_updates(self) -> int:
        """Optimiser updates in the whole run, which schedules are stretched over."""
        return self.num_steps * self.learning.updates_per_step


def config_from_json(value: Any, *, classes: Collection[type] = ()) -> Config:
    """The configuration that a run recorded in its `config.json`.

    Args:
        value: the entry `config` of that file.
        classes: tasks outside this package that it may name; none is looked for anywhere.

    Raises:
        UserError: it is not a configuration of this version, or its task may not be used.
    """
    config = from_json(Config, _in_todays_words(value), key="config", classes=classes)
    if not isinstance(config.task, Task):
        raise UserError(f"config.task: {type(config.task).__name__} is not a task")
    return config


def _in_todays_words(value: Any) -> Any:
    """A recorded configuration whose clips, fields once, are options of a loss with a name."""
    loss = value.get("loss") if isinstance(value, Mapping) else None
    if not isinstance(loss, Mapping) or "clip_low" not in loss:
        return value
    clips = {name: loss.get(name) for name in ("clip_low", "clip_high", "dual_clip")}
    options = [f"{name}={clip}" for name, clip in clips.items() if name != "dual_clip" or clip]
    others = {name: entry for name, entry in loss.items() if name not in clips}
    named = {"name": "clipped_surrogate", "options": options, "importance_cap": 0.0, **others}
    return {**value, "loss": named}


def validate(config: Config) -> None:
    """Holds the parts of a configuration against each other, before anything is written.

    Raises:
        UserError: they do not fit; one line that names the key and the way out.
    """
    for check in (_check_name, _check_numbers, _check_task, _check_model, _check_batch):
        check(config)
    make_aggregator(config)
    make_shadows(config)
    try:  # the loss's own checks of its knobs, before anything is written
        config.loss.check_options()
    except ValueError as error:
        raise UserError(str(error)) from error
    config.allocation.check(config.group_size, config.weights)
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


def validate_evaluation(config: Config) -> None:
    """Holds against each other what an evaluation reads of a configuration, and nothing else.

    Raises:
        UserError: there is no test problem, or the model lacks tokens of the task.
    """
    if not config.task.prompts("test"):
        raise UserError(f"task: {config.task.name} has no test problems")
    _check_model(config)


def make_aggregator(config: Config) -> Aggregator:
    """The advantage aggregator that the configuration names.

    Raises:
        UserError: there is no such method or knob, a value is none that the knob can take, or the
            weights are not those of the task's objectives.
    """
    knobs = aggregator_knobs(config)
    return _fitting_aggregator(config, config.aggregator, knobs, key="aggregator")


def make_shadows(config: Config) -> dict[str, Aggregator]:
    """The shadow aggregators, by the text that names each in the configuration.

    Raises:
        UserError: as in `make_aggregator`, or two are the same.
    """
    made: dict[str, Aggregator] = {}
    for text in config.shadows:
        name, *options = text.split(":")
        if text in made:
            raise UserError(f"shadows: {text} is named twice")
        try:
            knobs = read_options(name, options, config.objectives)
            made[text] = _fitting_aggregator(config, name, knobs, key="shadow")
        except UserError as error:
            raise UserError(f"shadows: {text}: {error}") from error
    return made


def _fitting_aggregator(
    config: Config, name: str, knobs: dict[str, Any], *, key: str
) -> Aggregator:
    """An aggregator of the run's objectives that has seen the shapes of a step."""
    weights = aggregators.named_weights(config.weights, config.objectives)
    shape = (config.prompts_per_step, config.largest_group, len(config.objectives))
    rewards, mask = (jax.ShapeDtypeStruct(shape, dtype) for dtype in ("float32", "bool"))
    lengths = jax.ShapeDtypeStruct(shape[:2], "float32")
    try:  # the method's own checks of its knobs and weights, before anything is written
        aggregator = aggregators.make(name, weights, **knobs)
        state, random = jax.eval_shape(lambda: (aggregator.init(shape[2]), jax.random.key(0)))
        jax.eval_shape(aggregator.update, rewards, mask, state, random, lengths=lengths)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{key}={name}: {error}") from error
    return aggregator


def aggregator_knobs(config: Config) -> dict[str, Any]:
    """What `aggregator_options` sets, read as the types of the method's defaults.

    Raises:
        UserError: an option is not `knob=value`, or its value not of the knob's type.
    """
    try:
        return read_options(config.aggregator, config.aggregator_options, config.objectives)
    except UserError as error:
        raise UserError(f"aggregator_options: {error}") from error


def _check_name(config: Config) -> None:
    if not config.name or config.name in (".", "..") or "/" in config.name:
        raise UserError(f"name={config.name!r} is not the name of a directory")


def _check_numbers(config: Config) -> None:
    for key in ("seed", "pipeline_depth", "max_skipped_in_a_row", "samples_per_step"):
        if getattr(config, key) < 0:
            raise UserError(f"{key}={getattr(config, key)} must not be negative")
    for name, weight in config.weights.items():
        if not 0.0 <= weight < math.inf:
            raise UserError(
                f"weights.{name}={weight} is not a finite number of at least 0; to reward the "
                "opposite, negate the objective"
            )


def _check_task(config: Config) -> None:
    for split in ("train", "test"):
        if not config.task.prompts(split):
            raise UserError(f"task: {config.task.name} has no {split} problems")


def _check_model(config: Config) -> None:
    vocabulary = config.task.tokenizer.vocab_size
    if config.model.vocab_size < vocabulary:
        raise UserError(
            f"model.vocab_size={config.model.vocab_size} is smaller than the {vocabulary} tokens "
            f"of task {config.task.name}"
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
