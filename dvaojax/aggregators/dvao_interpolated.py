"""Interpolation between reward combination and DVAO (arXiv 2605.25604); our variant."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


def dvao_interpolated(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    caution: float = 0.5,
    ddof: int = 0,
    epsilon: float = 0.0,
) -> Array:
    r"""The centred sum, divided by its deviation for correlations that are moved towards 1.

    Reward combination and DVAO divide the same centred sum. Reward combination divides it by its
    standard deviation, DVAO by its standard deviation if all correlations were 1:

    $$ \sigma_{sum}^2 = \sum_{kl} w_k w_l \sigma_k \sigma_l \rho_{kl}, \qquad
       S^2 = \Bigl(\sum_k w_k \sigma_k\Bigr)^2 = \sum_{kl} w_k w_l \sigma_k \sigma_l $$

    This method uses $\rho(\alpha) = (1 - \alpha) \rho + \alpha 1 1'$, which is a correlation matrix
    for every alpha in [0, 1]:

    $$ A_i = \frac{\sum_k w_k (r_{ik} - \mu_k)}{D}, \qquad
       D^2 = \sum_{kl} w_k w_l \sigma_k \sigma_l \rho_{kl}(\alpha)
           = (1 - \alpha) \sigma_{sum}^2 + \alpha S^2 $$

    With the agreement $a = \sigma_{sum} / S$ the mean square of a group is
    $a^2 / (\alpha + (1 - \alpha) a^2)$: 1 for reward combination, $a^2$ for DVAO, and decreasing in
    alpha, so that `|dvao| <= |A| <= |reward_combination|` for each completion. Any alpha above 0
    bounds the advantages of a group whose objectives almost cancel: its divisor is at least
    $\sqrt\alpha S$, whereas reward combination divides rounding error by rounding error.

    Measured effect: with rewards of known signal and independent noise of half its size (400
    batches of 32 groups of 8, two objectives whose signals have correlations from -1 to 1), the
    cosine with the centred sum of the signals is 0.80 for alpha = 0, 0.85 for 0.25, 0.86 for 0.5,
    0.87 for 0.75 and 0.87 for 1. Most of the gain is in the first quarter of the way from reward
    combination to DVAO, and DVAO itself is best if conflict is where the noise is. The advantage of
    an alpha below 1 is that groups whose objectives disagree keep larger advantages.

    Not to be confused with: interpolating the advantages, which is not a division by the root of
    any covariance. The order within a group is the same for every alpha.

    Args:
        rewards: `[..., G, K]`, as the reward functions return them.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        caution: alpha in [0, 1]: 0 is `reward_combination`, 1 is `dvao`.
        ddof: 0 for the population's standard deviation, 1 for the sample's.
        epsilon: added to the divisor.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: caution is not in [0, 1]; outside jit, an unmasked reward is not finite, or a
            weight is negative.
    """
    if not 0 <= caution <= 1:
        raise ValueError(f"caution={caution} must lie in [0, 1]")
    total = group.centred_sum(group.prepare_batch(rewards, weights, mask), ddof=ddof)
    # In units of S, so that squares neither overflow nor underflow; exact for alpha of 0 and 1.
    agreement = numerics.safe_divide(total.deviation, total.scale)
    deviation = jnp.where(
        caution == 0,
        total.deviation,
        total.scale * numerics.safe_sqrt((1 - caution) * jnp.square(agreement) + caution),
    )
    advantages = numerics.standardise(
        total.centred,
        (deviation + epsilon)[:, None],
        deviation=deviation[:, None],
        scale=total.scale[:, None],
    )
    return advantages.reshape(jnp.shape(rewards)[:-1])
