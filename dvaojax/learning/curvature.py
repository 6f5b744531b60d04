"""CAPO in a run: the shifts of every token under the step that the optimiser would take next."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from dvaojax import models
from dvaojax.errors import suggest
from dvaojax.learning.gradients import Learner, StepMetrics
from dvaojax.learning.optimizer import OptimizerConfig, next_learning_rate
from dvaojax.learning.policy_logprobs import measured_on_tokens
from dvaojax.losses import magnitudes
from dvaojax.losses.capo import (
    PRESETS,
    AdamRows,
    Distribution,
    Shifts,
    Thresholds,
    adam_shifts,
    keeps,
    sgd_shifts,
)
from dvaojax.models import ModelConfig, Params, token_chunks
from dvaojax.numerics import masked_mean
from dvaojax.types import Experience

# Tokens of a device whose rows of moments are in memory at once.
_ADAM_CHUNK = 128


@dataclasses.dataclass(frozen=True)
class CapoConfig:
    """Which tokens are left out of the loss because their gradient would move the policy too far.

    The method of `losses.capo`, with any loss. Both thresholds depend on the model, the learning
    rate and the advantages: with `policy_shift=inf` alone, nothing is left out and the quantiles
    `capo/policy_shift/...` and `capo/objective_shift/...` are logged.

    Attributes:
        preset: "capo", "dr_capo" or "rein_capo", the paper's thresholds and its model of the step,
            chosen for Qwen2.5-Math-7B at a learning rate of 1.5e-5 on top of `grpo` with
            `loss.reduction=sequence_mean`, `dr_grpo` with `constant_length`, and REINFORCE without
            a baseline; empty for none.
        policy_shift: smallest policy shift of a token that is left out; 0 for the preset's, and
            for no bound without a preset; infinity for no bound.
        objective_shift: smallest absolute objective shift of a token that is left out; 0 and
            infinity as above.
        step: model of the optimiser's step: "sgd", in closed form over the whole vocabulary, or
            "adam", by the optimiser's moments, over the most likely tokens; empty for the
            preset's, and for "sgd" without a preset.
        most_likely: number of these tokens; the paper's code has 50.

    Raises:
        ValueError: there is no such preset or step, or a number is out of range.
    """

    preset: str = ""
    policy_shift: float = 0.0
    objective_shift: float = 0.0
    step: Literal["", "sgd", "adam"] = ""
    most_likely: int = 50

    def __post_init__(self):
        if self.preset and self.preset not in PRESETS:
            raise ValueError(f"loss.capo.preset: unknown {suggest(self.preset, PRESETS)}")
        if self.step not in ("", "sgd", "adam"):
            raise ValueError(f"loss.capo.step={self.step!r} must be 'sgd' or 'adam'")
        for name in ("policy_shift", "objective_shift"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(
                    f"loss.capo.{name}={getattr(self, name)} must not be negative; inf sets no "
                    "bound"
                )
        if self.most_likely < 2:
            raise ValueError(f"loss.capo.most_likely={self.most_likely} must be at least 2")

    @property
    def is_used(self) -> bool:
        """Whether shifts are computed."""
        return bool(self.preset) or self.policy_shift > 0.0 or self.objective_shift > 0.0

    @property
    def thresholds(self) -> Thresholds:
        """Both thresholds, with those of the preset where none is given."""
        none = Thresholds(math.inf, math.inf)
        default = PRESETS[self.preset].thresholds if self.preset else none
        return Thresholds(
            self.policy_shift or default.policy, self.objective_shift or default.objective
        )

    @property
    def model_of_step(self) -> str:
        """ "sgd" or "adam", the preset's if none is given."""
        return self.step or (PRESETS[self.preset].step if self.preset else "sgd")


class ProspectiveStep(NamedTuple):
    """The step that the optimiser would take next.

    Attributes:
        learning_rate: scalar.
        adam: tokens `[...]` -> the moments of their rows of the output matrix; None for a step of
            gradient descent.
    """

    learning_rate: Array
    adam: Callable[[Array], AdamRows] | None


def prospective_step(
    config: CapoConfig,
    optimizer: OptimizerConfig,
    *,
    num_updates: int,
    is_head_tied: bool,
) -> Callable[[Learner], ProspectiveStep]:
    """The next step as a function of the learner before it.

    Args:
        config: the model of the step.
        optimizer: settings of the optimiser.
        num_updates: of the whole run.
        is_head_tied: whether the output matrix is the transposed embedding.
    """

    def step(learner: Learner) -> ProspectiveStep:
        state = learner.optimizer_state
        rate = next_learning_rate(optimizer, num_updates, state)
        if config.model_of_step == "sgd":
            return ProspectiveStep(rate, None)

        def rows(tokens: Array) -> AdamRows:
            moments = [_rows(optax.tree.get(state, name), tokens) for name in ("mu", "nu")]
            count = optax.tree.get_all_with_path(state, "count")[0][1]
            # The optimiser's gradients descend on the loss.
            return AdamRows(-moments[0], moments[1], count, optimizer.b1, optimizer.b2)

        def _rows(moments: Any, tokens: Array) -> Array:
            if is_head_tied:
                return jnp.take(moments["embedding"], tokens, axis=0)
            return jnp.moveaxis(jnp.take(moments["head"], tokens, axis=1), 0, -1)

        return ProspectiveStep(rate, rows)

    return step


def logprobs_and_shifts(
    params: Params,
    experience: Experience,
    advantages: Array,
    step: ProspectiveStep,
    *,
    config: CapoConfig,
    model: ModelConfig,
    temperature: float,
) -> tuple[Array, Array, Shifts]:
    """`policy_logprobs`, and the shifts of every token from the same pass over the vocabulary.

    Args:
        params: the decoder's prepared parameters.
        experience: prompts and completions.
        advantages: `[B, G]` or `[B, G, T]`.
        step: that is tried.
        config: the model of the step.
        model: configuration of the decoder.
        temperature: the sampler's.

    Returns:
        `[B, G, T]` log-probabilities and entropies, in nats, and shifts without gradient; values
        after a completion's end have no meaning.
    """
    policy = models.apply(model, params)
    matrix = policy.output_matrix()
    is_sgd = step.adam is None
    summary = models.other_power_sums
    if not is_sgd:
        count = min(config.most_likely, model.vocab_size)
        summary = partial(models.most_likely, count=count)
    shape = experience.completion_mask.shape
    on_tokens = advantages
    if advantages.ndim < len(shape):
        on_tokens = jnp.broadcast_to(advantages[..., None], shape)

    def measure(states: Array, tokens: Array, advantages: Array) -> tuple[Array, Array, Shifts]:
        logp, entropy, further = models.summarized_logprobs(
            states, matrix, tokens, summary, temperature=temperature, chunk_size=model.logits_chunk
        )
        scaled = lax.stop_gradient(states).astype(jnp.float32) / temperature
        if step.adam is None:
            distribution = Distribution(lax.stop_gradient(logp), *further)
            squares = jnp.sum(jnp.square(scaled), axis=-1)
            return logp, entropy, sgd_shifts(advantages, distribution, squares, step.learning_rate)
        return logp, entropy, _adam(step, scaled, tokens, advantages, *further)

    return measured_on_tokens(policy, experience, measure, (on_tokens.astype(jnp.float32),))


def _adam(
    step: ProspectiveStep,
    states: Array,
    tokens: Array,
    advantages: Array,
    probabilities: Array,
    candidates: Array,
) -> Shifts:
    """Shifts `[B, S]` of Adam's step, in chunks of tokens."""
    assert step.adam is not None
    rows = step.adam

    def chunk(piece: tuple[Array, ...]) -> Shifts:
        states, tokens, advantages, probabilities, candidates = piece
        is_chosen = candidates == tokens[..., None]
        adam = rows(candidates)
        return adam_shifts(advantages, probabilities, is_chosen, states, adam, step.learning_rate)

    pieces = token_chunks.num_chunks(tokens, _ADAM_CHUNK)
    inputs = (states, tokens, advantages, probabilities, candidates)
    shifts = lax.map(chunk, tuple(token_chunks.split(x, pieces) for x in inputs))
    return jax.tree.map(lambda x: token_chunks.join(x, tokens), shifts)


def shift_metrics(shifts: Shifts, where: Array, thresholds: Thresholds) -> StepMetrics:
    """The share of tokens that are left out, in all and by each threshold, and both histograms.

    Args:
        shifts: of arrays `[B, G, T]`.
        where: `[B, G, T]` bool, true on sampled tokens.
        thresholds: of the shifts.
    """

    def rejected(thresholds: Thresholds) -> Any:
        return masked_mean((~keeps(shifts, thresholds)).astype(jnp.float32), where)

    return {
        "capo/rejected": rejected(thresholds),
        "capo/rejected_by_policy_shift": rejected(Thresholds(thresholds.policy, math.inf)),
        "capo/rejected_by_objective_shift": rejected(Thresholds(math.inf, thresholds.objective)),
        "capo/policy_shift": magnitudes.histogram(shifts.policy, where),
        "capo/objective_shift": magnitudes.histogram(shifts.objective, where),
    }


_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def with_quantiles(metrics: StepMetrics) -> StepMetrics:
    """The metrics of a step with quantiles of both shifts in place of their histograms."""
    quantiles: StepMetrics = {}
    for name in ("capo/policy_shift", "capo/objective_shift"):
        if name in metrics:
            for label, share in _SHARES.items():
                quantiles[f"{name}/{label}"] = magnitudes.quantile(metrics[name], share)
    return {k: v for k, v in metrics.items() if f"{k}/p50" not in quantiles} | quantiles
