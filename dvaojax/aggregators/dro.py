"""DRO: rubric gates before a dense reward (Xu et al., arXiv 2506.13351, versions 2 and 3)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


def dro(
    rewards: ArrayLike,
    weights: ArrayLike,
    is_accepted: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    min_accepted: int = 1,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""GRPO on dense rewards; a rejected completion gets the lowest reward of the accepted ones.

    $$ R_i = \sum_k w_k r_{ik} \text{ if accepted, else } \min_{j \text{ accepted}} R_j, \qquad
       A_i = \frac{R_i - \operatorname{mean}(R)}{\operatorname{std}(R) + \epsilon} $$

    Checks are applied before the ranking: a rejected completion never gets a positive advantage or
    one larger than that of an accepted completion, for any dense reward. The advantages of a group
    with fewer than `min_accepted` accepted completions are 0. This is a reconstruction: according
    to the paper, rubrics constrain the group of rollouts; we could not find its exact rule.

    Not to be confused with: a penalty, which trades a check off against the dense reward. Where all
    accepted completions have the same reward, the checks have no effect. verl's loss `dro` is
    Direct Reward Optimisation, another method.

    Args:
        rewards: `[..., G, K]` the dense rewards.
        weights: `[K]` or `[..., K]`, not negative.
        is_accepted: `[..., G]` bool, see `accepted`.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored. An
            accepted completion that was not scored at all gets 0 and does not affect the others.
        min_accepted: the minimum number of accepted completions of a group.
        ddof: 1 for the sample's standard deviation, 0 for the population's.
        epsilon: added to the standard deviation.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards).

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    batch = group.prepare_batch(rewards, weights, mask)
    passes = jnp.asarray(is_accepted).reshape(batch.where.shape[:2])
    ranked = passes & batch.scored
    worth = group.weighted_sum(
        group.statistics(batch._replace(where=batch.where & ranked[..., None]), ddof=0).centred,
        batch.weights,
    )
    least = jnp.min(jnp.where(ranked, worth, jnp.inf), axis=-1, keepdims=True)
    least = jnp.where(jnp.isfinite(least), least, 0)
    worth = jnp.where(ranked, worth, least)[..., None]
    enough = jnp.sum(ranked, axis=-1) >= min_accepted
    counts = (ranked | ~passes) & enough[:, None]
    gated = group.GroupedRewards(worth, jnp.ones((1,), worth.dtype), counts[..., None])
    advantages = group.standardised_sum(gated, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def accepted(checks: ArrayLike, *, mask: ArrayLike | None = None, threshold: float = 1.0) -> Array:
    """Whether each completion passes all checks that apply to it.

    Args:
        checks: `[..., G, R]`, scores of rubric items or other checks.
        mask: `[..., G, R]` bool, false where a check does not apply; it does not reject then.
        threshold: the minimum score of a check that passes.

    Returns:
        `[..., G]` bool.
    """
    passes = jnp.asarray(checks) >= threshold
    return jnp.all(passes if mask is None else passes | ~jnp.asarray(mask), axis=-1)
