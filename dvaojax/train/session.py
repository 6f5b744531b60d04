"""One start of a run: opens its program, directory, checkpoints and outputs, and closes them."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from etils import epath
from rich.console import Console

from dvaojax import files
from dvaojax.config import Config, make_aggregator, migrate, validate
from dvaojax.errors import ServiceError, UserError, import_extra
from dvaojax.evaluation.held_out import Evaluation
from dvaojax.models import Params, pretrained
from dvaojax.run import directory as run_directory
from dvaojax.run.checkpoint import Checkpoints
from dvaojax.run.description import config_to_json
from dvaojax.run.directory import RunDirectory
from dvaojax.run.display import Display
from dvaojax.run.lock import DirectoryLock
from dvaojax.run.metrics import MetricsWriter, TensorBoard
from dvaojax.run.orbax_output import quiet_saving_threads
from dvaojax.run.wandb import WandB
from dvaojax.sharding import MeshConfig
from dvaojax.train import hosts
from dvaojax.train.batches import check_prompts
from dvaojax.train.best import EVALUATED
from dvaojax.train.compilation_cache import caching_programs
from dvaojax.train.evaluator import evaluate_policy, evaluator_of
from dvaojax.train.failed_start import removing_failed_start
from dvaojax.train.failures import TrainingError
from dvaojax.train.hints import check_hinted_prompts
from dvaojax.train.host_watch import native_output_in, tell_others, telling_others
from dvaojax.train.keys import KeyPurpose, run_key
from dvaojax.train.program import Program, make_program
from dvaojax.train.progress import TrainingProgress
from dvaojax.train.resume import other_devices, restore_progress
from dvaojax.train.scoring import make_scorer
from dvaojax.train.warm_start import check_demonstrations
from dvaojax.types import Scorer

Start = Literal["create", "resume", "overwrite"]

# Settings that may change when a run is resumed. None of them changes a number of the run, unless
# requests to a judge, or tests of programs, fail in one start and not in the other.
MAY_DIFFER = (
    "aggregator.check_invariants",
    "checkpoints.every",
    "checkpoints.keep_latest",
    "compilation_cache",
    "early_stop",
    "lost_host_seconds",
    "max_skipped_in_a_row",
    "rewards.concurrency",
    "rewards.programs.isolation",
    "rewards.programs.parallel",
    "rewards.programs.server",
    "rewards.programs.step_seconds",
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

# Settings that may change too, and with which sums are taken in another order.
MAY_ROUND_OTHERWISE = tuple(f"mesh.{field.name}" for field in dataclasses.fields(MeshConfig))

# The metric whose largest value marks the best checkpoint, without evaluations during training.
BEST_METRIC = "weighted_reward"


@dataclasses.dataclass(frozen=True)
class Session:
    """Everything one start of a run works with.

    Attributes:
        config: the run.
        program: its compiled functions.
        directory: its files.
        scorer: its objectives, ready to score.
        checkpoints: its saved states.
        restored: the progress to continue from; None at the beginning of a run.
        lock: of the directory; None in other processes than the first.
        metrics: writes one row per step.
        samples: writes completions with their rewards.
        display: shows the latest step.
        loaded: published weights, until the run begins with them.
    """

    config: Config
    program: Program
    directory: RunDirectory
    scorer: Scorer
    checkpoints: Checkpoints
    restored: TrainingProgress | None
    lock: DirectoryLock | None
    metrics: MetricsWriter
    samples: MetricsWriter
    display: Display
    loaded: list[Params]

    def initial_params(self) -> Params:
        """The parameters before any training: published weights, or random ones."""
        if self.loaded:
            return self.loaded.pop()  # not kept, since the first update donates them
        if self.config.pretrained:
            return pretrained.load(
                self.config.pretrained, self.config.model, mesh=self.program.mesh
            )
        return self.program.init(run_key(self.config, KeyPurpose.PARAMETERS))

    def evaluate(self, params: Params) -> Evaluation:
        """Evaluates a policy on the held-out problems; every call samples with the same keys."""
        evaluation = evaluate_policy(self.config, evaluator_of(self.program), self.scorer, params)
        for message in evaluation.messages:
            self.display.print(message)
        return evaluation

    def save(self, progress: TrainingProgress, metrics: Mapping[str, float]) -> None:
        """Starts a checkpoint; returns once the state may be donated.

        Args:
            progress: the run.
            metrics: the row of its last step, from which the checkpoint is ranked. With evaluations
                during training, a checkpoint without one is never the best.

        Raises:
            TrainingError: this process lost the lock of the directory.
            ServiceError: it could not renew its lease in the bucket, or the bucket does not answer.
        """
        if self.lock is not None and not self.lock.is_held():
            message = f"another process may have taken {self.directory.address}"
            # A restart finds out; a bucket may not have answered for a while.
            raise (TrainingError if self.directory.copy is None else ServiceError)(message)
        if hosts.is_first():
            self.directory.store()  # the rows that the checkpoint counts
        ranked_by = EVALUATED if self.config.evaluation.every else BEST_METRIC
        self.checkpoints.save(
            progress.step,
            progress.to_arrays(self.program.mesh),
            extra=progress.to_record(),
            metrics={BEST_METRIC: metrics.get(ranked_by, -math.inf)},
        )


@contextlib.contextmanager
def open_session(
    config: Config, runs: Path | epath.Path, start: Start, *, from_step: int | None = None
) -> Iterator[Session]:
    """Opens a session after checking everything, before anything is written; closes it on leaving.

    Args:
        config: the run.
        runs: parent of its directory.
        start: as for `train`.
        from_step: of the checkpoint to resume from; None for the newest that is whole.

    Raises:
        UserError: the configuration, the mesh, the published weights or the directory do not fit,
            or another process uses the directory.
    """
    validate(config)
    if config.pretrained and start != "resume":
        pretrained.check(config.pretrained, config.model)
    program, scorer = make_program(config, make_aggregator(config)), make_scorer(config)
    if config.wandb_project:
        import_extra("wandb", extra="wandb")
    check_prompts(config.task)
    check_hinted_prompts(config)
    check_demonstrations(config)
    loaded: list[Params] = []
    if config.pretrained and start != "resume":  # before anything is written, as it may fail
        loaded.append(pretrained.load(config.pretrained, config.model, mesh=program.mesh))
    path = runs / config.name
    weights = [config.weights[name] for name in config.objectives]
    console = Console(highlight=False, quiet=not hosts.is_first())
    with contextlib.ExitStack() as stack:
        directory, restored = stack.enter_context(run_directory.at(path)), None
        lock = hosts.together(f"opening {path}", lambda: _open_directory(directory, config, start))
        if directory.copy is not None:
            hosts.together(f"reading {path}", lambda: lock or directory.fetch())
        if lock is not None:
            stack.callback(lock.release)
            stack.enter_context(_storing_at_end(directory, lock))
        release = lock.release if lock is not None else lambda: None
        stack.enter_context(native_output_in(directory.path / files.ERRORS, release))
        stack.enter_context(quiet_saving_threads())
        if start != "resume":
            stack.enter_context(removing_failed_start(directory))
        stack.enter_context(caching_programs(config.compilation_cache, runs))
        if start == "resume":
            say = functools.partial(console.print, markup=False, soft_wrap=True)
            note = hosts.together(
                "reading the last start", lambda: other_devices(directory.path, config)
            )
            restored = restore_progress(config, program, directory, from_step=from_step, say=say)
            hosts.together("recording the start", lambda: _record_resume(directory, config))
            if note is not None:
                say(note)
        checkpoints = Checkpoints(
            directory.checkpoints,
            keep_latest=config.checkpoints.keep_latest,
            best_metric=BEST_METRIC,
            on_failure=tell_others,
        )
        stack.enter_context(telling_others())
        yield Session(
            config=config,
            program=program,
            directory=directory,
            scorer=stack.enter_context(scorer),
            checkpoints=stack.enter_context(checkpoints),
            restored=restored,
            lock=lock,
            metrics=stack.enter_context(_metrics_writer(config, directory, restored)),
            samples=stack.enter_context(_samples_writer(directory)),
            display=stack.enter_context(
                Display(config.objectives, weights, config.num_steps, console)
            ),
            loaded=loaded,
        )


def _open_directory(directory: RunDirectory, config: Config, start: Start) -> DirectoryLock | None:
    """Prepares the run's directory and returns its lock; the first process does so."""
    if not hosts.is_first():
        return None
    directory.fetch()
    run_directory.check_start(directory.path, start)
    with files.removing_empty(directory.path):
        lock = directory.take()
        try:
            directory.fetch()
            _prepare_directory(directory, config, start)
            directory.store()
        except BaseException:
            lock.release()
            raise
    return lock


def _prepare_directory(directory: RunDirectory, config: Config, start: Start) -> None:
    """Makes the directory, whose lock is held, that of a new run, or checks that of an old one."""
    path, delete_elsewhere = directory.path, directory.delete_elsewhere
    if start == "resume":  # recorded once the state is restored
        run_directory.check_resumable(
            path,
            config,
            may_differ=MAY_DIFFER + MAY_ROUND_OTHERWISE,
            migrate=migrate,
            delete_elsewhere=delete_elsewhere,
        )
    elif start == "overwrite":
        run_directory.overwrite(path, config, delete_elsewhere=delete_elsewhere)
    else:
        run_directory.create(path, config)


@contextlib.contextmanager
def _storing_at_end(directory: RunDirectory, lock: DirectoryLock) -> Iterator[None]:
    """Brings the last files of a run into its bucket, also after an error."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(ServiceError, UserError):
            if lock.is_held():
                directory.store()
        raise
    if lock.is_held():
        directory.store()


def _record_resume(directory: RunDirectory, config: Config) -> None:
    if hosts.is_first():
        may_differ = MAY_DIFFER + MAY_ROUND_OTHERWISE
        run_directory.resume(directory.path, config, may_differ=may_differ, migrate=migrate)
        directory.store()


def _samples_writer(directory: RunDirectory) -> MetricsWriter:
    """Writes completions in the first process, and nothing in the others."""
    return MetricsWriter([files.JsonLines(directory.samples)] if hosts.is_first() else [])


def _metrics_writer(
    config: Config, directory: RunDirectory, restored: TrainingProgress | None
) -> MetricsWriter:
    """Writes rows in the first process, and nothing in the others."""
    if not hosts.is_first():
        return MetricsWriter([])
    sinks: list[Any] = [files.JsonLines(directory.metrics), TensorBoard(directory.tensorboard)]
    if config.wandb_project:
        described = config_to_json(config)
        sinks.append(
            WandB(directory.path, project=config.wandb_project, name=config.name, config=described)
        )
    writer = MetricsWriter(sinks)
    if restored is not None:
        writer.truncate_after(restored.step)
    return writer
