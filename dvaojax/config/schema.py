"""The configuration of a run."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from dvaojax.allocation import AllocationConfig
from dvaojax.config.defaults import BY_TASK, default_of
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.policy_loss import LossConfig
from dvaojax.learning.reflection import SELF_CERTAINTY
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models import ModelConfig
from dvaojax.rewards.programs import ProgramsConfig
from dvaojax.rollout import MAX_STAGES
from dvaojax.rollout.sampling import Sampling
from dvaojax.sharding import MeshConfig
from dvaojax.tasks.arithmetic import Arithmetic
from dvaojax.types import Task, TaskWithScorer


@dataclasses.dataclass(frozen=True)
class AggregatorConfig:
    """The advantage aggregator, and others for comparison.

    Attributes:
        name: a key of `aggregators.METHODS`, or a plug-in, "my_file.py:my_method" or
            "module:my_method".
        options: knobs of that aggregator, "knob=value" each; "knob.objective=value" sets a knob
            that may differ between objectives for one of them.
        shadows: shadow aggregators, which are evaluated on the same rewards and only logged; each
            is a name with its knobs, if any: "gdpo" or "rvpo:sharpness=2.0:ddof=0".
        check_invariants: whether the advantages of every step are checked against the proven
            properties of the method, `aggregators.invariants`; a violation stops the run.
    """

    name: str = "dvao"
    options: tuple[str, ...] = ()
    shadows: tuple[str, ...] = ()
    check_invariants: bool = False


@dataclasses.dataclass(frozen=True)
class HintConfig:
    """Hints for training problems of which all completions fail, see `train.hints`.

    Attributes:
        objective: by which completions succeed or fail; empty gives no hints.
        success: the least reward of a completion that succeeds.
        rounds: how many times a step asks a failed problem again, each time with the next hint.

    Raises:
        ValueError: the number of rounds is below 1.
    """

    objective: str = ""
    success: float = 1.0
    rounds: int = 1

    def __post_init__(self):
        if self.rounds < 1:
            raise ValueError(f"hints.rounds={self.rounds} must be at least 1")


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """Where reward functions run, and what happens if one fails.

    Attributes:
        workers: number of worker processes; 0 scores in the process that trains.
        timeout_seconds: limit for one call, which needs workers unless all reward functions are an
            `async def`; 0 means no limit.
        on_error: "raise" stops the run; "mask" masks the reward, counts the failure and continues.
        concurrency: number of calls of reward functions that are an `async def` which are awaited
            together; they run in the process that trains.
        repeats: how many times each training completion is scored, for rewards that contain noise;
            the reward is the mean, and `aggregator=dvao_of_repeats` estimates the noise. An
            evaluation scores once.
        programs: how the programs of completions are executed, for tasks that test programs.

    Raises:
        ValueError: a number is below its minimum.
    """

    workers: int = 0
    timeout_seconds: float = 0.0
    on_error: Literal["raise", "mask"] = "raise"
    concurrency: int = 64
    repeats: int = 1
    programs: ProgramsConfig = ProgramsConfig()

    def __post_init__(self):
        if self.workers < 0 or self.timeout_seconds < 0.0:
            raise ValueError(
                f"rewards.workers={self.workers} and rewards.timeout_seconds="
                f"{self.timeout_seconds} must not be negative"
            )
        for name in ("concurrency", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"rewards.{name}={getattr(self, name)} must be at least 1")


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """The evaluation on held-out problems before, during and after training.

    Attributes:
        num_prompts: number of problems, the first ones of the task's test split; 0 means all.
        samples: completions of each problem.
        sampling: sampling of their tokens; it may differ from training and may truncate.
        max_new_tokens: limit of a completion, including the stop token; 0 means that of training.
        prompts_per_batch: problems sampled together, which has no effect on the completions; 0
            samples as many completions together as a training step.
        every: steps between two evaluations during training, each recorded in the row of its
            step; the last step is evaluated too. The best checkpoint is then the one with the
            highest weighted reward on held-out problems, and is saved when it is found. 0
            evaluates only before and after training. Training does not depend on it.

    Raises:
        ValueError: a number is below its minimum.
    """

    num_prompts: int = 512
    samples: int = 1
    sampling: Sampling = Sampling()
    max_new_tokens: int = 0
    prompts_per_batch: int = 0
    every: int = 0

    def __post_init__(self):
        for name, minimum in (
            ("num_prompts", 0),
            ("samples", 1),
            ("max_new_tokens", 0),
            ("prompts_per_batch", 0),
            ("every", 0),
        ):
            if getattr(self, name) < minimum:
                value = getattr(self, name)
                raise ValueError(f"evaluation.{name}={value} must be at least {minimum}")


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When the state of a run is saved.

    Attributes:
        every: steps between two checkpoints; the last step is always saved.
        keep_latest: number of newest checkpoints to keep, in addition to the one with the highest
            weighted reward: on held-out problems with `evaluation.every`, else in training.

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
    """All settings of a run.

    The defaults of `max_new_tokens`, `model`, `learning`, `optimizer` and `warm_start` depend on
    the run. For published weights (`pretrained`) the learning rate is 1e-6 after a warm-up of 10
    updates, there is no warm start on demonstrations, and `model` must be given. For random
    parameters they are the task's `run_defaults`, where it has any, and else those of each section
    and a small decoder. `Config()` is a run of the built-in task, `tasks.arithmetic`.

    Attributes:
        name: of the run, whose directory is `runs/NAME`; by default the task's name.
        seed: of parameters, order of problems, demonstrations and sampling.
        task: prompts and objectives.
        weights: objective -> weight, one for each of the task's objectives; by default 1 each.
            `self_certainty` may be added where references are texts or numbers: R3, the policy's
            own log-probability of the reference after a completion's reasoning, which the train
            step computes (`learning.reflection`); evaluations do not score it.
        aggregator: how rewards become advantages.
        num_steps: policy-gradient steps.
        prompts_per_step: `B`, prompts of a step.
        group_size: completions per prompt, on average if the numbers differ between prompts.
        allocation: how the completions of a step are distributed over its prompts.
        hints: whether problems of which all completions fail are asked again with a hint.
        max_new_tokens: `T`, the stop token included; by default 256, or as the task recommends.
        rollout_stages: stages of a rollout; between stages caches grow and finished completions are
            dropped. Each stage is compiled separately: 1 compiles fastest and 4 samples fastest.
            One is enough, and there is no other, where `model.decode_attention` is a kernel.
        rollout_loop: who runs the loop over tokens on an NVIDIA GPU: "graph", the GPU alone, as one
            CUDA graph, or "host". Of no effect elsewhere and with several GPUs.
        pipeline_depth: steps by which sampling is ahead of learning. 0 is strictly on-policy; at 1
            the completions of one step are scored while the devices sample the next step, and
            every step learns from completions of the parameters before the last update.
        sampling: sampling of tokens; truncation is rejected here, see `validate`.
        model: dimensions of the decoder.
        pretrained: a directory, `gs://bucket/path` or a repository of the hub, `owner/name`, with
            published weights as initial parameters, see `models.pretrained`; empty for random ones.
            Read when a run begins, and not when it is resumed. A run records a repository with its
            commit, `owner/name@commit`.
        loss: the loss of the policy.
        learning: epochs, mini-batches and micro-batches of a step.
        optimizer: the optimizer and its schedule.
        warm_start: supervised fine-tuning before the first step.
        rewards: where reward functions run.
        evaluation: the evaluation on held-out problems.
        early_stop: the run ends after this many evaluations in a row (see `evaluation.every`)
            without a weighted reward on held-out problems above the best one before them, the
            evaluation before training included; 0 never ends a run early.
        checkpoints: when the state is saved.
        mesh: arrangement of the devices.
        max_skipped_in_a_row: a run stops after more consecutive updates without a finite loss and
            gradient than this.
        samples_per_step: completions of each step that are written to `samples.jsonl`.
        wandb_project: project to log to on Weights & Biases; empty for none.
        compilation_cache: directory of JAX's cache of compiled programs, which a restart reads
            instead of compiling; "none" for no cache. By default the directory that
            JAX_COMPILATION_CACHE_DIR names, or `.compilation-cache` next to the run's directory.
        lost_host_seconds: with several processes, the time without a sign of life after which a
            process counts as lost and the others end; between 1 and 600.
    """

    name: str = BY_TASK
    seed: int = 0
    task: Task = Arithmetic()
    weights: Mapping[str, float] = BY_TASK
    aggregator: AggregatorConfig = AggregatorConfig()
    num_steps: int = 120
    prompts_per_step: int = 32
    group_size: int = 8
    allocation: AllocationConfig = AllocationConfig()
    hints: HintConfig = HintConfig()
    max_new_tokens: int = BY_TASK
    rollout_stages: int = MAX_STAGES
    rollout_loop: Literal["graph", "host"] = "graph"
    pipeline_depth: int = 0
    sampling: Sampling = Sampling()
    model: ModelConfig = BY_TASK
    pretrained: str = ""
    loss: LossConfig = LossConfig()
    learning: LearningConfig = BY_TASK
    optimizer: OptimizerConfig = BY_TASK
    warm_start: WarmStartConfig = BY_TASK
    rewards: RewardConfig = RewardConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    early_stop: int = 0
    checkpoints: CheckpointConfig = CheckpointConfig()
    mesh: MeshConfig = MeshConfig()
    max_skipped_in_a_row: int = 5
    samples_per_step: int = 4
    wandb_project: str = ""
    compilation_cache: str = ""
    lost_host_seconds: float = 60.0

    further_keys: ClassVar[Mapping[str, type]] = {f"weights.{SELF_CERTAINTY}": float}
    """Keys of `--set` that add an entry, with their types."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is BY_TASK:
                object.__setattr__(self, field.name, self._default(field.name))

    def _default(self, field: str) -> Any:
        """The value of a field that was not given."""
        if field == "name":
            return self.task.name
        if field == "weights":
            return dict.fromkeys(self.objectives, 1.0)
        return default_of(field, self.task, pretrained=self.pretrained)

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the columns of the reward vector."""
        own = tuple(self.task.objectives)
        scored = self.task.scored_objectives if isinstance(self.task, TaskWithScorer) else ()
        named = () if self.weights is BY_TASK else (SELF_CERTAINTY,)
        added = (name for name in named if name in self.weights and name not in (*own, *scored))
        return (*own, *scored, *added)

    @property
    def has_self_certainty(self) -> bool:
        """Whether the last objective is R3, which the train step computes."""
        own = self.task.objectives
        return self.objectives[-1:] == (SELF_CERTAINTY,) and SELF_CERTAINTY not in own

    @property
    def largest_group(self) -> int:
        """`G` of the arrays of a step: the most completions that a prompt may get."""
        return self.allocation.largest(self.group_size)

    @property
    def num_updates(self) -> int:
        """Optimizer updates in the whole run, the length of the learning-rate schedule."""
        return self.num_steps * self.learning.updates_per_step
