"""DPO on the completions of a group (Rafailov et al., arXiv:2305.18290).

A group of completions with rewards contains preferences: its best completion over its worst.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax.losses.ratios import require_positive
from dvaojax.losses.tokens import on_tokens
from dvaojax.numerics import Mean, masked_mean, masked_sum, require_axes, require_shape


class Pairs(NamedTuple):
    """A pair of completions from each group.

    Attributes:
        best: `[...]` int32, index of the completion with the largest score.
        worst: `[...]` int32, index of that with the smallest.
        exists: `[...]` bool, false in a group whose scores are all equal, which has no pair.
    """

    best: Array
    worst: Array
    exists: Array


class PairInfo(NamedTuple):
    """Metrics of a loss on pairs, without gradient; scalars.

    Attributes:
        margin: m, in nats times beta, over the pairs.
        accuracy: share of the pairs whose margin is positive.
        pairs: share of the groups with a sampled completion that have a pair.
    """

    margin: Mean
    accuracy: Mean
    pairs: Mean


def best_and_worst(scores: Array, where: Array) -> Pairs:
    """The completions of a group with the largest and the smallest score; the first of equal ones.

    Args:
        scores: `[..., G]`, comparable within a group.
        where: `[..., G]` bool, true on sampled completions.

    Returns:
        Arrays of the shape `[...]`.

    Raises:
        AssertionError: the shapes do not match.
    """
    require_shape("where", where, scores.shape, axes="[..., G]", like="scores")
    best = jnp.argmax(jnp.where(where, scores, -jnp.inf), axis=-1)
    worst = jnp.argmin(jnp.where(where, scores, jnp.inf), axis=-1)
    highest, lowest = _at(scores, best), _at(scores, worst)
    exists = (highest > lowest) & jnp.any(where, axis=-1)
    return Pairs(best.astype(jnp.int32), worst.astype(jnp.int32), exists)


def dpo(
    logp: Array,
    logp_reference: Array,
    advantages: Array,
    *,
    where: Array,
    beta: float = 0.1,
) -> tuple[Mean, PairInfo]:
    r"""Minus the log-probability that the better completion of each group is preferred.

    $$ L = -\log \sigma(m), \qquad
       m = \beta \Big( \log \tfrac{\pi(y^+)}{\pi_{ref}(y^+)}
           - \log \tfrac{\pi(y^-)}{\pi_{ref}(y^-)} \Big) $$

    (Rafailov et al., arXiv:2305.18290, eq. 7.) The pair is the completion of the largest and that
    of the smallest advantage, which are those of the largest and the smallest weighted reward where
    the advantage grows with it within a group, as for `dr_grpo`, `grpo` and `dvao`. Equal
    advantages give no pair. A group has one pair at most: other completions have no gradient.

    Not to be confused with: the offline method. The pairs here are the policy's own completions of
    this step, chosen by rewards, as in online DPO. Nor with a loss per token: the log-probabilities
    of a completion are summed, and there is no ratio to the policy that sampled.

    Args:
        logp: `[..., G, T]` log-probability of each sampled token under the policy, in nats.
        logp_reference: `[..., G, T]` the same under the reference; no gradient flows through it.
        advantages: `[..., G]`, one per completion; only their order matters.
        where: `[..., G, T]` bool, true on sampled tokens; elsewhere values are ignored. A
            completion without one is in no pair.
        beta: how much a margin in nats counts, above 0; smaller values move the policy farther from
            the reference.

    Returns:
        The loss as the sum over pairs and their number, and the metrics to log.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: `beta` is not positive and finite.
    """
    require_positive(beta=beta)
    require_axes("logp", logp, range(2, 9), axes="[..., G, T]")
    for name, x in (("logp_reference", logp_reference), ("where", where)):
        require_shape(name, x, logp.shape, axes="[..., G, T]", like="logp")
    require_shape("advantages", advantages, logp.shape[:-1], axes="[..., G]", like="logp")
    reference = jax.lax.stop_gradient(on_tokens(logp_reference, where, name="logp_reference"))
    gains = masked_sum(on_tokens(logp, where, name="logp") - reference, where, axis=-1)
    is_sampled = jnp.any(where, axis=-1)
    pairs = best_and_worst(jax.lax.stop_gradient(advantages), is_sampled)
    margin = beta * (_at(gains, pairs.best) - _at(gains, pairs.worst))
    info = PairInfo(
        masked_mean(margin, pairs.exists),
        masked_mean((margin > 0).astype(margin.dtype), pairs.exists),
        masked_mean(pairs.exists.astype(margin.dtype), jnp.any(is_sampled, axis=-1)),
    )
    return masked_mean(-jax.nn.log_sigmoid(margin), pairs.exists), jax.lax.stop_gradient(info)


def _at(values: Array, index: Array) -> Array:
    """`[...]`, the value `[..., G]` at each group's index."""
    return jnp.take_along_axis(values, index[..., None], axis=-1)[..., 0]
