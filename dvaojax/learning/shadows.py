"""Shadow aggregators: the advantages that other methods would have computed in a step.

They get the same inputs as the aggregator in use, in the same program, and only produce metrics: a
run with shadows takes the same steps as one without.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from dvaojax.aggregators import Aggregator, compare
from dvaojax.learning.gradients import StepMetrics
from dvaojax.numerics import masked_mean
from dvaojax.types import Experience


class Shadows(NamedTuple):
    """Aggregators that are evaluated in addition to the one in use.

    Attributes:
        aggregators: name in the metrics -> aggregator.
        weights: `[K]`, weights of the objectives.
    """

    aggregators: Mapping[str, Aggregator]
    weights: Array

    @property
    def needs(self) -> frozenset[str]:
        """Costly inputs that a shadow needs, see `Aggregator.needs`."""
        return frozenset(need for shadow in self.aggregators.values() for need in shadow.needs)

    def init(self, num_objectives: int) -> tuple[Any, ...]:
        """The state of each shadow aggregator before the first step."""
        return tuple(shadow.init(num_objectives) for shadow in self.aggregators.values())

    def update(
        self,
        experience: Experience,
        advantages: Array,
        states: tuple[Any, ...],
        key: Array,
        *,
        lengths: Array,
        gradient_weights: Array | None = None,
    ) -> tuple[StepMetrics, tuple[Any, ...]]:
        """Compares the advantages of each shadow with those of the aggregator in use.

        Args:
            experience: the step's data.
            advantages: `[B, G]`, of the aggregator in use.
            states: the states of the shadows.
            key: the random key of the aggregator in use. All methods use the same key, so that a
                shadow of the method in use computes the same advantages.
            lengths: `[B, G]` tokens of each completion.
            gradient_weights: `[B, G]`, for shadows that need them, see `needs`.

        Returns:
            `shadow/NAME/cosine`, `.../sign_agreement`, `.../mean_square` and
            `.../effective_weight` (`[K]`) of each shadow, as in `compare`, and the next states.
        """
        rewards, mask = experience.rewards, experience.reward_mask
        metrics, after = {}, []
        for (name, shadow), state in zip(self.aggregators.items(), states, strict=True):
            costly = {"gradient_weights": gradient_weights} if shadow.needs else {}
            other, state = shadow.update(rewards, mask, state, key, lengths=lengths, **costly)
            comparison = compare(advantages, other, rewards, self.weights, mask=mask)
            # Over the completions that were sampled, as in `advantage_mean_square`.
            mean_square = masked_mean(jnp.square(other), lengths > 0)
            comparison = comparison._replace(mean_square=mean_square)
            metrics |= {
                f"shadow/{name}/{metric}": mean for metric, mean in comparison._asdict().items()
            }
            after.append(state)
        return metrics, tuple(after)
