"""What a run measures, brought to the host once a step and written to every place that keeps it.

One row a step, a flat mapping from name to number:

| name                           | meaning, unit                                               |
|--------------------------------|-------------------------------------------------------------|
| `reward/<objective>`           | mean reward, as the reward function returns it              |
| `spread/<objective>`           | mean standard deviation within a group, in reward units     |
| `effective_weight/<objective>` | weight the aggregator gave in effect, mean over groups      |
| `agreement`                    | sigma_sum / sum_k w_k sigma_k, mean over groups, in [0, 1]  |
| `silent_groups`                | share of groups whose completions all scored the same       |
| `advantage_mean_square`        | mean of the squared advantage                               |
| `shadow/<name>/cosine`         | between a shadow's advantages and those in use              |
| `shadow/<name>/sign_agreement` | share of completions that both push the same way            |
| `shadow/<name>/mean_square`    | mean of the shadow's squared advantage                      |
| `shadow/<name>/effective_weight/<objective>` | of its best linear fit, mean over groups      |
| `best/<objective>`             | of the answers of a completion, where it holds several      |
| `answers`, `diversity`         | how many; mean distance between the rewards of two of them  |
| `entropy`                      | of the next-token distribution, nats a token                |
| `loss`                         | policy loss with its penalty, per count of its reduction    |
| `ratio`                        | mean probability ratio to the policy that the loss is       |
|                                | anchored to: the sampler's, or the step's first             |
| `approximate_kl`               | from that policy, by k3, nats a token                       |
| `kl`                           | to the reference policy, nats a token                       |
| `clip_fraction`                | share of tokens on which the loss's bound acted             |
| `importance_weight`            | mean weight between sampler and trainer, see `losses`       |
| `importance_truncated`         | share of tokens whose weight was truncated                  |
| `grad_norm`                    | global norm before clipping                                 |
| `skipped_updates`              | share of updates skipped, loss or gradient not finite       |
| `skipped_in_a_row`             | updates skipped last, none that counted after them          |
| `unscored/<objective>`         | rewards that failed and were masked, of all completions     |
| `judge/questions`, `judge/failed` | items to be graded, and those without a grade; this and  |
|                                | what follows of the groups that the first process scored    |
| `judge/calls`, `judge/cached`  | requests sent, and questions that needed none               |
| `judge/tokens_in`, `judge/tokens_out` | as the judge's server counts them                    |
| `judge/seconds_per_call`       | mean time from a request to its reply                       |
| `weighted_reward`              | mean rewards times their weights, added; marks the best     |
| `sampled_tokens`               | tokens of all completions, stop tokens and silent groups    |
|                                | that gave way to others included                            |
| `refills`, `refilled_groups`   | times that silent groups gave way, and how many in all      |
| `completion_length`            | mean tokens of a completion, the stop token included        |
| `truncated`                    | share of completions cut off by the token limit             |
| `rollout_seconds`, `train_seconds` | the devices' time for the two halves of the step        |
| `reward_seconds`               | the host's time for scoring; at depth 1 devices work then   |
| `tokens_per_second`            | sampled tokens over the time since the step before ended    |
| `mfu`                          | model FLOPs over that time and the devices' peak for        |
|                                | bfloat16 products, where it is known                        |
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import jax
import numpy as np
from tensorboardX import RecordWriter
from tensorboardX.proto import event_pb2, summary_pb2

from dvaojax.numerics import Mean

# Protocol buffers make their classes at import, out of a type checker's sight.
Event: Any = vars(event_pb2)["Event"]
SessionLog: Any = vars(event_pb2)["SessionLog"]
Summary: Any = vars(summary_pb2)["Summary"]


class Sink(Protocol):
    """A place that keeps rows; `files.JsonLines`, `TensorBoard` and `wandb_logger.WandB` are."""

    def write(self, step: int, values: Mapping[str, float], /) -> None:
        """Keeps one step's row."""
        ...

    def truncate_after(self, step: int, /) -> None:
        """Forgets the rows of later steps, which a resumed run writes again."""
        ...

    def close(self) -> None:
        """Writes what is left; nothing comes after it."""
        ...


class Sample(NamedTuple):
    """One completion, as `samples.jsonl` keeps it: `JsonLines.write(step, sample._asdict())`.

    Attributes:
        prompt: what the model was given.
        completion: what it answered.
        rewards: objective -> reward; None where the objective did not apply.
        advantage: what the completion's tokens were weighted with.
    """

    prompt: str
    completion: str
    rewards: Mapping[str, float | None]
    advantage: float


class Metrics:
    """A row to every sink. It is a sink itself, and a context manager that closes them."""

    def __init__(self, sinks: Sequence[Sink]):
        self._sinks = tuple(sinks)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Hands a row to every sink."""
        for sink in self._sinks:
            sink.write(step, values)

    def truncate_after(self, step: int) -> None:
        """Every sink forgets the rows of later steps."""
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
    """Scalars for TensorBoard, in one file per opening; a kill loses nothing written.

    TensorBoard cannot be made to forget rows, but it hides them: `truncate_after` writes the mark
    that it takes for a restart. Infinite and undefined values are left out.
    """

    def __init__(self, directory: Path):
        """Starts a new event file in the directory, which is created where it does not exist."""
        directory.mkdir(parents=True, exist_ok=True)
        count = len(list(directory.iterdir()))  # TensorBoard reads the files in order of name
        path = directory / f"events.out.tfevents.{int(time.time()):010d}.{count:04d}"
        self._records = RecordWriter(str(path))
        self._add(file_version="brain.Event:2")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Keeps what is finite of a row, a scalar each."""
        scalars = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in values.items()
            if np.isfinite(value)
        ]
        self._add(step=step, summary=Summary(value=scalars))

    def truncate_after(self, step: int) -> None:
        """Marks a new start: readers leave out the rows of later steps that stand before it."""
        self._add(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def close(self) -> None:
        """Writes what is left."""
        self._records.close()

    def _add(self, **fields: Any) -> None:
        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
        self._records.flush()


def to_host(
    metrics: Mapping[str, Mean | jax.Array | float], *, objectives: Sequence[str] = ()
) -> dict[str, float]:
    """One step's metrics as plain numbers; the only place where sums are divided by their counts.

    Args:
        metrics: name -> a mean in two halves, an array or a number; scalars, or `[K]` with one
            entry per objective. Values that live on several hosts must be replicated.
        objectives: `K` names; a `[K]` value called `reward` becomes `reward/<objective>`.

    Returns:
        Name -> number, in the order given. Where nothing was counted the mean is NaN (null in
        `metrics.jsonl`): a zero would claim that something had been measured.

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
