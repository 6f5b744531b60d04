"""The optimiser: AdamW behind a norm clip, with a schedule over the updates of the run."""

import dataclasses
import math

import jax
import optax


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How a gradient becomes an update.

    Attributes:
        learning_rate: its value after the warm-up.
        schedule: "constant", "linear" or "cosine"; the last two fall to `final_fraction`.
        final_fraction: share of `learning_rate` left at the end, in [0, 1].
        warmup_updates: updates over which the rate rises linearly from 0.
        max_grad_norm: the global norm gradients are scaled down to; infinity turns it off.
        b1: decay of the first moment.
        b2: decay of the second moment.
        weight_decay: decoupled decay, on matrices alone (norm scales and biases keep theirs).

    Raises:
        ValueError: there is no such schedule, or a number is out of its range.
    """

    learning_rate: float = 1e-4
    schedule: str = "constant"
    final_fraction: float = 0.0
    warmup_updates: int = 0
    max_grad_norm: float = 1.0
    b1: float = 0.9
    b2: float = 0.95
    weight_decay: float = 0.0

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            known = ", ".join(SCHEDULES)
            raise ValueError(f"optimizer.schedule={self.schedule!r} is none of: {known}")
        for name in ("learning_rate", "weight_decay"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ValueError(f"optimizer.{name}={value} must be finite and not negative")
        for name in ("b1", "b2"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"optimizer.{name}={getattr(self, name)} must lie in [0, 1)")
        if not self.max_grad_norm > 0.0:
            raise ValueError(f"optimizer.max_grad_norm={self.max_grad_norm} must be positive")
        if not 0.0 <= self.final_fraction <= 1.0:
            raise ValueError(f"optimizer.final_fraction={self.final_fraction} must lie in [0, 1]")
        if self.warmup_updates < 0:
            raise ValueError(f"optimizer.warmup_updates={self.warmup_updates} must not be negative")


SCHEDULES = ("constant", "linear", "cosine")


def learning_rate_schedule(config: OptimizerConfig, num_updates: int) -> optax.Schedule:
    """The learning rate as a function of the update's number, from 0 to `num_updates`."""
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
    """Norm clip, AdamW and schedule as one gradient transformation.

    Args:
        config: the knobs.
        num_updates: optimiser updates in the whole run, which the schedule is stretched over.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adamw(
            learning_rate_schedule(config, num_updates),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=_matrices,
        ),
    )


def _matrices(params: optax.Params) -> optax.Params:
    """True on the parameters that weight decay applies to.

    Layers are stacked, so a norm scale has two axes; it is told from a matrix by its name.
    """
    return jax.tree.map_with_path(
        lambda path, _: not any("scale" in str(p) or "bias" in str(p) for p in path), params
    )
