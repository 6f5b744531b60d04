"""Metrics of a run: fetched once per step, and written to every sink.

One row per step, a flat mapping from name to number:

| name                           | meaning, unit                                               |
|--------------------------------|-------------------------------------------------------------|
| `reward/<objective>`           | mean reward, as returned by the reward function             |
| `reward_noise/<objective>`     | with `rewards.repeats`: mean variance of a reward that is   |
|                                | due to noise, in squared reward units                       |
| `spread/<objective>`           | mean standard deviation within a group, in reward units     |
| `effective_weight/<objective>` | effective weight in the aggregator, mean over groups        |
| `agreement`                    | sigma_sum / sum_k w_k sigma_k, mean over groups, in [0, 1]  |
| `zero_variance_groups`         | share of groups whose completions all have equal rewards    |
| `advantage_mean_square`        | mean of the squared advantage                               |
| `shadow/<name>/cosine`         | between the advantages of a shadow and those in use         |
| `shadow/<name>/sign_agreement` | share of completions with advantages of equal sign          |
| `shadow/<name>/mean_square`    | mean of the shadow's squared advantage                      |
| `shadow/<name>/effective_weight/<objective>` | of its best linear fit, mean over groups      |
| `gradient_cosine/<a>/<b>`      | between the gradients of two objectives; only in the rows   |
|                                | of `learning.gradient_cosines`, null where a gradient is 0  |
| `selection/candidates/alignment` | mean cosine of the candidates' gradients with that of the |
|                                | trusted problems; this and the following only in the rows   |
|                                | of steps whose problems were newly chosen                   |
| `selection/candidates/own_alignment` | with the sum of the candidates' own gradients         |
| `selection/candidates/gradient_norm` | mean norm of the gradients                            |
| `selection/candidates/success` | mean rate of success, see `allocation.success`              |
| `selection/chosen/...`         | the same over the chosen candidates                         |
| `selection_seconds`            | wall time of the choice, in no other metric but             |
|                                | `tokens_per_second` and `mfu`                               |
| `best/<objective>`             | best answer of a completion that contains several answers   |
| `answers`, `diversity`         | number of answers; mean distance between two reward vectors |
| `entropy`                      | of the next-token distribution, nats per token              |
| `loss`                         | policy loss with its penalty, normalised by its reduction   |
| `ratio`                        | mean probability ratio to the policy in the denominator:    |
|                                | the sampler's, or that of the step's first update           |
| `approximate_kl`               | k3 estimate with respect to that policy, nats per token     |
| `kl`                           | to the reference policy, nats per token                     |
| `clip_fraction`                | share of tokens on which the bound of the loss is active    |
| `capo/rejected`                | share of tokens that `loss.capo` leaves out; by one bound:  |
|                                | `capo/rejected_by_policy_shift`, `..._by_objective_shift`   |
| `capo/policy_shift/p50`, `p90`, `p99` | quantiles over the step's tokens, to 6 %; and of the |
|                                | absolute value of `capo/objective_shift`                    |
| `importance_weight`            | mean weight between sampler and trainer, see `losses`       |
| `importance_truncated`         | share of tokens with a truncated weight                     |
| `pairs/margin`, `pairs/accuracy` | of `loss.name=dpo`: mean margin; share that is positive   |
| `pairs/share`                  | share of groups with a pair                                 |
| `grad_norm`                    | global norm before clipping                                 |
| `gradient_signal`, `gradient_noise` | of the squared norm of the gradient before clipping    |
| `signal_share`                 | running share of signal: the factor of the learning rate    |
|                                | unless `optimizer.snr_floor` is larger                      |
| `skipped_updates`              | share of updates skipped: loss or gradient not finite       |
| `skipped_in_a_row`             | number of successive skipped updates, up to the latest      |
| `unscored/<objective>`         | number of rewards that failed and were masked               |
| `judge/questions`, `judge/failed` | items to grade, and those without a grade; this and the  |
|                                | following are for the groups scored by the first process    |
| `judge/calls`, `judge/cached`  | requests sent, and questions answered from the cache        |
| `judge/tokens_in`, `judge/tokens_out` | as counted by the judge's server                     |
| `judge/seconds_per_call`       | mean time from a request to its reply                       |
| `programs/tried`, `programs/untested` | programs of completions, and those without a result  |
| `programs/seconds`             | wall time of testing them                                   |
| `weighted_reward`              | weighted sum of mean rewards; selects the best checkpoint   |
|                                | where there are no evaluations during training              |
| `evaluation/<objective>`       | mean reward on held-out problems after the step; this and   |
|                                | the following only in the rows of `evaluation.every`        |
| `evaluation/length`            | mean tokens per completion of a held-out problem            |
| `evaluation/weighted_reward`   | weighted sum of the former; selects the best checkpoint     |
| `evaluation_seconds`           | wall time of the evaluation, in no other metric             |
| `sampled_tokens`               | tokens of all completions, including stop tokens and        |
|                                | zero-variance groups that were replaced                     |
| `refills`, `refilled_groups`   | rounds of replacing zero-variance groups; groups replaced   |
| `completion_length`            | mean tokens per completion, including the stop token        |
| `truncated`                    | share of completions cut off by the token limit; with       |
|                                | `loss.mask_truncated`, `reward/<objective>` and             |
|                                | `completion_length` are over all completions, and all other |
|                                | metrics of rewards and tokens over those that ended         |
| `rollout_seconds`, `train_seconds` | device time of sampling and of the update               |
| `reward_seconds`               | host time for scoring; at depth 1 the devices work as well  |
| `tokens_per_second`            | sampled tokens over the time since the previous step ended  |
| `mfu`                          | model FLOPs over that time and the peak of the devices for  |
|                                | bfloat16 matrix products, where it is known                 |
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import jax
import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from dvaojax.errors import printable
from dvaojax.numerics import Mean

# Protocol buffers create their classes at import, which type checkers do not see.
Event: Any = vars(event_pb2)["Event"]
SessionLog: Any = vars(event_pb2)["SessionLog"]
Summary: Any = vars(summary_pb2)["Summary"]


class Sink(Protocol):
    """Destination of rows, such as `files.JsonLines`, `TensorBoard` and `WandB`."""

    def write(self, step: int, values: Mapping[str, float], /) -> None:
        """Writes one row."""
        ...

    def truncate_after(self, step: int, /) -> None:
        """Drops the rows of later steps, which a resumed run writes again."""
        ...

    def close(self) -> None:
        """Flushes and closes; nothing can be written afterwards."""
        ...


class SampleRecord(NamedTuple):
    """A completion in `samples.jsonl`, written by `JsonLines.write(step, sample._asdict())`.

    Attributes:
        prompt: text of the prompt.
        completion: text of the completion.
        rewards: objective -> reward; None where the objective did not apply.
        advantage: of the completion.
    """

    prompt: str
    completion: str
    rewards: Mapping[str, float | None]
    advantage: float


class MetricsWriter:
    """Writes rows to several sinks; itself a sink, and a context manager that closes them."""

    def __init__(self, sinks: Sequence[Sink]):
        self._sinks = tuple(sinks)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes a row to every sink."""
        for sink in self._sinks:
            sink.write(step, values)

    def truncate_after(self, step: int) -> None:
        """Drops the rows of later steps in every sink."""
        for sink in self._sinks:
            sink.truncate_after(step)

    def close(self) -> None:
        """Closes every sink."""
        for sink in self._sinks:
            sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class TensorBoard:
    """Scalars for TensorBoard, in a new file per start; a kill loses nothing written.

    Rows cannot be deleted, but hidden: `truncate_after` writes a start event, and TensorBoard then
    ignores earlier rows of later steps. Infinite and undefined values are left out.
    """

    def __init__(self, directory: Path):
        """Starts a new event file in the directory, which is created if it does not exist."""
        directory.mkdir(parents=True, exist_ok=True)
        count = len(list(directory.iterdir()))  # TensorBoard reads files in order of name
        path = directory / f"events.out.tfevents.{int(time.time()):010d}.{count:04d}"
        self._records = RecordWriter(path.open("xb"))
        self._add(file_version="brain.Event:2")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the finite values of a row, one scalar each; tags have no control characters."""
        scalars = [
            Summary.Value(tag=printable(name), simple_value=value)
            for name, value in values.items()
            if np.isfinite(value)
        ]
        self._add(step=step, summary=Summary(value=scalars))

    def truncate_after(self, step: int) -> None:
        """Writes a start event: readers ignore preceding rows of later steps."""
        self._add(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def close(self) -> None:
        """Flushes and closes the file."""
        self._records.close()

    def _add(self, **fields: Any) -> None:
        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
        self._records.flush()


def to_host(
    metrics: Mapping[str, Mean | jax.Array | float], *, objectives: Sequence[str] = ()
) -> dict[str, float]:
    """A step's metrics as Python floats. Sums are divided by their counts only here.

    Args:
        metrics: name -> a (sum, count) pair, an array or a number; scalars, or `[K]` with one
            entry per objective. Values on several hosts must be replicated.
        objectives: `K` names; a `[K]` value called `reward` becomes `reward/<objective>`.

    Returns:
        Name -> number, in the given order. A mean with a count of 0 is NaN (null in
        `metrics.jsonl`), because 0 would look like a measured value.

    Raises:
        ValueError: a value is neither a scalar nor one number per objective.
    """
    row: dict[str, float] = {}
    for name, value in jax.device_get(dict(metrics)).items():
        numbers = _divide(value) if isinstance(value, Mean) else np.asarray(value, np.float64)
        if numbers.ndim == 0:
            row[name] = float(numbers)
        elif numbers.shape == (len(objectives),):
            row |= {f"{name}/{o}": float(x) for o, x in zip(objectives, numbers, strict=True)}
        else:
            raise ValueError(
                f"metric {name!r} has shape {numbers.shape}; expected a scalar or "
                f"({len(objectives)},), one number per objective"
            )
    return row


def _divide(mean: Mean) -> np.ndarray:
    """Total over count in float64; NaN where the count is 0."""
    total, count = np.asarray(mean.total, np.float64), np.asarray(mean.count, np.float64)
    quotient = np.full(np.broadcast_shapes(total.shape, count.shape), np.nan)
    return np.divide(total, count, out=quotient, where=count != 0)
