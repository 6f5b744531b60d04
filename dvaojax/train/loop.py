"""The training loop: sample, score, update, log; start, resume and stop a run.

The host dispatches work and the devices execute it in order. The host waits for completions, which
it must score, and for the metrics of the step before the one it has just dispatched. One step of
the run is, in this order:

1. dispatch the sampling of the step `pipeline_depth` ahead, with the current parameters;
2. encode the problems that are sampled next;
3. wait for this step's completions, which were sampled `pipeline_depth` steps ago, and score them;
4. dispatch this step's update;
5. log the previous step.

At depth 0 the devices are idle while completions are scored. At depth 1 they run the previous
update and the sampling of the next step in the meantime. A step then learns from completions that
were sampled with the parameters before the last update; its probability ratio is relative to the
sampler's log-probabilities.
"""

import dataclasses
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

import jax
from etils import epath

from dvaojax import files
from dvaojax.config import Config
from dvaojax.data.stream import training_stream
from dvaojax.evaluation.answer_sets import set_report
from dvaojax.evaluation.held_out import Evaluation
from dvaojax.evaluation.measures import averages
from dvaojax.evaluation.plots import plot_run
from dvaojax.run import directory as run_directory
from dvaojax.run.rows import read_rows
from dvaojax.train import hosts
from dvaojax.train.allocation_state import (
    DataState,
    initial_data_state,
    make_allocation,
    make_rounds,
    statistics_rows,
)
from dvaojax.train.automatic import choose_start, finished_summary
from dvaojax.train.batches import PromptBatches
from dvaojax.train.best import (
    BestEvaluation,
    early_stop_summary,
    evaluation_row,
    is_due,
    stops_early,
    weighted_reward,
)
from dvaojax.train.closing import closing, in_one_line
from dvaojax.train.collect import Collector, StepRollout
from dvaojax.train.compiling import announced
from dvaojax.train.device_timer import DeviceTimer, Span
from dvaojax.train.hints import make_hints
from dvaojax.train.host_watch import telling_others, watching_hosts
from dvaojax.train.interrupts import Interrupted, Interrupts
from dvaojax.train.keys import KeyPurpose, run_key
from dvaojax.train.opening import notes, opening
from dvaojax.train.program import Program
from dvaojax.train.progress import TrainingProgress
from dvaojax.train.references import reference_width
from dvaojax.train.revisions import with_commits
from dvaojax.train.selection import Select, make_selector
from dvaojax.train.session import Session, Start, open_session
from dvaojax.train.step_log import DispatchedStep, StepLog
from dvaojax.train.warm_start import run_warm_start
from dvaojax.types import Scorer, TaskWithAnswerSets


def train(
    config: Config,
    runs: Path | epath.Path = Path("runs"),
    *,
    start: Start | Literal["auto"] = "create",
    from_step: int | None = None,
) -> dict[str, Any]:
    """Runs an experiment from its warm start or its last checkpoint to the final evaluation.

    Args:
        config: what to run.
        runs: parent of the run's directory, `runs/NAME`; it may be in a bucket.
        start: "create" refuses an existing directory, "resume" continues it bit for bit,
            "overwrite" deletes it first; "auto" creates what does not exist, continues what does,
            and does nothing if the run is finished.
        from_step: of the checkpoint that "resume" continues, of which later ones and later rows are
            deleted; None for the newest that is whole.

    Returns:
        The content of `summary.json`.

    Raises:
        UserError: the configuration or the directory do not fit; nothing was written.
        TrainingError: the run cannot continue.
        Interrupted: a signal stopped the run, which was saved.
        RewardError: a reward function failed, and `rewards.on_error` is "raise".
    """
    with watching_hosts(config.lost_host_seconds, runs / config.name):
        return _train(config, runs, start=start, from_step=from_step)


def _train(
    config: Config,
    runs: Path | epath.Path,
    *,
    start: Start | Literal["auto"],
    from_step: int | None,
) -> dict[str, Any]:
    """Like `train`, without watching the other processes."""
    started = time.perf_counter()
    path, is_automatic = runs / config.name, start == "auto"
    with run_directory.at(path) as directory:
        directory.fetch()
        if start == "auto":
            start = choose_start(directory.path)
        config = with_commits(config, directory.path, start=start)
        if is_automatic and start == "resume":
            summary = finished_summary(config, directory.path)
            if summary is not None:
                hosts.say(f"{path} is finished, with {summary['steps']} steps: nothing was done")
                return summary
    with (
        open_session(config, runs, start, from_step=from_step) as session,
        Interrupts() as interrupts,
        DeviceTimer() as timer,
    ):
        session = dataclasses.replace(session, program=announced(session.program, session.display))
        collector = make_collector(config, session.program, session.scorer)
        select = make_selector(config, session.program, session.scorer)
        progress = session.restored
        done = 0 if progress is None else progress.step
        if is_automatic:
            session.display.print(_what_auto_does(path, start, progress))
        for line in (*opening(session, done=done), *notes(session)):
            session.display.print(line)
        earlier = 0.0 if progress is None else progress.seconds
        progress = _begin(session, collector, select, started) if progress is None else progress
        if hosts.is_first() and not _is_over(config, progress):
            session.directory.summary.unlink(missing_ok=True)  # of a run that had ended early
        evaluation = None
        with StepLog(session) as log, telling_others():
            run_step = _step_function(session, collector, select, timer, log, interrupts)
            while not _is_over(config, progress) and interrupts.received is None:
                progress, evaluation = run_step(progress), None
                if is_due(config, progress.step):
                    progress, evaluation = _evaluate_during(session, progress, log)
                seconds = earlier + time.perf_counter() - started
                progress = dataclasses.replace(progress, seconds=seconds)
                if _is_saved(config, progress):
                    session.save(progress, log.flush())
            if interrupts.received is not None and not _is_over(config, progress):
                session.save(progress, log.flush())
                session.checkpoints.wait()
                raise _interrupted(session, progress, interrupts.received)
        return _finish(session, progress, evaluation, earlier + time.perf_counter() - started)


def _what_auto_does(
    path: Path | epath.Path, start: Start, progress: TrainingProgress | None
) -> str:
    """Whether `start="auto"` starts the run or continues it."""
    if start == "create":
        return f"{path} did not exist: the run starts"
    where = "from its start" if progress is None else f"after step {progress.step}"
    return f"{path} exists: the run continues {where}"


def _is_over(config: Config, progress: TrainingProgress) -> bool:
    """Whether there is no step left, or the run ends early."""
    return progress.step >= config.num_steps or stops_early(config, progress.best)


def _is_saved(config: Config, progress: TrainingProgress) -> bool:
    """Whether the state after this step is saved: at its time, at the end, or as the best one."""
    is_best = progress.best is not None and progress.best.step == progress.step
    return is_best or progress.step % config.checkpoints.every == 0 or _is_over(config, progress)


def _evaluate_during(
    session: Session, progress: TrainingProgress, log: StepLog
) -> tuple[TrainingProgress, Evaluation]:
    """Evaluates the policy after a step, as part of the row of that step."""
    config, started = session.config, time.perf_counter()
    jax.block_until_ready(progress.state.learner.params)
    evaluation = session.evaluate(progress.state.learner.params)
    summary = _evaluation_summary(config, evaluation)
    seconds = {"evaluation_seconds": time.perf_counter() - started}
    log.add_evaluation({**evaluation_row(config, summary), **seconds})
    log.flush()
    session.display.print(f"step {progress.step}, held out: " + in_one_line(summary))
    best = progress.best and progress.best.followed_by(
        progress.step, weighted_reward(config, summary)
    )
    return dataclasses.replace(progress, best=best), evaluation


def _interrupted(session: Session, progress: TrainingProgress, number: int) -> Interrupted:
    """The exception of a run that was stopped by a signal."""
    return Interrupted(
        number,
        f"stopped after step {progress.step} of {session.config.num_steps} by "
        f"{signal.Signals(number).name}; saved in {session.directory.address}: "
        "the same command with --resume continues it",
    )


def make_collector(config: Config, program: Program, scorer: Scorer) -> Collector:
    """The collector of a run, which samples and scores the groups of any step."""
    batches = PromptBatches(
        config.task,
        training_stream(config.task, seed=config.seed),
        program.by_group,
        prompts_per_step=config.prompts_per_step,
        # The steps from the one being scored to the one encoded ahead, the refills, and the hints.
        kept=config.pipeline_depth + 2 + config.allocation.refills + config.hints.rounds,
        row_of=statistics_rows(config),
    )
    return Collector(
        batches=batches,
        tokenizer=config.task.tokenizer,
        scorer=scorer,
        sampler=program.sample,
        allocation=make_allocation(config),
        refills=config.allocation.refills,
        hints=make_hints(config),
        mask_truncated=config.loss.mask_truncated,
        repeats=config.rewards.repeats,
        gradient_norms=program.gradient_norms if config.allocation.measures_gradients else None,
        reference_width=reference_width(config.task) if config.has_self_certainty else 0,
        rounds=make_rounds(config),
        key=run_key(config, KeyPurpose.COMPLETIONS),
    )


def _begin(
    session: Session, collector: Collector, select: Select, started: float
) -> TrainingProgress:
    """Initializes a run: parameters, warm start, first evaluation and the first rollouts."""
    config, program = session.config, session.program
    params = run_warm_start(config, program, session.initial_params(), session.display)
    before = _evaluation_summary(config, session.evaluate(params))
    reference = jax.tree.map(jax.numpy.copy, params) if config.loss.needs_reference else None
    state = program.begin(params, run_key(config, KeyPurpose.STEPS))
    data, in_flight = initial_data_state(config), []
    for _ in range(config.pipeline_depth):
        data, _ = select(state, data)
        sampled, data = collector.start_rollout(state.learner.params, data)
        in_flight.append(sampled)
    total = weighted_reward(config, before)
    progress = TrainingProgress(
        state=state,
        reference=reference,
        data=data,
        in_flight=tuple(in_flight),
        step=0,
        before=before,
        best=BestEvaluation(0, total) if config.evaluation.every else None,
        seconds=time.perf_counter() - started,
    )
    session.save(progress, evaluation_row(config, before))
    return progress


def _step_function(
    session: Session,
    collector: Collector,
    select: Select,
    timer: DeviceTimer,
    log: StepLog,
    interrupts: Interrupts,
) -> Callable[[TrainingProgress], TrainingProgress]:
    """A function that runs one step of the run."""
    config, program = session.config, session.program
    depth, last = config.pipeline_depth, config.num_steps
    sampling: dict[int, Future[Span]] = {}

    def sample_ahead(
        progress: TrainingProgress, data: DataState, step: int
    ) -> tuple[StepRollout, DataState]:
        """The completions of a later step; past the last step, a dummy of equal shape."""
        if step > last:
            return progress.in_flight[-1], data
        sampled, data = collector.start_rollout(progress.state.learner.params, data)
        sampling[step] = timer.time(sampled.rollout)
        if step < last:  # not the batch of the next step if this step is refilled
            collector.encode_next(data)
        return sampled, data

    def run_step(progress: TrainingProgress) -> TrainingProgress:
        step, data, choice = progress.step + 1, progress.data, {}
        if step + depth <= last:
            data, choice = select(progress.state, data)
        # This dispatch reads parameters that are later donated to the train step. That is safe:
        # devices execute in the order of dispatch.
        ahead, data = sample_ahead(progress, data, step + depth)
        current, *in_flight = *progress.in_flight, ahead
        collected, data = collector.collect(progress.state.learner.params, current, data)
        collected = collected._replace(measures=collected.measures | choice)
        interrupts.agree(step)
        state, metrics, advantages = program.step(
            progress.state, collected.experience, progress.reference
        )
        training = timer.time((metrics, advantages))
        log.add(
            DispatchedStep(step, collected, metrics, advantages, sampling.pop(step, None), training)
        )
        return dataclasses.replace(
            progress, state=state, data=data, in_flight=tuple(in_flight), step=step
        )

    return run_step


def _finish(
    session: Session, progress: TrainingProgress, evaluation: Evaluation | None, seconds: float
) -> dict[str, Any]:
    """Evaluates after the last step, and writes the summary and the plots.

    Args:
        session: the run.
        progress: after its last step.
        evaluation: of this policy, if it was evaluated in this start.
        seconds: wall time of the run so far.
    """
    config = session.config
    evaluating = time.perf_counter()
    if evaluation is None:
        evaluation = session.evaluate(progress.state.learner.params)
    after = _evaluation_summary(config, evaluation)
    summary = {
        "name": config.name,
        "aggregator": config.aggregator.name,
        "objectives": list(config.objectives),
        "weights": dict(config.weights),
        "seed": config.seed,
        "steps": progress.step,
        "problems": len(evaluation.problems),
        "samples": config.evaluation.samples,
        "before": progress.before,
        "after": after,
        **early_stop_summary(config, progress.best, step=progress.step),
    }
    if hosts.is_first():
        summary["unscored"] = _unscored(session)
    plots = []
    if hosts.is_first():  # the plots read the summary; afterwards it gets the final wall time
        files.write_json(session.directory.summary, summary)
        plots = plot_run(session.directory.path)
    summary["wall_seconds"] = seconds + time.perf_counter() - evaluating
    if hosts.is_first():
        files.write_json(session.directory.summary, summary)
    session.display.close()
    for line in closing(session, summary, plots):
        session.display.print(line)
    return summary


def _evaluation_summary(
    config: Config, evaluation: Evaluation
) -> dict[str, dict[str, float] | None]:
    """An evaluation as in `summary.json`, with the measures of answer sets if the task has any."""
    summary = averages(evaluation)
    if isinstance(config.task, TaskWithAnswerSets):
        set_intervals = set_report(evaluation, num_answers=config.task.num_answers)
        summary |= {name: i and i._asdict() for name, i in set_intervals.items()}
    return summary


def _unscored(session: Session) -> dict[str, int]:
    """Objective -> number of rewards whose scoring failed, over all starts of the run."""
    rows = read_rows(session.directory.metrics)
    return {
        name: int(sum(row.get(f"unscored/{name}", 0) for row in rows))
        for name in session.config.objectives
    }
