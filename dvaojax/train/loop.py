"""The loop: sample, score, learn, write down; start anew, resume, stop when asked."""

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.experimental import checkify

from dvaojax import aggregators, files
from dvaojax.aggregators import invariants
from dvaojax.config import Config, aggregator_knobs
from dvaojax.data.stream import PromptStream
from dvaojax.evaluation.plots import plot_run
from dvaojax.metrics import Sample, to_host
from dvaojax.train.collect import Collected, Collector
from dvaojax.train.failures import TrainingError, stop_if_not_finite
from dvaojax.train.interrupts import Interrupted, Interrupts
from dvaojax.train.session import MERIT, Progress, Session, Start, open_session
from dvaojax.train.warm_up import warm_up
from dvaojax.types import Experience

Row = dict[str, float]

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
    with open_session(config, runs, start) as session, Interrupts() as interrupts:
        progress = session.restore() if start == "resume" else None
        earlier = 0.0 if progress is None else progress.seconds
        progress = _begin(session, started) if progress is None else progress
        learn, row = _learner(session), _NO_MERIT
        while progress.step < config.num_steps and interrupts.received is None:
            progress, row = learn(progress)
            seconds = earlier + time.perf_counter() - started
            progress = dataclasses.replace(progress, seconds=seconds)
            is_last = progress.step == config.num_steps
            if is_last or progress.step % config.checkpoints.every == 0:
                session.save(progress, row)
        if interrupts.received is not None and progress.step < config.num_steps:
            session.save(progress, row)
            session.checkpoints.wait()
            raise _interrupted(session, progress, interrupts.received)
        return _finish(session, progress, earlier + time.perf_counter() - started)


def _interrupted(session: Session, progress: Progress, number: int) -> Interrupted:
    """What a person is told who stopped a run."""
    return Interrupted(
        number,
        f"stopped after step {progress.step} of {session.config.num_steps} by "
        f"{signal.Signals(number).name}; saved in {session.directory.path}: "
        "the same command with --resume continues it",
    )


def _begin(session: Session, started: float) -> Progress:
    """Parameters, warm start, and the evaluation that later ones are compared with."""
    config, program = session.config, session.program
    params = warm_up(config, program, program.init(session.key(0)), session.display)
    before = session.evaluate(params).summary()
    session.display.print("before  " + _in_words(before))
    reference = jax.tree.map(jax.numpy.copy, params) if config.loss.kl_weight > 0.0 else None
    state = program.begin(params, session.key(1))
    progress = Progress(state, reference, 0, before, time.perf_counter() - started)
    session.save(progress, _NO_MERIT)
    return progress


def _learner(session: Session) -> Callable[[Progress], tuple[Progress, Row]]:
    """One step of the run, from progress to progress."""
    config, program = session.config, session.program
    collector = Collector(
        task=config.task,
        stream=PromptStream(config.task.prompts("train"), seed=config.seed),
        suite=session.suite,
        sample=program.sample,
        key=session.key(2),
        prompts_per_step=config.prompts_per_step,
        max_new_tokens=config.max_new_tokens,
        sharding=program.by_group,
    )
    check = _invariant_check(config)

    def learn(progress: Progress) -> tuple[Progress, Row]:
        started = time.perf_counter()
        position = progress.step * config.prompts_per_step
        collected = collector.collect(progress.state.learner.params, position)
        sampled = time.perf_counter()
        state, metrics, advantages = program.step(
            progress.state, collected.experience, progress.reference
        )
        row = to_host(metrics, objectives=config.objectives)
        ended = time.perf_counter()
        step = progress.step + 1
        row |= {
            MERIT: sum(config.weights[k] * row[f"reward/{k}"] for k in config.objectives),
            **collected.measures,
            "train_seconds": ended - sampled,
            "tokens_per_second": collected.measures["sampled_tokens"] / (ended - started),
        }
        _write_down(session, step, row, collected, np.asarray(advantages))
        stop_if_not_finite(
            f"step {step}",
            int(state.learner.skipped_in_a_row),
            limit=config.max_skipped_in_a_row,
            rate="optimizer.learning_rate",
        )
        check(step, collected.experience, advantages)
        return dataclasses.replace(progress, state=state, step=step), row

    return learn


def _write_down(
    session: Session, step: int, row: Row, collected: Collected, advantages: np.ndarray
) -> None:
    """The step's row, a few of its completions, and the table a person watches."""
    objectives = session.config.objectives
    session.metrics.write(step, row)
    rewards = np.where(collected.scores.mask, collected.scores.rewards, np.nan)
    for g, completion in enumerate(collected.completions[0][: session.config.samples_per_step]):
        values = [None if math.isnan(r) else float(r) for r in rewards[0, g]]
        sample = Sample(
            prompt=collected.prompts[0].text,
            completion=completion.text,
            rewards=dict(zip(objectives, values, strict=True)),
            advantage=float(advantages[0, g]),
        )
        session.samples.write(step, sample._asdict())
    for message in collected.scores.messages:
        session.display.print(message)
    session.display.update(step, row)


def _invariant_check(config: Config) -> Callable[[int, Experience, Array], None]:
    """Holds a step's advantages against the propositions of their method, if that is asked for."""
    if not config.check_invariants:
        return lambda step, experience, advantages: None
    weights = aggregators.named_weights(config.weights, config.objectives)
    examine = partial(invariants.check, config.aggregator, **aggregator_knobs(config))
    # What `chex.chexify` does, compiled once and without its warning at the end of every process.
    checked = jax.jit(checkify.checkify(examine))
    with_lengths = aggregators.needs_lengths(aggregators.BY_NAME[config.aggregator])

    def check(step: int, experience: Experience, advantages: Array) -> None:
        rewards, mask = experience.rewards, experience.reward_mask
        lengths = experience.completion_mask.sum(axis=-1) if with_lengths else None
        try:
            violation, _ = checked(rewards, weights, advantages, mask=mask, lengths=lengths)
            violation.throw()
        except ValueError as error:
            raise TrainingError(f"step {step}, {config.aggregator}: {error}") from error

    return check


def _finish(session: Session, progress: Progress, seconds: float) -> dict[str, Any]:
    """The evaluation after the last step, the summary and the pictures."""
    config = session.config
    evaluating = time.perf_counter()
    evaluation = session.evaluate(progress.state.learner.params)
    after = evaluation.summary()
    summary = {
        "name": config.name,
        "aggregator": config.aggregator,
        "objectives": list(config.objectives),
        "weights": dict(config.weights),
        "seed": config.seed,
        "steps": progress.step,
        "problems": len(evaluation.prompts),
        "samples": config.evaluation.samples,
        "before": progress.before,
        "after": after,
    }
    # The pictures read the summary, and the summary tells how long they took.
    files.write_json(session.directory.summary, summary)
    pictures = plot_run(session.directory.path)
    summary["wall_seconds"] = seconds + time.perf_counter() - evaluating
    files.write_json(session.directory.summary, summary)
    session.display.print("before  " + _in_words(progress.before))
    session.display.print("after   " + _in_words(after))
    session.display.print(
        f"{summary['wall_seconds']:.0f} s; {session.directory.summary} and "
        f"{len(pictures)} pictures in {session.directory.plots}"
    )
    return summary


def _in_words(summary: Mapping[str, Any]) -> str:
    return "  ".join(
        f"{name} -" if i is None else f"{name} {i['mean']:.3f} [{i['low']:.3f}, {i['high']:.3f}]"
        for name, i in summary.items()
    )
