"""The loss of a policy on a piece of experience, chosen by name, and a penalty if asked."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
from jax import Array

from dvaojax import losses
from dvaojax.errors import nearest
from dvaojax.learning.gradients import Loss, Metrics
from dvaojax.learning.policy_logprobs import policy_logprobs
from dvaojax.losses import Reduction
from dvaojax.models import ModelConfig, Params
from dvaojax.numerics import Mean, masked_mean
from dvaojax.types import Experience


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The policy's loss.

    Attributes:
        name: of the loss, in `losses.BY_NAME`.
        options: knobs of that loss, "knob=value" each.
        reduction: "token_mean", "sequence_mean" or "constant_length"; empty for that of the loss's
            paper.
        importance_cap: 0 anchors the ratio to the sampler's log-probabilities, at no cost. Above
            it anchors it to those that the trainer finds before a step's first update, and weights
            every token by how much more likely they are than the sampler's, at most this much
            (truncated importance sampling); costs a pass forward a step.
        kl_weight: weight of the penalty towards the reference policy; 0 needs no reference.
        kl_estimator: "k1", "k2" or "k3".

    Raises:
        ValueError: there is no such loss, knob, reduction or estimator, or a number is out of its
            range.
    """

    name: str = "clipped_surrogate"
    options: tuple[str, ...] = ()
    reduction: str = ""
    importance_cap: float = 0.0
    kl_weight: float = 0.0
    kl_estimator: str = "k3"

    def __post_init__(self):
        if self.name not in losses.BY_NAME:
            guess = nearest(self.name, losses.BY_NAME)
            raise ValueError(f"loss.name={self.name!r} is no loss; did you mean {guess!r}?")
        self._refusing(lambda: self.function)
        if self.reduction and self.reduction not in losses.REDUCTIONS:
            known = ", ".join(losses.REDUCTIONS)
            raise ValueError(f"loss.reduction={self.reduction!r} is none of: {known}")
        if self.importance_cap != 0.0 and not 1.0 <= self.importance_cap < math.inf:
            raise ValueError(
                f"loss.importance_cap={self.importance_cap} must be finite and at least 1; 0 "
                "anchors the ratio to the sampler"
            )
        if self.kl_estimator not in losses.KL_ESTIMATORS:
            known = ", ".join(losses.KL_ESTIMATORS)
            raise ValueError(f"loss.kl_estimator={self.kl_estimator!r} is none of: {known}")
        if not 0.0 <= self.kl_weight < math.inf:
            raise ValueError(f"loss.kl_weight={self.kl_weight} must be finite and not negative")

    @property
    def function(self) -> losses.Loss:
        """The loss of that name with its options bound."""
        loss = losses.BY_NAME[self.name]
        return partial(loss, **losses.read_knobs(loss, self.options))

    def check_options(self) -> None:
        """The loss's own checks of its knobs; traces it, and therefore starts JAX.

        Raises:
            ValueError: a knob has a value that the loss cannot take.
        """
        tokens, flags = (jax.ShapeDtypeStruct((1, 1), dtype) for dtype in ("float32", "bool"))

        def traced(tokens: Array, where: Array):
            return self.function(tokens, tokens, tokens, where=where)

        self._refusing(lambda: jax.eval_shape(traced, tokens, flags))

    def _refusing(self, use: Callable[[], object]) -> None:
        """Names the setting in whatever its use finds wrong with it."""
        try:
            use()
        except ValueError as error:
            raise ValueError(f"loss.options, of {self.name}: {error}") from error


class Batch(NamedTuple):
    """Experience with what the aggregator and the reference policy made of it.

    Attributes:
        experience: the step's data, or some of its groups.
        advantages: `[B, G]`, or `[B, G, T]` where each token has its own.
        reference_logprobs: `[B, G, T]`; zeros where no reference is used.
        recomputed_logprobs: `[B, G, T]`, the policy's own before the step's first update; None
            where the ratio is anchored to the sampler's.
    """

    experience: Experience
    advantages: Array
    reference_logprobs: Array
    recomputed_logprobs: Array | None = None


def make_policy_loss(
    config: LossConfig, *, model: ModelConfig, temperature: float, max_new_tokens: int
) -> Loss:
    """The loss as a function of parameters and a `Batch`.

    Args:
        config: loss, reduction and penalty.
        model: the decoder's shape.
        temperature: the sampler's.
        max_new_tokens: the sampler's limit, the divisor of the "constant_length" reduction.
    """
    surrogate_loss = config.function
    reduce = losses.REDUCTIONS.get(config.reduction, losses.reduction_of(surrogate_loss))
    if reduce is losses.constant_length:
        reduce = partial(reduce, length=max_new_tokens)

    def loss(params: Params, batch: Batch) -> tuple[Array, Metrics]:
        where = batch.experience.completion_mask
        logp, entropy = policy_logprobs(
            params, batch.experience, model=model, temperature=temperature
        )
        anchor, weigh, metrics = _anchor(batch, reduce, cap=config.importance_cap)
        surrogate, info = surrogate_loss(logp, anchor, batch.advantages, where=where, reduce=weigh)
        total = surrogate.total
        metrics |= {
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


def _anchor(batch: Batch, reduce: Reduction, *, cap: float) -> tuple[Array, Reduction, Metrics]:
    """The log-probabilities that the ratio is taken to, and how terms are reduced with it."""
    sampled, recomputed = batch.experience.logprobs, batch.recomputed_logprobs
    if recomputed is None:
        return sampled, reduce, {}
    where = batch.experience.completion_mask
    weights = losses.truncated_importance_weights(recomputed, sampled, where=where, cap=cap)
    return (
        recomputed,
        losses.weighted(reduce, weights),
        {
            "importance_weight": masked_mean(weights, where),
            "importance_truncated": masked_mean((weights >= cap).astype(weights.dtype), where),
        },
    )
