"""What is written of every step, one step late.

A step's metrics exist when its last kernel has run. Whoever fetched them at once would leave the
devices without work meanwhile; so the row of a step is fetched, written and examined after the
next one was dispatched, and whenever somebody has to know it before: at a checkpoint, and in the
end.
"""

import math
import time
from concurrent.futures import Future
from typing import Any, NamedTuple, Self

import numpy as np
from jax import Array

from dvaojax.config import Config
from dvaojax.evaluation.answer_sets import set_measures
from dvaojax.learning.gradients import Metrics
from dvaojax.run.metrics import Sample, to_host
from dvaojax.train.collect import Collected
from dvaojax.train.device_timer import Span
from dvaojax.train.failures import invariant_check, stop_if_not_finite
from dvaojax.train.mfu import peak_flops, step_flops
from dvaojax.train.session import MERIT, Session
from dvaojax.types import TaskWithAnswerSets

Row = dict[str, float]


class Step(NamedTuple):
    """A step that was dispatched and not yet written down.

    Attributes:
        number: of the step, from 1.
        collected: what it learnt from.
        metrics: what it measured.
        advantages: `[B, G]`.
        sampling: when its completions were sampled; None if an earlier start did.
        training: when it was run.
    """

    number: int
    collected: Collected
    metrics: Metrics
    advantages: Array
    sampling: Future[Span] | None
    training: Future[Span]


class Journal:
    """The rows and samples of a run, each written when the next step is under way.

    A context manager: on leaving, the last step is written too, unless it was the writing that
    failed or the program is to end at once.
    """

    def __init__(self, session: Session):
        self._session = session
        self._check = invariant_check(session.config)
        self._peak = peak_flops(list(session.program.mesh.devices.flat))
        self._pending: Step | None = None
        self._row: Row = {}
        self._since = time.perf_counter()

    def add(self, step: Step) -> None:
        """Writes the step before, and keeps this one.

        Raises:
            TrainingError: the run cannot go on from the step before; this one is forgotten.
        """
        self.flush()
        self._pending = step

    def flush(self) -> Row:
        """Writes whatever is not yet written; returns the latest row, empty before the first.

        Raises:
            TrainingError: the run cannot go on from the step just written.
        """
        step, self._pending = self._pending, None
        if step is not None:
            self._write(step)
        return self._row

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is None or issubclass(kind, Exception):
            self.flush()

    def _write(self, step: Step) -> None:
        session, config = self._session, self._session.config
        advantages = np.asarray(step.advantages)
        row = to_host(step.metrics, objectives=config.objectives)
        row |= step.collected.measures | self._durations(step)
        row |= of_sets(config, step.collected)
        row[MERIT] = sum(config.weights[k] * row[f"reward/{k}"] for k in config.objectives)
        session.metrics.write(step.number, row)
        for sample in samples(config, step.collected, advantages):
            session.samples.write(step.number, sample._asdict())
        for message in step.collected.scores.messages:
            session.display.print(message)
        session.display.update(step.number, row)
        self._row = row
        stop_if_not_finite(
            f"step {step.number}",
            int(row["skipped_in_a_row"]),
            limit=config.max_skipped_in_a_row,
            rate="optimizer.learning_rate",
        )
        self._check(step.number, step.collected.experience, step.advantages)

    def _durations(self, step: Step) -> Row:
        """Wall times of the step, and its speed since the step before it ended."""
        training = step.training.result()
        seconds, self._since = training.end - self._since, training.end
        row = {
            "rollout_seconds": 0.0 if step.sampling is None else step.sampling.result().seconds,
            "train_seconds": training.seconds,
            "tokens_per_second": step.collected.measures["sampled_tokens"] / seconds,
        }
        if self._peak is not None:
            work = step_flops(self._session.config, step.collected.lengths)
            row["mfu"] = work / (seconds * self._peak)
        return row


def of_sets(config: Config, collected: Collected) -> Row:
    """What completions that hold several answers came to; nothing for other tasks."""
    if not isinstance(config.task, TaskWithAnswerSets):
        return {}
    rewards = np.where(collected.scores.mask, collected.scores.rewards, np.nan)
    return set_measures(rewards, config.objectives, num_answers=config.task.num_answers)


def samples(config: Config, collected: Collected, advantages: np.ndarray) -> list[Sample]:
    """The first few completions of the first group scored here, with all they were given.

    `advantages` is `[B, G]`.
    """
    b = collected.groups[0]
    rewards = np.where(collected.scores.mask, collected.scores.rewards, np.nan)

    def sample(g: int, text: str) -> Sample:
        values: list[Any] = [None if math.isnan(r) else float(r) for r in rewards[b, g]]
        return Sample(
            prompt=collected.prompts[0].text,
            completion=text,
            rewards=dict(zip(config.objectives, values, strict=True)),
            advantage=float(advantages[b, g]),
        )

    kept = collected.completions[0][: config.samples_per_step]
    return [sample(g, completion.text) for g, completion in enumerate(kept)]
