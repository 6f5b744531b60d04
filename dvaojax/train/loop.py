"""The loop: sample, score, learn, write down; start anew, resume, stop when asked.

The host dispatches and the devices follow; it waits for completions, which it must score, and for
nothing else. One step of the run is, in this order,

1. dispatch the sampling of the step `pipeline_depth` ahead, with the parameters as they are;
2. encode the problems that are sampled after it;
3. wait for this step's completions, which were sampled `pipeline_depth` steps ago, and score them;
4. dispatch this step's update;
5. write down the step before it.

At depth 0 the devices have nothing to do while completions are scored. At depth 1 they run the
update before and the sampling ahead, and a step learns from completions of the parameters before
the last update; the sampler's log-probabilities stand in its ratio.
"""

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax

from dvaojax import files
from dvaojax.config import Config
from dvaojax.data.stream import training_stream
from dvaojax.evaluation.answer_sets import set_report
from dvaojax.evaluation.held_out import Evaluation
from dvaojax.evaluation.measures import averages
from dvaojax.evaluation.plots import plot_run
from dvaojax.models.attention import backend as choice
from dvaojax.models.attention.splash import Plan
from dvaojax.train import hosts
from dvaojax.train.allocation_state import Reading, make_allocation, nothing_known, row_of
from dvaojax.train.batches import Batches
from dvaojax.train.collect import Collector, Draw
from dvaojax.train.device_timer import DeviceClock, Span
from dvaojax.train.interrupts import Interrupted, Interrupts
from dvaojax.train.journal import Journal, Step
from dvaojax.train.program import Program
from dvaojax.train.session import MERIT, Progress, Session, Start, open_session, run_key
from dvaojax.train.sft import warm_up
from dvaojax.types import Scorer, TaskWithAnswerSets, TaskWithNotes

# Before the first step there is no reward to tell a good checkpoint by.
_NO_MERIT = {MERIT: -math.inf}


def train(config: Config, runs: Path = Path("runs"), *, start: Start = "create") -> dict[str, Any]:
    """Runs an experiment from its warm start, or from its last checkpoint, to its report.

    Args:
        config: what to run.
        runs: where the run's directory stands, as `runs/NAME`.
        start: "create" refuses an existing directory, "resume" continues it bit for bit,
            "overwrite" deletes it first.

    Returns:
        The content of `summary.json`.

    Raises:
        UserError: the configuration or the directory do not fit; nothing was written.
        TrainingError: the run cannot go on.
        Interrupted: it was asked to stop, and was saved.
        RewardError: a reward function failed, and `rewards.on_error` is "raise".
    """
    started = time.perf_counter()
    with (
        open_session(config, runs, start) as session,
        Interrupts() as interrupts,
        DeviceClock() as clock,
    ):
        for note in (_attention(session), *_task_notes(config)):
            session.display.print(note)
        collector = make_collector(config, session.program, session.suite)
        progress = session.restore() if start == "resume" else None
        earlier = 0.0 if progress is None else progress.seconds
        progress = _begin(session, collector, started) if progress is None else progress
        with Journal(session) as journal:
            learn = _learner(session, collector, clock, journal, interrupts)
            while progress.step < config.num_steps and interrupts.received is None:
                progress = learn(progress)
                seconds = earlier + time.perf_counter() - started
                progress = dataclasses.replace(progress, seconds=seconds)
                is_last = progress.step == config.num_steps
                if is_last or progress.step % config.checkpoints.every == 0:
                    session.save(progress, journal.flush())
            if interrupts.received is not None and progress.step < config.num_steps:
                session.save(progress, journal.flush() or _NO_MERIT)
                session.checkpoints.wait()
                raise _interrupted(session, progress, interrupts.received)
        return _finish(session, progress, earlier + time.perf_counter() - started)


def _task_notes(config: Config) -> Sequence[str]:
    """What the task has to tell, such as prompts it left out."""
    if not isinstance(config.task, TaskWithNotes):
        return ()
    return [note for split in ("train", "test") for note in config.task.notes(split)]


def _attention(session: Session) -> str:
    """How the update attends where completions are in full."""
    config = session.config
    prompt, longest = config.task.max_prompt_length, max(config.max_new_tokens - 1, 1)
    row = prompt + config.largest_group * longest
    plan = Plan(row=row, prompt=prompt, longest=longest, packed=False)
    platform = session.program.mesh.devices.flat[0].platform
    return choice.description(config.model, platform, plan)


def _interrupted(session: Session, progress: Progress, number: int) -> Interrupted:
    """What a person is told who stopped a run."""
    return Interrupted(
        number,
        f"stopped after step {progress.step} of {session.config.num_steps} by "
        f"{signal.Signals(number).name}; saved in {session.directory.path}: "
        "the same command with --resume continues it",
    )


def make_collector(config: Config, program: Program, suite: Scorer) -> Collector:
    """Samples and scores the groups of any step of a run."""
    batches = Batches(
        config.task,
        training_stream(config.task, seed=config.seed),
        program.by_group,
        prompts_per_step=config.prompts_per_step,
        # From the step that is scored to the one encoded ahead, and what it is refilled with.
        kept=config.pipeline_depth + 2 + config.allocation.refills,
        row_of=row_of(config),
    )
    return Collector(
        batches=batches,
        tokenizer=config.task.tokenizer,
        suite=suite,
        sampler=program.sample,
        allocation=make_allocation(config),
        refills=config.allocation.refills,
        key=run_key(config, 2),
    )


def _begin(session: Session, collector: Collector, started: float) -> Progress:
    """Parameters, warm start, the evaluation that later ones are compared with, and what the
    first steps learn from."""
    config, program = session.config, session.program
    params = warm_up(config, program, session.begin(), session.display)
    before = _found(config, session.evaluate(params))
    session.display.print("before  " + _in_words(before))
    reference = jax.tree.map(jax.numpy.copy, params) if config.loss.kl_weight > 0.0 else None
    state = program.begin(params, session.key(1))
    reading, in_flight = Reading(0, nothing_known(config)), []
    for _ in range(config.pipeline_depth):
        draw, reading = collector.draw(state.learner.params, reading)
        in_flight.append(draw)
    progress = Progress(
        state=state,
        reference=reference,
        reading=reading,
        in_flight=tuple(in_flight),
        step=0,
        before=before,
        seconds=time.perf_counter() - started,
    )
    session.save(progress, _NO_MERIT)
    return progress


def _learner(
    session: Session,
    collector: Collector,
    clock: DeviceClock,
    journal: Journal,
    interrupts: Interrupts,
) -> Callable[[Progress], Progress]:
    """One step of the run, from progress to progress."""
    config, program = session.config, session.program
    depth, last = config.pipeline_depth, config.num_steps
    sampling: dict[int, Future[Span]] = {}

    def ahead(progress: Progress, step: int) -> tuple[Draw, Reading]:
        """The completions of a later step, or, behind the last, anything of their shape."""
        if step > last:
            return progress.in_flight[-1], progress.reading
        draw, reading = collector.draw(progress.state.learner.params, progress.reading)
        sampling[step] = clock.time(draw.rollout)
        if step < last:  # unless this step is refilled, which reads on
            collector.batches.from_position(reading.position)
        return draw, reading

    def learn(progress: Progress) -> Progress:
        step = progress.step + 1
        # The train step is donated the parameters that this dispatch reads: devices keep order.
        draw, reading = ahead(progress, step + depth)
        draw, *in_flight = *progress.in_flight, draw
        collected, reading = collector.collect(progress.state.learner.params, draw, reading)
        interrupts.agree()
        state, metrics, advantages = program.step(
            progress.state, collected.experience, progress.reference
        )
        training = clock.time((metrics, advantages))
        journal.add(Step(step, collected, metrics, advantages, sampling.pop(step, None), training))
        return dataclasses.replace(
            progress, state=state, reading=reading, in_flight=tuple(in_flight), step=step
        )

    return learn


def _finish(session: Session, progress: Progress, seconds: float) -> dict[str, Any]:
    """The evaluation after the last step, the summary and the pictures."""
    config = session.config
    evaluating = time.perf_counter()
    evaluation = session.evaluate(progress.state.learner.params)
    after = _found(config, evaluation)
    summary = {
        "name": config.name,
        "aggregator": config.aggregator,
        "objectives": list(config.objectives),
        "weights": dict(config.weights),
        "seed": config.seed,
        "steps": progress.step,
        "problems": len(evaluation.problems),
        "samples": config.evaluation.samples,
        "before": progress.before,
        "after": after,
    }
    if hosts.is_first():
        summary["unscored"] = _unscored(session)
    pictures = []
    if hosts.is_first():  # the pictures read the summary, and the summary tells how long they took
        files.write_json(session.directory.summary, summary)
        pictures = plot_run(session.directory.path)
    summary["wall_seconds"] = seconds + time.perf_counter() - evaluating
    if hosts.is_first():
        files.write_json(session.directory.summary, summary)
    session.display.print("before  " + _in_words(progress.before))
    session.display.print("after   " + _in_words(after))
    missing = [f"{name} {n}" for name, n in summary.get("unscored", {}).items() if n]
    if missing:
        session.display.print("rewards that were not scored in training: " + ", ".join(missing))
    session.display.print(
        f"{summary['wall_seconds']:.0f} s; {session.directory.summary} and "
        f"{len(pictures)} pictures in {session.directory.plots}"
    )
    return summary


def _found(config: Config, evaluation: Evaluation) -> dict[str, dict[str, float] | None]:
    """What an evaluation says in the summary, of sets of answers too where there are any."""
    found = averages(evaluation)
    if isinstance(config.task, TaskWithAnswerSets):
        of_sets = set_report(evaluation, num_answers=config.task.num_answers)
        found |= {name: i and i._asdict() for name, i in of_sets.items()}
    return found


def _unscored(session: Session) -> dict[str, int]:
    """Objective -> rewards in the run's steps, earlier starts included, whose scoring failed."""
    rows = files.read_json_lines(session.directory.metrics)
    return {
        name: int(sum(row.get(f"unscored/{name}", 0) for row in rows))
        for name in session.config.objectives
    }


def _in_words(summary: Mapping[str, Any]) -> str:
    return "  ".join(
        f"{name} -" if i is None else f"{name} {i['mean']:.3f} [{i['low']:.3f}, {i['high']:.3f}]"
        for name, i in summary.items()
    )
