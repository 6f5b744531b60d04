"""The loss of a policy on a piece of experience: clipped surrogate, and a penalty if asked."""

import dataclasses
import math
from functools import partial
from typing import NamedTuple

import jax
from jax import Array

from dvaojax import losses
from dvaojax.learning.gradients import Loss, Metrics
from dvaojax.learning.policy_logprobs import policy_logprobs
from dvaojax.models import ModelConfig, Params
from dvaojax.numerics import Mean, masked_mean
from dvaojax.types import Experience


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The policy's loss.

    Attributes:
        clip_low: how far below 1 the policy ratio may pull, in [0, 1).
        clip_high: how far above 1; DAPO's "clip-higher" sets it above `clip_low`.
        dual_clip: bound on the ratio where the advantage is negative, above 1; 0 turns it off.
        reduction: "token_mean", "sequence_mean" or "constant_length".
        kl_weight: weight of the penalty towards the reference policy; 0 needs no reference.
        kl_estimator: "k1", "k2" or "k3".
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float = 0.0
    reduction: str = "token_mean"
    kl_weight: float = 0.0
    kl_estimator: str = "k3"

    def __post_init__(self):
        if not 0.0 <= self.clip_low < 1.0 or not self.clip_high >= 0.0:
            raise ValueError(
                f"loss.clip_low={self.clip_low} must lie in [0, 1) and "
                f"loss.clip_high={self.clip_high} must not be negative"
            )
        if self.dual_clip != 0.0 and not self.dual_clip > 1.0:
            raise ValueError(f"loss.dual_clip={self.dual_clip} must exceed 1; 0 turns it off")
        if self.reduction not in losses.REDUCTIONS:
            known = ", ".join(losses.REDUCTIONS)
            raise ValueError(f"loss.reduction={self.reduction!r} is none of: {known}")
        if self.kl_estimator not in losses.KL_ESTIMATORS:
            known = ", ".join(losses.KL_ESTIMATORS)
            raise ValueError(f"loss.kl_estimator={self.kl_estimator!r} is none of: {known}")
        if not 0.0 <= self.kl_weight < math.inf:
            raise ValueError(f"loss.kl_weight={self.kl_weight} must be finite and not negative")


class Batch(NamedTuple):
    """Experience with what the aggregator and the reference policy made of it.

    Attributes:
        experience: the step's data, or some of its groups.
        advantages: `[B, G]`.
        reference_logprobs: `[B, G, T]`; zeros where no reference is used.
    """

    experience: Experience
    advantages: Array
    reference_logprobs: Array


def make_policy_loss(
    config: LossConfig, *, model: ModelConfig, temperature: float, max_new_tokens: int
) -> Loss:
    """The loss as a function of parameters and a `Batch`.

    Args:
        config: clip, reduction and penalty.
        model: the decoder's shape.
        temperature: the sampler's.
        max_new_tokens: the sampler's limit, the divisor of the "constant_length" reduction.
    """
    reduce = losses.REDUCTIONS[config.reduction]
    if reduce is losses.constant_length:
        reduce = partial(reduce, length=max_new_tokens)

    def loss(params: Params, batch: Batch) -> tuple[Array, Metrics]:
        where = batch.experience.completion_mask
        logp, entropy = policy_logprobs(
            params, batch.experience, model=model, temperature=temperature
        )
        surrogate, info = losses.clipped_surrogate(
            logp,
            batch.experience.logprobs,
            batch.advantages,
            where=where,
            reduce=reduce,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            dual_clip=config.dual_clip or None,
        )
        total = surrogate.total
        metrics = {
            "entropy": masked_mean(entropy, where),
            "clip_fraction": info.clip_fraction,
            "ratio": info.ratio,
            "approximate_kl": info.approximate_kl,
        }
        if config.kl_weight > 0.0:
            penalty = losses.kl_penalty(
                logp,
                batch.reference_logprobs,
                where=where,
                estimator=losses.KL_ESTIMATORS[config.kl_estimator],
                reduce=reduce,
            )
            total = total + config.kl_weight * penalty.total
            metrics["kl"] = jax.lax.stop_gradient(penalty)
        metrics["loss"] = Mean(jax.lax.stop_gradient(total), surrogate.count)
        return total, metrics

    return loss
