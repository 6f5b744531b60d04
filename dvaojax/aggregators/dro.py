"""DRO: rubric gates before a dense reward (Xu et al., arXiv 2506.13351, versions 2 and 3)."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group
from dvaojax.aggregators._core.aggregator import PerObjective, per_objective


def dro(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    gates: PerObjective = -math.inf,
    min_accepted: int = 1,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""GRPO on dense rewards; a rejected completion gets the lowest reward of the accepted ones.

    $$ R_i = \sum_{k \text{ no gate}} w_k r_{ik} \text{ if accepted, else }
       \min_{j \text{ accepted}} R_j, \qquad
       A_i = \frac{R_i - \operatorname{mean}(R)}{\operatorname{std}(R) + \epsilon} $$

    An objective with a finite number in `gates` is a gate: it accepts completions whose reward is
    at least that number, and a completion that any gate rejects is rejected. Gates have no weight.
    A task may declare its gates, which are then the default of a run. Gates are applied before the
    ranking: a rejected completion never gets a positive advantage or one larger than that of an
    accepted completion, for any dense reward. The advantages of a group with fewer than
    `min_accepted` accepted completions are 0. This is a reconstruction: according to the paper,
    rubrics constrain the group of rollouts; we could not find its exact rule.

    Not to be confused with: a penalty, which trades a check off against the dense reward. Where all
    accepted completions have the same reward, the gates have no effect, and without gates this is
    `grpo`. verl's loss `dro` is Direct Reward Optimisation, another method.

    Args:
        rewards: `[..., G, K]`, the dense rewards and the gates.
        weights: `[K]` or `[..., K]`, not negative; those of gates are not used.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored. A gate
            does not reject then. An accepted completion that was not scored on any dense objective
            gets 0 and does not affect the others.
        gates: smallest reward of an accepted completion; minus infinity for a dense objective.
        min_accepted: the minimum number of accepted completions of a group.
        ddof: 1 for the sample's standard deviation, 0 for the population's.
        epsilon: added to the standard deviation.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards).

    Raises:
        AssertionError: the shapes do not match.
        ValueError: every objective is a gate, or there are not as many gates as objectives; outside
            jit, an unmasked reward is not finite, or a weight is negative.
    """
    batch = group.prepare_batch(rewards, weights, mask)
    if np.all(np.asarray(gates) > -math.inf):
        raise ValueError(f"gates={gates} leave no objective that ranks: one must be minus infinity")
    limits = per_objective(gates, jnp.zeros(batch.where.shape[-1], batch.rewards.dtype))
    is_dense = limits == -math.inf
    passes = jnp.all((batch.rewards >= limits[None, None]) | ~batch.where, axis=-1)
    dense = batch._replace(
        weights=jnp.where(jnp.broadcast_to(is_dense, batch.weights.shape), batch.weights, 0),
        where=batch.where & is_dense[None, None],
    )
    advantages = _ranked(dense, passes, min_accepted=min_accepted, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def dro_of_checks(
    rewards: ArrayLike,
    weights: ArrayLike,
    is_accepted: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    min_accepted: int = 1,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
) -> Array:
    r"""`dro` with the completions that are accepted as an argument, in place of gates.

    $$ R_i = \sum_k w_k r_{ik} \text{ if accepted, else } \min_{j \text{ accepted}} R_j, \qquad
       A_i = \frac{R_i - \operatorname{mean}(R)}{\operatorname{std}(R) + \epsilon} $$

    This is a reconstruction, like `dro`.

    Not to be confused with: `dro`, whose gates are objectives, as a run needs them. Here checks may
    be any function of the completions, such as the items of a rubric (`accepted`).

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
    advantages = _ranked(batch, passes, min_accepted=min_accepted, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def _ranked(
    batch: group.GroupedRewards, passes: Array, *, min_accepted: int, ddof: int, epsilon: float
) -> Array:
    """The advantages `[B, G]` of dense rewards, given which completions pass, `[B, G]` bool."""
    ranked = passes & batch.scored
    total = group.centred_sum(batch._replace(where=batch.where & ranked[..., None]), ddof=ddof)
    least = jnp.min(jnp.where(ranked, total.centred, jnp.inf), axis=-1, keepdims=True)
    least = jnp.where(jnp.isfinite(least), least, 0)
    worth = jnp.where(ranked, total.centred, least)
    enough = jnp.sum(ranked, axis=-1) >= min_accepted
    counts = (ranked | ~passes) & enough[:, None]
    return group.standardised(worth, counts, total.scale, ddof=ddof, epsilon=epsilon)


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
