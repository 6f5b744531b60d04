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
    r"""GRPO on dense rewards, where a rejected completion is worth the least of the accepted ones.

    $$ R_i = \sum_k w_k r_{ik} \text{ if accepted, else } \min_{j \text{ accepted}} R_j, \qquad
       A_i = \frac{R_i - \operatorname{mean}(R)}{\operatorname{std}(R) + \epsilon} $$

    Checks decide before anything is ranked: however high its dense reward, a rejected completion
    never gets a larger advantage than an accepted one, nor a positive one. A group with fewer than
    `min_accepted` accepted completions is left out. A reconstruction: the paper says that rubrics
    are constraints on the group of rollouts, and its exact rule was not found.

    What it is confused with. Not a penalty: no weight trades a check off against the dense reward,
    and where all accepted completions are worth the same the checks teach nothing. verl's loss
    called `dro` is Direct Reward Optimisation, another method.

    Args:
        rewards: `[..., G, K]` the dense rewards.
        weights: `[K]` or `[..., K]`, not negative.
        is_accepted: `[..., G]` bool, see `accepted`.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored. An
            accepted completion of which nothing was scored gets 0 and moves nobody.
        min_accepted: the least number of accepted completions that a group is learnt from.
        ddof: 1 for the sample's standard deviation, 0 for the population's.
        epsilon: added to the standard deviation.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards).

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: outside jit, a reward that counts is not finite, or a weight is negative.
    """
    batch = group.open_batch(rewards, weights, mask)
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
    gated = group.Batch(worth, jnp.ones((1,), worth.dtype), counts[..., None])
    advantages = group.standardised_sum(gated, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def accepted(checks: ArrayLike, *, mask: ArrayLike | None = None, threshold: float = 1.0) -> Array:
    """Which completions pass every check that applies to them.

    Args:
        checks: `[..., G, R]`, what each rubric item or other check says.
        mask: `[..., G, R]` bool, false where a check does not apply, and so rejects nobody.
        threshold: what a check has to reach.

    Returns:
        `[..., G]` bool.
    """
    passes = jnp.asarray(checks) >= threshold
    return jnp.all(passes if mask is None else passes | ~jnp.asarray(mask), axis=-1)
