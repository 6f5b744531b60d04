"""(state, experience) -> (state, metrics): pure, sharded, donated."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class LearningConfig:
    """How one step's experience becomes optimiser updates.

    Attributes:
        epochs: passes over the step's experience.
        mini_batches: optimiser updates per pass; divides the prompts of a step.
        micro_batches: pieces of a mini-batch whose gradients are added up; divides its prompts.
        clip_low: how far below 1 the policy ratio may pull, in [0, 1).
        clip_high: how far above 1.
        dual_clip: bound on the ratio where the advantage is negative, above 1; 0 turns it off.
        reduction: "token_mean", "sequence_mean" or "constant_length".
        kl_weight: weight of the penalty towards the reference policy; 0 needs no reference.
        kl_estimator: "k1", "k2" or "k3".
    """

    epochs: int = 1
    mini_batches: int = 1
    micro_batches: int = 1
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float = 0.0
    reduction: str = "token_mean"
    kl_weight: float = 0.0
    kl_estimator: str = "k3"
