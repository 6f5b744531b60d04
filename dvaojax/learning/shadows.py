"""Shadow aggregators: what the others would have done with the rewards of this step.

They see what the aggregator in use sees, in the same program, and nothing follows from them but
numbers to look at: a run with shadows takes the same steps as one without.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from dvaojax.aggregators import Aggregator
from dvaojax.aggregators._core.comparison import compare
from dvaojax.learning.gradients import Metrics
from dvaojax.numerics import masked_mean
from dvaojax.types import Experience


class Shadows(NamedTuple):
    """Aggregators that are evaluated beside the one in use.

    Attributes:
        aggregators: name, as metrics have it -> aggregator.
        weights: `[K]`, those of the objectives.
    """

    aggregators: Mapping[str, Aggregator]
    weights: Array

    def init(self, num_objectives: int) -> tuple[Any, ...]:
        """The state of each before the first step."""
        return tuple(shadow.init(num_objectives) for shadow in self.aggregators.values())

    def update(
        self,
        experience: Experience,
        advantages: Array,
        states: tuple[Any, ...],
        key: Array,
        *,
        lengths: Array,
    ) -> tuple[Metrics, tuple[Any, ...]]:
        """What each makes of a step's rewards, beside what was made of them.

        Args:
            experience: the step's data.
            advantages: `[B, G]`, of the aggregator in use.
            states: those of the shadows.
            key: the one that the aggregator in use was given. Every method draws with the same, so
                that the shadow of the method in use is that method.
            lengths: `[B, G]` tokens of each completion.

        Returns:
            `shadow/NAME/cosine`, `.../sign_agreement`, `.../mean_square` and
            `.../effective_weight` (`[K]`) of each, as `compare` has them, and the next states.
        """
        rewards, mask = experience.rewards, experience.reward_mask
        metrics, after = {}, []
        for (name, shadow), state in zip(self.aggregators.items(), states, strict=True):
            other, state = shadow.update(rewards, mask, state, key, lengths=lengths)
            seen = compare(advantages, other, rewards, self.weights, mask=mask)
            # Of the completions that were drawn, as in `advantage_mean_square`.
            seen = seen._replace(mean_square=masked_mean(jnp.square(other), lengths > 0))
            metrics |= {f"shadow/{name}/{what}": mean for what, mean in seen._asdict().items()}
            after.append(state)
        return metrics, tuple(after)
