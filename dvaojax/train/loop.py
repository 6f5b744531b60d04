"""The loop: sample, score, learn, write down; start anew, resume, stop when asked."""

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
from jax import Array

from dvaojax import aggregators, files
from dvaojax.config import Config
from dvaojax.data.stream import PromptStream
from dvaojax.evaluation.plots import plot_run
from dvaojax.metrics import Sample, to_host
from dvaojax.train.collect import Collected, Collector
from dvaojax.train.interrupts import Interrupted, Interrupts
from dvaojax.train.session import MERIT, Progress, Session, Start, open_session
from dvaojax.train.warm_up import warm_up

Row = dict[str, float]


class TrainingError(RuntimeError):
    """The run cannot go on: the numbers are not finite, or an invariant was violated."""


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
    """
    started = time.perf_counter()
    with open_session(config, runs, start) as session, Interrupts() as interrupts:
        progress = session.restore() if start == "resume" else None
        earlier = 0.0 if progress is None else progress.seconds
        progress = _begin(session, started) if progress is None else progress
        learn = _learner(session)
        while progress.step < config.num_steps:
            seconds = earlier + time.perf_counter() - started
            progress, row = learn(dataclasses.replace(progress, seconds=seconds))
            is_last = progress.step == config.num_steps
            is_due = progress.step % config.checkpoints.every == 0
            if is_due or is_last or interrupts.received is not None:
                session.save(progress, row)
            if interrupts.received is not None and not is_last:
                session.checkpoints.wait()
                raise Interrupted(
                    interrupts.received,
                    f"stopped after step {progress.step} of {config.num_steps} by "
                    f"{signal.Signals(interrupts.received).name}; saved in "
                    f"{session.directory.path}: the same command with --resume continues it",
                )
        return _finish(session, progress, earlier + time.perf_counter() - started)


def _begin(session: Session, started: float) -> Progress:
    """Parameters, warm start, and the evaluation that later ones are compared with."""
    config, program = session.config, session.program
    params = warm_up(config, program, program.init(session.key(0)), session.display)
    before = session.evaluate(params).summary()
    session.display.print("before  " + _in_words(before))
    reference = jax.tree.map(jax.numpy.copy, params) if config.loss.kl_weight > 0.0 else None
    state = program.begin(params, session.key(1))
    progress = Progress(state, reference, 0, before, time.perf_counter() - started)
    session.save(progress, {MERIT: -math.inf})
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
        check(step, collected, advantages)
        row |= {
            MERIT: sum(config.weights[k] * row[f"reward/{k}"] for k in config.objectives),
            **collected.measures,
            "train_seconds": ended - sampled,
            "tokens_per_second": collected.measures["sampled_tokens"] / (ended - started),
        }
        _write_down(session, step, row, collected, np.asarray(advantages))
        _stop_if_not_finite(config, step, int(state.learner.skipped_in_a_row))
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


def _invariant_check(config: Config) -> Callable[[int, Collected, Array], None]:
    """Holds a step's advantages against the propositions of their method, if that is asked for."""
    if not config.check_invariants:
        return lambda step, collected, advantages: None
    weights = aggregators.named_weights(config.weights, config.objectives)
    checked = chex.chexify(
        jax.jit(partial(aggregators.invariants.check, config.aggregator)), async_check=False
    )

    def check(step: int, collected: Collected, advantages: Array) -> None:
        rewards, mask = collected.experience.rewards, collected.experience.reward_mask
        try:
            checked(rewards, weights, advantages, mask=mask)
        except Exception as error:
            raise TrainingError(f"step {step}: {error}") from error

    return check


def _stop_if_not_finite(config: Config, step: int, skipped_in_a_row: int) -> None:
    if skipped_in_a_row > config.max_skipped_in_a_row:
        raise TrainingError(
            f"step {step}: loss or gradient was not finite in {skipped_in_a_row} updates in a "
            f"row, more than max_skipped_in_a_row={config.max_skipped_in_a_row}; the last "
            "checkpoint is from before: try a smaller optimizer.learning_rate"
        )


def _finish(session: Session, progress: Progress, seconds: float) -> dict[str, Any]:
    """The evaluation after the last step, the summary and the pictures."""
    config = session.config
    evaluating = time.perf_counter()
    after = session.evaluate(progress.state.learner.params).summary()
    summary = {
        "name": config.name,
        "aggregator": config.aggregator,
        "objectives": list(config.objectives),
        "weights": dict(config.weights),
        "seed": config.seed,
        "steps": progress.step,
        "problems": config.evaluation.num_prompts,
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
