"""One start of a run: the program, the directory and everything that is written to."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
from jax import Array
from jax.sharding import NamedSharding
from rich.console import Console

from dvaojax import files, sharding
from dvaojax.config import Config, make_aggregator, validate
from dvaojax.errors import UserError, import_extra
from dvaojax.evaluation.held_out import Evaluation
from dvaojax.learning.train_step import TrainState
from dvaojax.models import Params, pretrained
from dvaojax.rewards import RewardSuite
from dvaojax.rewards.combined import CombinedScorer
from dvaojax.run import directory as run_directory
from dvaojax.run.checkpoint import Checkpoints
from dvaojax.run.directory import RunDirectory
from dvaojax.run.display import Display
from dvaojax.run.metrics import Metrics, TensorBoard
from dvaojax.run.wandb import WandB
from dvaojax.train import hosts
from dvaojax.train.allocation_state import Reading, nothing_known
from dvaojax.train.collect import Draw
from dvaojax.train.evaluator import evaluate_policy, evaluator_of
from dvaojax.train.program import Program, make_program
from dvaojax.train.sft import check_demonstrations
from dvaojax.types import Rollout, Scorer, TaskWithScorer

Start = Literal["create", "resume", "overwrite"]

# What may be set to something else when a run is resumed; nothing here changes a number, unless a
# judge fails in one place and not in the other.
MAY_DIFFER = (
    "check_invariants",
    "checkpoints.every",
    "checkpoints.keep_latest",
    "max_skipped_in_a_row",
    "samples_per_step",
    "task.judge.api_key_variable",
    "task.judge.attempts",
    "task.judge.batch_seconds",
    "task.judge.cache",
    "task.judge.concurrency",
    "task.judge.first_wait_seconds",
    "task.judge.longest_wait_seconds",
    "task.judge.max_failed_batches",
    "task.judge.timeout_seconds",
    "task.judge.url",
    "wandb_project",
)

# The metric whose largest value marks the best checkpoint.
MERIT = "weighted_reward"


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is; all of it is in every checkpoint.

    Attributes:
        state: of the training.
        reference: parameters of the reference policy; None where none is used.
        reading: how far the problems were read, and what is known of them.
        in_flight: the completions of the next `pipeline_depth` steps, sampled by the parameters
            of so many steps ago. They are saved rather than sampled again: a batch of tokens is
            smaller than the parameters it came from.
        step: steps done.
        before: the evaluation before the first step, as `summary.json` holds it.
        seconds: wall time of the run up to here, earlier starts included.
    """

    state: TrainState
    reference: Params | None
    reading: Reading
    in_flight: tuple[Draw, ...]
    step: int
    before: Mapping[str, Any]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Session:
    """Everything one start of a run works with.

    Attributes:
        config: what to run.
        program: its compiled functions.
        directory: where it is kept.
        suite: its objectives, ready to score.
        checkpoints: what a later start resumes from.
        metrics: a row a step.
        samples: completions with their rewards.
        display: what a person sees meanwhile.
    """

    config: Config
    program: Program
    directory: RunDirectory
    suite: Scorer
    checkpoints: Checkpoints
    metrics: Metrics
    samples: Metrics
    display: Display

    def key(self, purpose: int) -> Array:
        """The run's random key for one purpose, to be consumed there."""
        return run_key(self.config, purpose)

    def begin(self) -> Params:
        """The policy before anything was learnt: published weights, or random ones."""
        if self.config.pretrained:
            return pretrained.load(
                self.config.pretrained, self.config.model, mesh=self.program.mesh
            )
        return self.program.init(self.key(0))

    def evaluate(self, params: Params) -> Evaluation:
        """The policy on the task's held-out problems; every call draws with the same keys."""
        evaluation = evaluate_policy(self.config, evaluator_of(self.program), self.suite, params)
        for message in evaluation.messages:
            self.display.print(message)
        return evaluation

    def save(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Starts a checkpoint; returns once the state may be donated."""
        extra = {name: getattr(progress, name) for name in ("step", "before", "seconds")}
        extra["position"] = progress.reading.position
        extra["in_flight"] = [draw.first for draw in progress.in_flight]
        state = {
            "state": progress.state,
            "reference": progress.reference,
            "statistics": hosts.place(progress.reading.statistics, self._everywhere),
            "in_flight": tuple(draw.rollout for draw in progress.in_flight),
        }
        self.checkpoints.save(progress.step, state, extra=extra, metrics=metrics)

    def restore(self) -> Progress | None:
        """The newest checkpoint, with what was written after it forgotten.

        None without one: the run was killed before its first was complete, and begins anew.
        """
        step = self.checkpoints.latest_step
        self.metrics.truncate_after(step or 0)
        self.samples.truncate_after(step or 0)
        if step is None:
            return None
        saved, extra = self.checkpoints.restore(checkpoint_shapes(self.config, self.program))
        statistics = hosts.whole(saved.pop("statistics"))
        rollouts, first = saved.pop("in_flight"), extra.pop("in_flight")
        return Progress(
            reading=Reading(extra.pop("position"), statistics),
            in_flight=tuple(map(Draw, first, rollouts)),
            **saved,
            **extra,
        )

    @property
    def _everywhere(self) -> NamedSharding:
        return sharding.named(self.program.mesh)


@contextlib.contextmanager
def open_session(config: Config, runs: Path, start: Start) -> Iterator[Session]:
    """Opens everything, checked before anything is written, and closes it in the end.

    Raises:
        UserError: the configuration, the mesh, the published weights or the directory do not fit.
    """
    validate(config)
    if config.pretrained and start != "resume":
        pretrained.check(config.pretrained, config.model)
    program, suite = make_program(config, make_aggregator(config)), make_suite(config)
    if config.wandb_project:
        import_extra("wandb", extra="wandb")
    check_demonstrations(config)
    path = runs / config.name
    directory = hosts.together(f"opening {path}", lambda: _open_directory(path, config, start))
    weights = [config.weights[name] for name in config.objectives]
    console = Console(highlight=False, quiet=not hosts.is_first())
    with contextlib.ExitStack() as stack:
        checkpoints = Checkpoints(
            directory.checkpoints, keep_latest=config.checkpoints.keep_latest, best_metric=MERIT
        )
        yield Session(
            config=config,
            program=program,
            directory=directory,
            suite=stack.enter_context(suite),
            checkpoints=stack.enter_context(checkpoints),
            metrics=stack.enter_context(_metrics(config, directory)),
            samples=stack.enter_context(_samples(directory)),
            display=stack.enter_context(
                Display(config.objectives, weights, config.num_steps, console)
            ),
        )


def _open_directory(path: Path, config: Config, start: Start) -> RunDirectory:
    """The run's directory, which the first process makes ready and the others find."""
    if not hosts.is_first():
        return RunDirectory(path)
    if start == "resume":
        return run_directory.resume(path, config, may_differ=MAY_DIFFER)
    make = {"create": run_directory.create, "overwrite": run_directory.overwrite}[start]
    return make(path, config)


def checkpoint_shapes(config: Config, program: Program) -> dict[str, Any]:
    """What a checkpoint of the run holds, as shapes with shardings."""
    shapes = program.state_shapes
    reference = shapes.learner.params if config.loss.kl_weight > 0.0 else None
    in_flight = (_rollout_shapes(config, program),) * config.pipeline_depth
    everywhere = sharding.named(program.mesh)
    statistics = jax.tree.map(
        lambda table: jax.ShapeDtypeStruct(table.shape, table.dtype, sharding=everywhere),
        nothing_known(config),
    )
    return {
        "state": shapes,
        "reference": reference,
        "statistics": statistics,
        "in_flight": in_flight,
    }


def _rollout_shapes(config: Config, program: Program) -> Rollout:
    """A step's completions, as shapes with shardings."""
    groups = (config.prompts_per_step, config.largest_group)

    def of(shape: tuple[int, ...], dtype: str) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=program.by_group)

    tokens = (*groups, config.max_new_tokens)
    return Rollout(
        of(tokens, "int32"), of(tokens, "bool"), of(tokens, "float32"), of(groups, "bool")
    )


def make_suite(config: Config) -> CombinedScorer:
    """The task's objectives, run where the configuration says; no process is started yet.

    Raises:
        UserError: a reward function cannot be sent to worker processes, or the task's own scorer
            cannot be made.
    """
    settings, scorers = config.rewards, []
    try:
        if config.task.objectives:
            suite = RewardSuite(
                config.task.objectives,
                workers=settings.workers,
                timeout_seconds=settings.timeout_seconds or None,
                on_error=settings.on_error,
            )
            scorers.append(suite)
    except TypeError as error:
        raise UserError(f"rewards.workers={settings.workers}: {error}") from error
    if isinstance(config.task, TaskWithScorer):
        scorers.append(config.task.scorer())
    return CombinedScorer(scorers)


def _samples(directory: RunDirectory) -> Metrics:
    """Where completions are kept; nowhere in any process but the first."""
    return Metrics([files.JsonLines(directory.samples)] if hosts.is_first() else [])


def _metrics(config: Config, directory: RunDirectory) -> Metrics:
    """Where rows are kept; nowhere in any process but the first."""
    if not hosts.is_first():
        return Metrics([])
    sinks: list[Any] = [files.JsonLines(directory.metrics), TensorBoard(directory.tensorboard)]
    if config.wandb_project:
        described = run_directory.config_to_json(config)
        sinks.append(
            WandB(directory.path, project=config.wandb_project, name=config.name, config=described)
        )
    return Metrics(sinks)


def run_key(config: Config, purpose: int) -> Array:
    """A run's random key for one purpose: 0 its parameters, 1 its steps, 2 its completions."""
    return jax.random.fold_in(jax.random.key(config.seed), purpose)
