"""The policy loss on experience: a loss selected by name, and an optional KL penalty."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax import losses, plugins
from dvaojax.errors import UserError, suggest
from dvaojax.learning.curvature import (
    CapoConfig,
    ProspectiveStep,
    logprobs_and_shifts,
    shift_metrics,
)
from dvaojax.learning.gradients import LossFunction, StepMetrics
from dvaojax.learning.policy_logprobs import policy_logprobs
from dvaojax.losses import Reduction, capo
from dvaojax.models import ModelConfig, Params
from dvaojax.numerics import Mean, masked_mean
from dvaojax.types import Experience


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The loss of the policy.

    Attributes:
        name: a key of `losses.BY_NAME`, "dpo", a loss of pairs of completions, or a plug-in,
            "my_file.py:my_loss" or "module:my_loss".
        options: knobs of that loss, "knob=value" each.
        reduction: "token_mean", "sequence_mean" or "constant_length"; empty for the default of the
            loss, that of its paper.
        importance_cap: at 0 the denominator of the ratio is the sampler's probability, at no cost.
            Above 0 it is the probability that the trainer computes before the first update of a
            step, and every token is weighted by the ratio of the trainer's to the sampler's
            probability, at most this cap (truncated importance sampling); this costs one forward
            pass per step.
        kl_weight: weight of the KL penalty towards the reference policy; 0 needs no reference.
        kl_estimator: "k1", "k2" or "k3".
        mask_truncated: whether completions that the token limit ended are left out: of the loss and
            its penalty, of their denominators, and of the statistics of their group, as if they had
            not been sampled (DAPO's overlong filtering, arXiv:2503.14476, section 3.4, which names
            only the loss). The logged rewards and lengths include them.
        capo: which tokens are left out because their gradient would move the policy too far.

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
    mask_truncated: bool = False
    capo: CapoConfig = CapoConfig()

    def __post_init__(self):
        if not plugins.is_plugin(self.name):  # user code is loaded by `check_options`
            _ = self.function
        if self.reduction and self.reduction not in losses.REDUCTIONS:
            guess = suggest(self.reduction, losses.REDUCTIONS)
            raise ValueError(f"loss.reduction: unknown {guess}")
        if self.importance_cap != 0.0 and not 1.0 <= self.importance_cap < math.inf:
            raise ValueError(
                f"loss.importance_cap={self.importance_cap} must be finite and at least 1, or 0"
            )
        if self.kl_estimator not in losses.KL_ESTIMATORS:
            guess = suggest(self.kl_estimator, losses.KL_ESTIMATORS)
            raise ValueError(f"loss.kl_estimator: unknown {guess}")
        if not 0.0 <= self.kl_weight < math.inf:
            raise ValueError(f"loss.kl_weight={self.kl_weight} must be finite and not negative")
        if self.is_pairwise:
            self._check_pairwise()

    def _check_pairwise(self) -> None:
        """Settings about single tokens have no meaning for a loss of whole completions."""
        per_token = {
            "reduction": self.reduction,
            "importance_cap": self.importance_cap,
            "kl_weight": self.kl_weight,
            "capo": self.capo.is_used,
        }
        for name, value in per_token.items():
            if value:
                raise ValueError(
                    f"loss.{name} is about single tokens, and loss.name={self.name} compares "
                    "completions with the reference: leave it out"
                )

    @property
    def is_pairwise(self) -> bool:
        """Whether the loss compares two completions of a group."""
        return self.name in losses.PAIR_LOSSES

    @property
    def needs_reference(self) -> bool:
        """Whether the log-probabilities of the reference policy are computed."""
        return self.kl_weight > 0.0 or self.is_pairwise

    @property
    def function(self) -> losses.Loss:
        """The loss of that name with its options bound.

        Raises:
            UserError: there is no such loss or knob, or a plug-in cannot be loaded.
        """
        try:
            loss = losses.find(self.name)
        except UserError as error:
            raise UserError(f"loss.name: {error}") from error
        try:
            return partial(loss, **losses.read_knobs(loss, self.options, name=self.name))
        except UserError as error:
            raise UserError(f"loss.options: {error}") from error

    def check_options(self) -> None:
        """Checks the values of the knobs by tracing the loss, which starts JAX.

        Raises:
            UserError: the loss does not accept a knob's value, or a plug-in does not return a loss.
        """
        loss = self.function
        if self.is_pairwise:
            self._check_pair_options(loss)
            return
        needs_entropy = losses.needs_entropy(loss)
        tokens, flags = (jax.ShapeDtypeStruct((1, 1), dtype) for dtype in ("float32", "bool"))

        def traced(tokens: Array, where: Array):
            inputs = {"entropy": tokens} if needs_entropy else {}
            reduce = losses.reduction_of(loss)
            return loss(tokens, tokens, tokens, where=where, reduce=reduce, **inputs)

        if not plugins.is_plugin(self.name):
            try:
                jax.eval_shape(traced, tokens, flags)
            except ValueError as error:
                raise UserError(f"loss.options, of {self.name}: {error}") from error
            return
        with plugins.blaming(self.name):
            result = jax.eval_shape(traced, tokens, flags)
        match result:
            case (Mean() as mean, losses.SurrogateInfo()) if mean.total.shape == ():
                return
            case _:
                raise UserError(
                    f"{self.name} returned {result!r}, not a pair (Mean, SurrogateInfo) of scalars"
                )

    def _check_pair_options(self, loss: Callable[..., Any]) -> None:
        tokens, flags = (jax.ShapeDtypeStruct((2, 1), dtype) for dtype in ("float32", "bool"))
        scores = jax.ShapeDtypeStruct((2,), "float32")
        try:
            jax.eval_shape(lambda x, a, where: loss(x, x, a, where=where), tokens, scores, flags)
        except ValueError as error:
            raise UserError(f"loss.options, of {self.name}: {error}") from error


class PolicyBatch(NamedTuple):
    """Experience with its advantages and the log-probabilities of other policies.

    Attributes:
        experience: the step's data, or some of its groups.
        advantages: `[B, G]`, or `[B, G, T]` if each token has its own.
        reference_logprobs: `[B, G, T]`; zeros without a reference policy.
        recomputed_logprobs: `[B, G, T]`, under the policy before the step's first update; None if
            the ratio's denominator is the sampler's.
    """

    experience: Experience
    advantages: Array
    reference_logprobs: Array
    recomputed_logprobs: Array | None = None


def make_policy_loss(
    config: LossConfig, *, model: ModelConfig, temperature: float, max_new_tokens: int
) -> LossFunction:
    """The loss as a function of parameters and a `PolicyBatch`.

    With CAPO it has a keyword argument `step`, the `ProspectiveStep` that is tried.

    Args:
        config: loss, reduction and penalty.
        model: configuration of the decoder.
        temperature: the sampler's temperature.
        max_new_tokens: the sampler's limit, the divisor of the "constant_length" reduction.
    """
    if config.is_pairwise:
        return _make_pair_loss(config, model=model, temperature=temperature)
    surrogate_loss = config.function
    reduce = losses.REDUCTIONS.get(config.reduction, losses.reduction_of(surrogate_loss))
    needs_entropy = losses.needs_entropy(surrogate_loss)
    if reduce is losses.constant_length:
        reduce = partial(reduce, length=max_new_tokens)

    decoder: Any = {"model": model, "temperature": temperature}

    def loss(
        params: Params, batch: PolicyBatch, *, step: ProspectiveStep | None = None
    ) -> tuple[Array, StepMetrics]:
        where, kept, further = batch.experience.completion_mask, reduce, {}
        if config.capo.is_used and step is None:
            raise ValueError("loss.capo needs the next step: make_train_step(prospective=...)")
        if step is None:
            logp, entropy = policy_logprobs(params, batch.experience, **decoder)
        else:
            logp, entropy, shifts = logprobs_and_shifts(
                params, batch.experience, batch.advantages, step, config=config.capo, **decoder
            )
            thresholds = config.capo.thresholds
            kept = capo.over_kept(reduce, capo.keeps(shifts, thresholds))
            further = shift_metrics(shifts, where, thresholds)
        logp_old, weighted_reduce, metrics = _denominator(batch, kept, cap=config.importance_cap)
        inputs = {"entropy": entropy} if needs_entropy else {}
        surrogate, info = surrogate_loss(
            logp, logp_old, batch.advantages, where=where, reduce=weighted_reduce, **inputs
        )
        total = surrogate.total
        metrics |= further | {
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
                reduce=kept,
            )
            total = total + config.kl_weight * penalty.total
            metrics["kl"] = jax.lax.stop_gradient(penalty)
        metrics["loss"] = Mean(jax.lax.stop_gradient(total), surrogate.count)
        return total, metrics

    return loss


def _make_pair_loss(config: LossConfig, *, model: ModelConfig, temperature: float) -> LossFunction:
    """The loss of pairs of completions, as a function of parameters and a `PolicyBatch`."""
    function = config.function

    def loss(params: Params, batch: PolicyBatch) -> tuple[Array, StepMetrics]:
        where = batch.experience.completion_mask
        logp, entropy = policy_logprobs(
            params, batch.experience, model=model, temperature=temperature
        )
        mean, info = function(logp, batch.reference_logprobs, batch.advantages, where=where)
        moved = losses.surrogate_info(
            losses.log_ratios(logp, batch.experience.logprobs, where),
            jnp.zeros_like(where),
            jnp.zeros(where.shape, logp.dtype),
            where,
        )
        return mean.total, {
            "entropy": masked_mean(entropy, where),
            "ratio": moved.ratio,
            "approximate_kl": moved.approximate_kl,
            "pairs/margin": info.margin,
            "pairs/accuracy": info.accuracy,
            "pairs/share": info.pairs,
            "loss": jax.lax.stop_gradient(mean),
        }

    return loss


def _denominator(
    batch: PolicyBatch, reduce: Reduction, *, cap: float
) -> tuple[Array, Reduction, StepMetrics]:
    """`logp_old` of the ratio, the reduction that belongs to it, and its metrics."""
    sampler_logprobs, logp_old = batch.experience.logprobs, batch.recomputed_logprobs
    if logp_old is None:
        return sampler_logprobs, reduce, {}
    where = batch.experience.completion_mask
    weights = losses.truncated_importance_weights(logp_old, sampler_logprobs, where=where, cap=cap)
    return (
        logp_old,
        losses.weighted(reduce, weights),
        {
            "importance_weight": masked_mean(weights, where),
            "importance_truncated": masked_mean((weights >= cap).astype(weights.dtype), where),
        },
    )
