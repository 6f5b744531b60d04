"""The mean baseline of James and Stein (Zeng et al., arXiv 2511.03710)."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import batch as batches
from dvaojax.aggregators._core import group


def james_stein(rewards: ArrayLike, weights: ArrayLike, *, mask: ArrayLike | None = None) -> Array:
    r"""The weighted sum minus a mix of the group's other completions and the batch's other groups.

    $$ A_{ij} = r_{ij} - (1 - \lambda_i)\, \mu_i^{-j} - \lambda_i\, \bar\mu_{-i}, \qquad
       \lambda_i = \frac{n - 1}{n} \frac{v_{-i}}{v_{-i} + s_{-i}}, \qquad
       r_{ij} = \sum_k w_k r_{ijk} $$

    for completion j of group i of n: $\mu_i^{-j}$ is the mean of the group's other completions,
    $\bar\mu_{-i}$ the mean of the other groups' means, $v_{-i}$ the mean over the other groups of
    the sampling variance of their means, $\sum_j (r_{kj} - \mu_k)^2 / (m (m - 1))$, and $s_{-i}$
    the mean square of the other groups' means about $\bar\mu_{-i}$ (equations 10 and 13 to 16). The
    baseline does not depend on the completion's own reward, so the gradient is unbiased. It has no
    knobs. For several objectives this is applied to their weighted sum.

    A group in which every objective is constant does not get 0, but its distance from the batch's
    mean times lambda: an easy problem is reinforced a little, a hard one discouraged a little.

    A masked reward counts as its group's mean, or as the batch's mean if no completion of the group
    was scored on the objective. A group with a single scored completion has lambda 1 and no part in
    $v$, and with no other group lambda is 0: neither is in the paper.

    Not to be confused with: `rloo`, the limit of lambda 0, which compares within a group only, and
    `reinforce_plus_plus`, which compares with the batch's mean only. `dvao_shrunk` shrinks the
    deviations of the objectives, and not their means.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards), on the scale of the rewards; exactly 0 for
        a completion that was not scored, and everywhere if every objective is constant over the
        batch.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    batch = group.prepare_batch(rewards, weights, mask)
    departures = batches.statistics(group.statistics(batch, ddof=0), ddof=0).departures
    total = group.centred_sum(batch, ddof=0)
    count = jnp.sum(batch.scored, axis=-1, dtype=total.deviation.dtype)
    others = _other_groups(total, group.weighted_sum(departures, batch.weights), count)
    is_alone = count == 1
    share = jnp.where(is_alone, 1, others.share)
    own = 1 + (1 - share) * numerics.safe_divide(jnp.ones_like(count), count - 1)
    advantages = total.centred * own[:, None] + (share * others.departure)[:, None]
    return jnp.where(batch.scored, advantages, 0).reshape(jnp.shape(rewards)[:-1])


class _OtherGroups(NamedTuple):
    """Each group compared with the other groups of the batch.

    Attributes:
        departure: `[B]`, the group's mean minus the mean of the other groups' means; 0 without any.
        share: `[B]`, lambda, from the other groups alone; 0 without any.
    """

    departure: Array
    share: Array


def _other_groups(total: group.CentredSum, means: Array, count: Array) -> _OtherGroups:
    """Compares groups.

    Args:
        total: the rewards of each group; a deviation that is only rounding error counts as 0.
        means: `[B]`, the mean of each group minus any number common to all groups.
        count: `[B]`, scored completions of each group.
    """
    is_group, is_several = count > 0, count > 1
    num_groups = jnp.sum(is_group, dtype=count.dtype)
    from_all = jnp.where(is_group, means - numerics.masked_mean(means, is_group).value, 0)
    num_others = jnp.maximum(num_groups - 1, 0)
    departure = numerics.safe_divide(num_groups * from_all, num_others)
    is_rounding = total.deviation <= jnp.finfo(count.dtype).eps ** 0.5 * total.scale
    deviation = jnp.where(is_rounding, 0, total.deviation)
    # In units of the largest: the share is a ratio of squares, which might overflow.
    unit = jnp.max(jnp.maximum(jnp.abs(from_all), deviation), initial=0)
    distance, deviation = (numerics.safe_divide(x, unit) for x in (from_all, deviation))
    # The mean square about the mean of the others, from that about the mean of all.
    squares = jnp.sum(jnp.square(distance)) - distance * numerics.safe_divide(departure, unit)
    between = jnp.where(num_groups > 2, jnp.maximum(squares, 0), 0)
    between = numerics.safe_divide(between, num_others)
    sampling = numerics.safe_divide(jnp.square(deviation), count - 1)
    within = numerics.safe_divide(
        jnp.sum(sampling) - sampling,
        jnp.sum(is_several, dtype=count.dtype) - is_several.astype(count.dtype),
    )
    share = numerics.safe_divide(within, within + between)
    return _OtherGroups(departure, share * numerics.safe_divide(num_others, num_groups))
