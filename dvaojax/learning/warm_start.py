"""Supervised learning on demonstrations before reinforcement learning."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from jax import Array

from dvaojax import models
from dvaojax.learning.gradients import (
    UNPREPARED,
    Learner,
    LossFunction,
    Preparation,
    StepMetrics,
    accumulate,
    gradient_of,
    update,
)
from dvaojax.learning.micro_batches import BY_DEVICE, own_rows
from dvaojax.models import ModelConfig, Params
from dvaojax.numerics import masked_mean


@dataclasses.dataclass(frozen=True)
class WarmStartConfig:
    """Settings of the supervised warm start.

    Attributes:
        num_steps: number of updates; 0 skips the warm start.
        batch_size: demonstrations per update.
        micro_batches: parts of a batch whose gradients are added; divides `batch_size`.
        learning_rate: peak learning rate, after a short linear warm-up; decays to 0 by a cosine.

    Raises:
        ValueError: a number is out of range, or `micro_batches` does not divide `batch_size`.
    """

    num_steps: int = 0
    batch_size: int = 128
    micro_batches: int = 1
    learning_rate: float = 3e-3

    def __post_init__(self):
        if self.num_steps < 0 or self.batch_size < 1 or self.micro_batches < 1:
            raise ValueError(
                f"warm_start.num_steps={self.num_steps} must not be negative, and batch_size="
                f"{self.batch_size} and micro_batches={self.micro_batches} must be positive"
            )
        if not 0.0 <= self.learning_rate < math.inf:
            raise ValueError(
                f"warm_start.learning_rate={self.learning_rate} must be finite and not negative"
            )
        if self.batch_size % self.micro_batches:
            raise ValueError(
                f"warm_start.micro_batches={self.micro_batches} must divide "
                f"warm_start.batch_size={self.batch_size}"
            )


class Demonstrations(NamedTuple):
    """Prompts with one completion each.

    Attributes:
        prompt_tokens: `[B, P]` int32, padding on the right.
        prompt_lengths: `[B]` int32.
        completion_tokens: `[B, T]` int32, the stop token included, padding on the right.
        completion_mask: `[B, T]` bool, true on the completion.
    """

    prompt_tokens: Array
    prompt_lengths: Array
    completion_tokens: Array
    completion_mask: Array


def make_demonstration_loss(model: ModelConfig) -> LossFunction:
    """Cross-entropy of the completions in nats, averaged over tokens."""

    def loss(params: Params, batch: Demonstrations) -> tuple[Array, StepMetrics]:
        decoder = models.apply(model, params)
        tokens = batch.completion_tokens[:, None]
        hidden = decoder(batch.prompt_tokens, batch.prompt_lengths, tokens)
        logp, _ = models.token_logprobs(
            hidden,
            decoder.output_matrix(),
            tokens,
            chunk_size=model.logits_chunk,
            backward=model.logits_backward,
        )
        mean = masked_mean(-logp[:, 0], batch.completion_mask)
        return mean.total, {"loss": mean}

    return loss


def make_warm_start_step(
    loss: LossFunction,
    optimizer: optax.GradientTransformation,
    *,
    micro_batches: int,
    constrain: Callable[[Any], Any] = lambda piece: piece,
    prepare: Preparation = UNPREPARED,
) -> Callable[[Learner, Demonstrations], tuple[Learner, StepMetrics]]:
    """One update on a batch of demonstrations, to be jitted with the learner donated."""
    gradient = gradient_of(loss)

    def step(learner: Learner, batch: Demonstrations) -> tuple[Learner, StepMetrics]:
        total, metrics = accumulate(
            gradient,
            learner.params,
            batch,
            own_rows(len(batch.prompt_lengths), micro_batches=micro_batches),
            access=BY_DEVICE,
            constrain=constrain,
            prepare=prepare,
        )
        return update(learner, total, metrics, optimizer)

    return step
