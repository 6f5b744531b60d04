"""Errors that end a run, and the checks that raise them."""

from collections.abc import Callable
from functools import partial

import jax
from jax import Array
from jax.experimental import checkify

from dvaojax import aggregators
from dvaojax.aggregators import invariants
from dvaojax.config import Config, aggregator_knobs
from dvaojax.types import Experience


class TrainingError(RuntimeError):
    """The run cannot continue: numbers are not finite, or an invariant was violated."""


def stop_if_not_finite(when: str, skipped_in_a_row: int, *, limit: int, rate: str) -> None:
    """Raises an error if too many successive updates have been skipped.

    Args:
        when: the step just done, for the message.
        skipped_in_a_row: updates without a finite loss and gradient, up to the latest one.
        limit: how many of them are allowed.
        rate: the setting of the learning rate, for the message.

    Raises:
        TrainingError: there were more than `limit`.
    """
    if skipped_in_a_row > limit:
        raise TrainingError(
            f"{when}: loss or gradient was not finite in {skipped_in_a_row} updates in a row, "
            f"more than max_skipped_in_a_row={limit}: try a smaller {rate}"
        )


def invariant_check(config: Config) -> Callable[[int, Experience, Array], None]:
    """Checks a step's advantages against the invariants of their method, if configured.

    Returns:
        `check(step, experience, advantages)`, which raises a TrainingError that names the violated
        invariant.
    """
    if not config.aggregator.check_invariants:
        return lambda step, experience, advantages: None
    name = config.aggregator.name
    weights = aggregators.named_weights(config.weights, config.objectives)
    examine = partial(invariants.check, name, **aggregator_knobs(config))
    # Equivalent to `chex.chexify`, but compiled once and without its warning at exit.
    checked = jax.jit(checkify.checkify(examine))
    with_lengths = aggregators.needs_lengths(aggregators.find(name))

    def check(step: int, experience: Experience, advantages: Array) -> None:
        rewards, mask = experience.rewards, experience.reward_mask
        lengths = experience.completion_mask.sum(axis=-1) if with_lengths else None
        try:
            violation, _ = checked(rewards, weights, advantages, mask=mask, lengths=lengths)
            violation.throw()
        except ValueError as error:
            raise TrainingError(f"step {step}, {name}: {error}") from error

    return check
