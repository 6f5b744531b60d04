"""Reward combination: sum the rewards, then normalise (the baseline RC of arXiv 2605.25604)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax.aggregators._core import group


def reward_combination(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ddof: int = 0,
    epsilon: float = 0.0,
) -> Array:
    r"""The weighted sum of the rewards, normalised within its group.

    $$ A_i = \frac{\sum_k w_k (r_{ik} - \mu_k)}{\sigma_{sum}}, \qquad
       \sigma_{sum} = \operatorname{std}_i \sum_k w_k r_{ik} $$

    Its mean square is 1 in every group, even if the objectives almost cancel. If they cancel up to
    rounding error (`numerics.standardise`), the advantage is 0.

    Not to be confused with: `grpo`, the same formula with the sample's standard deviation and an
    epsilon, as in verl; `dvao`, which divides by `sum_k w_k sigma_k` instead; and
    `advantage_combination`, which normalises each objective *before* the sum.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        ddof: 0 for the population's standard deviation, which the paper's propositions need; 1 for
            the sample's.
        epsilon: added to the standard deviation; the paper has none.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    batch = group.prepare_batch(rewards, weights, mask)
    advantages = group.standardised_sum(batch, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])
