"""Supervised learning on demonstrations, before any reward is seen."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from dvaojax import models
from dvaojax.learning.gradients import Learner, Loss, Metrics, accumulate, gradient_of, update
from dvaojax.models import ModelConfig, Params
from dvaojax.numerics import masked_mean


@dataclasses.dataclass(frozen=True)
class WarmStartConfig:
    """How long a run learns from demonstrations before it learns from rewards.

    Attributes:
        num_steps: updates; 0 skips the warm start.
        batch_size: demonstrations per update.
        micro_batches: pieces of a batch whose gradients are added up; divides it.
        learning_rate: after a short linear warm-up; it falls to zero along a cosine.

    Raises:
        ValueError: a number is out of its range, or the pieces do not divide the batch.
    """

    num_steps: int = 0
    batch_size: int = 128
    micro_batches: int = 1
    learning_rate: float = 3e-3

    def __post_init__(self):
        if self.num_steps < 0 or self.batch_size < 1 or self.micro_batches < 1:
            raise ValueError(
                f"warm_start: num_steps={self.num_steps} must not be negative, "
                f"batch_size={self.batch_size} and micro_batches={self.micro_batches} be positive"
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


def make_demonstration_loss(model: ModelConfig) -> Loss:
    """Token-mean cross-entropy of the completions, in nats."""

    def loss(params: Params, batch: Demonstrations) -> tuple[Array, Metrics]:
        decoder = models.apply(model, params)
        tokens = batch.completion_tokens[:, None]
        hidden = decoder(batch.prompt_tokens, batch.prompt_lengths, tokens)
        logp, _ = models.token_logprobs(
            hidden, decoder.output_matrix(), tokens, chunk_size=model.logits_chunk
        )
        mean = masked_mean(-logp[:, 0], batch.completion_mask)
        return mean.total, {"loss": mean}

    return loss


def make_warm_start_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    micro_batches: int,
    constrain: Callable[[Any], Any] = lambda piece: piece,
) -> Callable[[Learner, Demonstrations], tuple[Learner, Metrics]]:
    """One update on a batch of demonstrations, to be jitted with the learner donated."""
    gradient = gradient_of(loss)

    def step(learner: Learner, batch: Demonstrations) -> tuple[Learner, Metrics]:
        rows = jnp.arange(batch.prompt_lengths.shape[0]).reshape(micro_batches, -1)
        total, metrics = accumulate(gradient, learner.params, batch, rows, constrain=constrain)
        return update(learner, total, metrics, optimizer)

    return step
