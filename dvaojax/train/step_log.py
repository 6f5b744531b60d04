"""Log of a run: metrics and samples of each step, written one step late.

A step's metrics exist once its last kernel has run. Fetching them right after the dispatch would
leave the devices idle. So the metrics of a step are fetched, written and checked after the next
step was dispatched, or earlier where they are needed: at a checkpoint, and at the end of the run.
"""

import math
import time
from collections.abc import Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np
from jax import Array

from dvaojax.config import Config
from dvaojax.evaluation.answer_sets import set_measures
from dvaojax.learning.gradients import StepMetrics
from dvaojax.run.metrics import SampleRecord, to_host
from dvaojax.train import hosts
from dvaojax.train.collect import Collected
from dvaojax.train.device_timer import Span
from dvaojax.train.failures import invariant_check, stop_if_not_finite
from dvaojax.train.mfu import peak_flops, step_flops
from dvaojax.train.session import BEST_METRIC, Session
from dvaojax.train.zero_variance import ZeroVarianceWatch
from dvaojax.types import TaskWithAnswerSets


class DispatchedStep(NamedTuple):
    """A step that was dispatched and is not yet logged.

    Attributes:
        number: of the step, from 1.
        collected: its experience.
        metrics: of the train step.
        advantages: `[B, G]`, split over the devices by group.
        sampling: when its completions were sampled; None if an earlier start sampled them.
        training: when the train step ran.
        evaluation: metrics of the evaluation after the step, with its `evaluation_seconds`; empty
            without one.
    """

    number: int
    collected: Collected
    metrics: StepMetrics
    advantages: Array
    sampling: Future[Span] | None
    training: Future[Span]
    evaluation: Mapping[str, float] = MappingProxyType({})


class StepLog:
    """Writes the rows and samples of a run, each when the next step has been dispatched.

    A context manager: on leaving, the last step is written too, unless writing it has failed or the
    program is being stopped immediately.
    """

    def __init__(self, session: Session):
        self._session = session
        self._check = invariant_check(session.config)
        self._watch = ZeroVarianceWatch(session.config)
        self._peak = peak_flops(list(session.program.mesh.devices.flat))
        self._pending: DispatchedStep | None = None
        self._row: dict[str, float] = {}
        self._since = time.perf_counter()

    def add(self, step: DispatchedStep) -> None:
        """Writes the previous step, and keeps this one.

        Raises:
            TrainingError: the run cannot continue after the previous step; this one is dropped.
        """
        self.flush()
        self._pending = step

    def add_evaluation(self, metrics: Mapping[str, float]) -> None:
        """Adds the metrics of an evaluation to the row of the pending step."""
        if self._pending is not None:
            self._pending = self._pending._replace(evaluation=metrics)

    def flush(self) -> dict[str, float]:
        """Writes the pending step, if any; returns the latest row, empty before the first step.

        Raises:
            TrainingError: the run cannot continue after the step just written.
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

    def _write(self, step: DispatchedStep) -> None:
        session, config = self._session, self._session.config
        advantages = hosts.rows(step.advantages, step.collected.groups[:1])
        row = to_host(step.metrics, objectives=config.objectives)
        row = _without_skipped_cosines(config, step.number, row)
        row |= step.collected.measures | self._durations(step)
        row |= answer_set_measures(config, step.collected)
        row[BEST_METRIC] = sum(config.weights[k] * row[f"reward/{k}"] for k in config.objectives)
        row |= step.evaluation
        if step.number == 1:  # a run that has rows also has a checkpoint
            session.checkpoints.wait()
        session.metrics.write(step.number, row)
        for sample in sample_records(config, step.collected, advantages):
            session.samples.write(step.number, sample._asdict())
        for message in step.collected.scores.messages:
            session.display.print(message)
        warning = self._watch.note(step.number, row["zero_variance_groups"])
        if warning is not None:
            session.display.print(warning)
        session.display.update(step.number, row)
        self._row = row
        stop_if_not_finite(
            f"step {step.number}",
            int(row["skipped_in_a_row"]),
            limit=config.max_skipped_in_a_row,
            rate="optimizer.learning_rate",
        )
        self._check(step.number, step.collected.experience, step.advantages)

    def _durations(self, step: DispatchedStep) -> dict[str, float]:
        """Wall times of the step, and tokens per second since the previous step ended."""
        training = step.training.result()
        seconds = training.end - self._since
        self._since = training.end + step.evaluation.get("evaluation_seconds", 0.0)
        row = {
            "rollout_seconds": 0.0 if step.sampling is None else step.sampling.result().seconds,
            "train_seconds": training.seconds,
            "tokens_per_second": step.collected.measures["sampled_tokens"] / seconds,
        }
        if self._peak is not None:
            work = step_flops(self._session.config, step.collected.lengths)
            row["mfu"] = work / (seconds * self._peak)
        return row


def _without_skipped_cosines(
    config: Config, step: int, row: Mapping[str, float]
) -> dict[str, float]:
    """The row; in a step without a reading of cosines it has no columns for them."""
    every = config.learning.gradient_cosines
    is_skipped = bool(every) and step % every != 0
    return {k: v for k, v in row.items() if not (is_skipped and k.startswith("gradient_cosine/"))}


def answer_set_measures(config: Config, collected: Collected) -> dict[str, float]:
    """Measures of completions that hold several answers; empty for other tasks."""
    if not isinstance(config.task, TaskWithAnswerSets):
        return {}
    rewards = np.where(collected.scores.mask, collected.scores.rewards, np.nan)
    return set_measures(rewards, config.objectives, num_answers=config.task.num_answers)


def sample_records(
    config: Config, collected: Collected, advantages: np.ndarray
) -> list[SampleRecord]:
    """The first few completions of the first group scored here, with rewards and advantages.

    Args:
        config: the run.
        collected: a step's experience.
        advantages: `[1, G]`, of that group; `[0, G]` if none was scored here.
    """
    if not len(advantages):
        return []
    b = collected.groups[0]
    rewards = np.where(collected.scores.mask, collected.scores.rewards, np.nan)

    def record(g: int, text: str) -> SampleRecord:
        values: list[Any] = [None if math.isnan(r) else float(r) for r in rewards[b, g]]
        return SampleRecord(
            prompt=collected.prompts[0].text,
            completion=text,
            rewards=dict(zip(config.objectives, values, strict=True)),
            advantage=float(advantages[0, g]),
        )

    kept = collected.completions[0][: config.samples_per_step]
    return [record(g, completion.text) for g, completion in enumerate(kept)]
