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
from dvaojax.numerics import Mean, masked_mean, masked_sum, safe_divide
from dvaojax.types import Experience


def per_completion(advantages: Array, where: Array) -> Array:
    """`[B, G]`, the mean of advantages over the tokens of each completion; 0 without any.

    Args:
        advantages: `[B, G, T]`, one for each token.
        where: `[B, G, T]` bool, true on sampled tokens.
    """
    return safe_divide(
        masked_sum(advantages, where, axis=-1), jnp.sum(where, axis=-1, dtype=advantages.dtype)
    )


def mean_square(advantages: Array, where: Array, *, is_per_token: bool) -> Mean:
    """The mean square of advantages over all completions that were sampled, or over their tokens.

    Args:
        advantages: `[B, G]`, `[B, G, S]` for turns, or `[B, G, T]`.
        where: `[B, G, T]` bool, true on sampled tokens.
        is_per_token: whether each token has its own advantage.
    """
    if is_per_token:
        return masked_mean(jnp.square(advantages), where)
    is_sampled = jnp.any(where, axis=-1)
    turns = tuple(range(is_sampled.ndim, advantages.ndim))
    counted = jnp.broadcast_to(jnp.expand_dims(is_sampled, turns), advantages.shape)
    return masked_mean(jnp.square(advantages), counted)


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
        """Inputs that a shadow needs, see `Aggregator.needs`."""
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
        inputs: Mapping[str, Array],
    ) -> tuple[StepMetrics, tuple[Any, ...]]:
        """Compares the advantages of each shadow with those of the aggregator in use.

        Args:
            experience: the step's data.
            advantages: `[B, G]`, of the aggregator in use; as with shadows, the mean over the
                tokens of a completion where each token has an advantage.
            states: the states of the shadows.
            key: the random key of the aggregator in use. All methods use the same key, so that a
                shadow of the method in use computes the same advantages.
            inputs: the lengths of the completions `[B, G]`, and what the shadows need, by name.

        Returns:
            `shadow/NAME/cosine`, `.../sign_agreement`, `.../mean_square` and
            `.../effective_weight` (`[K]`) of each shadow, as in `compare`, and the next states.
        """
        rewards, mask = experience.rewards, experience.reward_mask
        where = experience.completion_mask
        metrics, after = {}, []
        for (name, shadow), state in zip(self.aggregators.items(), states, strict=True):
            other, state = shadow.update(rewards, mask, state, key, **shadow.inputs_among(inputs))
            squares = mean_square(other, where, is_per_token=shadow.is_per_token)
            if shadow.is_per_token:
                other = per_completion(other, where)
            comparison = compare(advantages, other, rewards, self.weights, mask=mask)
            comparison = comparison._replace(mean_square=squares)
            metrics |= {
                f"shadow/{name}/{metric}": mean for metric, mean in comparison._asdict().items()
            }
            after.append(state)
        return metrics, tuple(after)
