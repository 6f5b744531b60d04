"""REINFORCE++: advantages whitened over the whole batch (Hu et al., arXiv 2501.03262)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import batch as batches
from dvaojax.aggregators._core import group, whitening


def reinforce_plus_plus(
    rewards: ArrayLike,
    weights: ArrayLike,
    lengths: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ddof: int = 1,
    variance_epsilon: float = numerics.VERL_VARIANCE_EPSILON,
) -> Array:
    r"""The weighted sum of the rewards, whitened over all tokens of the batch, ignoring groups.

    $$ A_i = \frac{r_i - m}{\sqrt{v + \epsilon_v}}, \qquad
       m = \frac{\sum_i L_i r_i}{\sum_i L_i}, \qquad
       v = \frac{\sum_i L_i (r_i - m)^2}{\sum_i L_i - 1}, \qquad r_i = \sum_k w_k r_{ik} $$

    The reward-to-go is the same at each of the $L_i$ tokens of a completion, because there is no
    discount and the KL penalty is part of the loss here, not of the reward. Each completion
    therefore counts once per token, as in verl (verl-project/verl@1dda039b9). A masked reward
    counts as its group's mean, or as the batch's mean if no completion of the group was scored on
    the objective.

    Not to be confused with: `reinforce_plus_plus_baseline` and `lite_ppo`, which subtract the
    group's mean. **This method ignores groups**, the only one here: one completion per prompt is
    enough, and the advantages of a zero-variance group are not 0 but the distance from the batch's
    mean, so that easy prompts are always reinforced.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        lengths: `[..., G]`, number of tokens of each completion.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        ddof: 1 for the sample's variance, 0 for the population's.
        variance_epsilon: added to the variance.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 for a completion that was not
        scored, and everywhere if all sums of the batch are equal.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    group.check_lengths(lengths, rewards)
    batch = group.prepare_batch(rewards, weights, mask)
    objectives = group.statistics(batch, ddof=0)
    departures = batches.statistics(objectives, ddof=0).departures
    total = group.weighted_sum(objectives.centred, batch.weights)
    above_batch = group.weighted_sum(departures, batch.weights)[:, None]
    sizes = group.weighted_sum(objectives.deviation + jnp.abs(departures), batch.weights)
    advantages = _whitened_over_tokens(
        total + above_batch, sizes, batch, lengths, ddof=ddof, variance_epsilon=variance_epsilon
    )
    return advantages.reshape(jnp.shape(rewards)[:-1])


def reinforce_plus_plus_baseline(
    rewards: ArrayLike,
    weights: ArrayLike,
    lengths: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ddof: int = 1,
    variance_epsilon: float = numerics.VERL_VARIANCE_EPSILON,
) -> Array:
    r"""The weighted sum of the rewards minus its group's mean, whitened over the batch's tokens.

    $$ A_i = \frac{c_i - m}{\sqrt{v + \epsilon_v}}, \qquad
       c_i = r_i - \operatorname{mean}_{group}(r) $$

    with m and v the mean and the variance of c over the tokens of the batch, as in
    `reinforce_plus_plus`. In a group of one, verl uses the raw reward for c; here the advantage is
    0. A zero-variance group gets exactly 0 here, and the whitened 0, -m over the deviation, there.

    Not to be confused with: `lite_ppo`, which divides by the deviation of the raw sums. This method
    divides by the deviation of the centred sums and subtracts their mean over tokens, which is not
    0; the advantages of a group do not sum to 0 either.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        lengths: `[..., G]`, number of tokens of each completion.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        ddof: 1 for the sample's variance, 0 for the population's.
        variance_epsilon: added to the variance.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    group.check_lengths(lengths, rewards)
    batch = group.prepare_batch(rewards, weights, mask)
    objectives = group.statistics(batch, ddof=0)
    whitened = _whitened_over_tokens(
        group.weighted_sum(objectives.centred, batch.weights),
        group.weighted_sum(objectives.deviation, batch.weights),
        batch,
        lengths,
        ddof=ddof,
        variance_epsilon=variance_epsilon,
    )
    advantages = jnp.where(group.has_signal(objectives.deviation)[:, None], whitened, 0)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def _whitened_over_tokens(
    values: Array,
    sizes: Array,
    batch: group.GroupedRewards,
    lengths: ArrayLike,
    *,
    ddof: int,
    variance_epsilon: float,
) -> Array:
    """Whitens `[B, G]`, counting each completion once per token; 0 where it was not scored.

    Args:
        values: `[B, G]`.
        sizes: `[B]`, size of the terms that a group's values are sums of.
        batch: the rewards and their mask.
        lengths: `[..., G]`.
        ddof: 1 for the sample's variance, 0 for the population's.
        variance_epsilon: added to the variance.
    """
    tokens = jnp.asarray(lengths).astype(values.dtype).reshape(values.shape)
    whitened = whitening.whiten(
        values,
        jnp.broadcast_to(sizes[:, None], values.shape),
        jnp.where(batch.scored, tokens, 0),
        ddof=ddof,
        variance_epsilon=variance_epsilon,
    )
    return jnp.where(batch.scored, whitened, 0)
