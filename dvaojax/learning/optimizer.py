"""The optimiser: AdamW with gradient clipping and a learning-rate schedule over the run."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax
from jax import Array

from dvaojax.learning.gradient_noise import scale_by_signal_share, signal_share


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Settings of the optimiser.

    Attributes:
        learning_rate: the learning rate after the warm-up.
        schedule: "constant", "linear" or "cosine"; the last two decay to `final_fraction`.
        final_fraction: final learning rate as a fraction of `learning_rate`, in [0, 1].
        warmup_updates: updates over which the rate rises linearly from 0.
        max_grad_norm: largest global gradient norm, larger ones are scaled down; infinity turns it
            off.
        b1: decay rate of the first moment.
        b2: decay rate of the second moment.
        weight_decay: decoupled weight decay, on matrices only, not on norm scales and biases.
        snr_floor: below 1, the learning rate is multiplied by the share of signal in the gradient,
            estimated from the scatter of the micro-batches' gradients, but by no less than this
            (OBLR-PO, arXiv 2511.23310, see `learning.gradient_noise`); needs at least two
            `learning.micro_batches`. 1 leaves the learning rate to its schedule.
        snr_decay: weight of the past in the running means of that estimate.

    Raises:
        ValueError: the schedule is unknown, or a number is out of range.
    """

    learning_rate: float = 1e-4
    schedule: str = "constant"
    final_fraction: float = 0.0
    warmup_updates: int = 0
    max_grad_norm: float = 1.0
    b1: float = 0.9
    b2: float = 0.95
    weight_decay: float = 0.0
    snr_floor: float = 1.0
    snr_decay: float = 0.95

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            known = ", ".join(SCHEDULES)
            raise ValueError(f"optimizer.schedule={self.schedule!r} must be one of: {known}")
        for name in ("learning_rate", "weight_decay"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ValueError(f"optimizer.{name}={value} must be finite and not negative")
        for name in ("b1", "b2", "snr_decay"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"optimizer.{name}={getattr(self, name)} must lie in [0, 1)")
        if not self.max_grad_norm > 0.0:
            raise ValueError(f"optimizer.max_grad_norm={self.max_grad_norm} must be positive")
        for name in ("final_fraction", "snr_floor"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"optimizer.{name}={getattr(self, name)} must lie in [0, 1]")
        if self.warmup_updates < 0:
            raise ValueError(f"optimizer.warmup_updates={self.warmup_updates} must not be negative")

    @property
    def follows_noise(self) -> bool:
        """Whether the learning rate follows the signal-to-noise ratio of the gradients."""
        return self.snr_floor < 1.0


SCHEDULES = ("constant", "linear", "cosine")


def learning_rate_schedule(config: OptimizerConfig, num_updates: int) -> optax.Schedule:
    """The learning rate as a function of the update, from 0 to `num_updates`."""
    after_warmup = max(num_updates - config.warmup_updates, 1)
    rate, final = config.learning_rate, config.learning_rate * config.final_fraction
    decay = {
        "constant": optax.constant_schedule(rate),
        "linear": optax.linear_schedule(rate, final, after_warmup),
        "cosine": optax.cosine_decay_schedule(rate, after_warmup, alpha=config.final_fraction),
    }[config.schedule]
    if config.warmup_updates == 0:
        return decay
    warmup = optax.linear_schedule(0.0, rate, config.warmup_updates)
    return optax.join_schedules([warmup, decay], [config.warmup_updates])


def make_optimizer(config: OptimizerConfig, num_updates: int) -> optax.GradientTransformation:
    """Gradient clipping, AdamW, schedule and noise as one gradient transformation.

    Args:
        config: settings of the optimiser.
        num_updates: optimiser updates of the whole run, the length of the schedule.
    """
    parts = [
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adamw(
            learning_rate_schedule(config, num_updates),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=_matrices,
        ),
    ]
    if config.follows_noise:
        parts.append(scale_by_signal_share(decay=config.snr_decay, floor=config.snr_floor))
    return optax.chain(*parts)


def next_learning_rate(config: OptimizerConfig, num_updates: int, state: optax.OptState) -> Array:
    """The scalar learning rate of the next update.

    With `snr_floor` it is that by the running means before the update, to which the update adds its
    own signal and noise.

    Args:
        config: settings of the optimiser.
        num_updates: of the whole run.
        state: of the optimiser before the update.
    """
    count = optax.tree.get_all_with_path(state, "count")[0][1]
    rate = jnp.asarray(learning_rate_schedule(config, num_updates)(count), jnp.float32)
    if config.follows_noise:
        running = [optax.tree.get(state, name) for name in ("signal", "noise")]
        rate = rate * jnp.maximum(signal_share(*running), config.snr_floor)
    return rate


def _matrices(params: optax.Params) -> optax.Params:
    """True on the parameters with weight decay.

    Layers are stacked, so a norm scale has two axes; it is distinguished from a matrix by its name.
    """
    return jax.tree.map_with_path(
        lambda path, _: not any("scale" in str(p) or "bias" in str(p) for p in path), params
    )
