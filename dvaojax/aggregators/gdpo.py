"""GDPO: group reward-decoupled normalisation policy optimisation (Liu et al., arXiv 2601.05242)."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group, whitening


def gdpo(
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ddof: int = 1,
    epsilon: float = numerics.TRL_EPSILON,
) -> Array:
    r"""The weighted sum of the z-scores, whitened over all completions of the batch.

    $$ A_i = \sum_k w_k \frac{r_{ik} - \mu_k}{\sigma_k + \epsilon}, \qquad
       \hat A_i = \frac{A_i - \operatorname{mean}_{batch}(A)}
                       {\operatorname{std}_{batch}(A) + \epsilon} $$

    Statistics are per group and objective, followed by one whitening over the leading axes, after
    which only the ratios of the weights matter. The defaults are those of the official code for TRL
    (NVlabs/GDPO@b080e63d): sample deviations, 1e-4 on both, each completion counted once of any
    length. As in that code, zero-variance groups count in the batch's deviation; their
    advantages are exactly 0.

    Not to be confused with: `advantage_combination`, which is the first step only. The official
    code for verl whitens over *tokens*, which is another estimator, `gdpo_token_weighted`.
    Normalising each objective does not distinguish the rewards (1, 0) and (0, 1): in a group of
    these two, with equal weights, the z-scores cancel to 0. It distinguishes groups of (0, 1) from
    groups of (0, 2), which normalising the sum does not.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation and to the batch's.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    batch = group.prepare_batch(rewards, weights, mask)
    advantages = whitening.whitened_sum(batch, ddof=ddof, epsilon=epsilon)
    return advantages.reshape(jnp.shape(rewards)[:-1])


def gdpo_token_weighted(
    rewards: ArrayLike,
    weights: ArrayLike,
    lengths: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    ddof: int = 1,
    epsilon: float = numerics.VERL_EPSILON,
    variance_epsilon: float = numerics.VERL_VARIANCE_EPSILON,
) -> Array:
    r"""GDPO with the whitening of verl, in which every completion counts once per token.

    $$ \hat A_i = \frac{A_i - m}{\sqrt{v + \epsilon_v}}, \qquad
       m = \frac{\sum_i L_i A_i}{\sum_i L_i}, \qquad
       v = \frac{\sum_i L_i (A_i - m)^2}{\sum_i L_i - 1} $$

    with $A_i$ as in `gdpo` and lengths $L_i$ in tokens. Long completions have more influence on the
    mean, so the advantages of a group do not sum to 0. The defaults are those of verl and of the
    official code for it. Zero-variance groups get exactly 0 here, and the whitened 0, -m over the
    deviation, there.

    Not to be confused with: `gdpo`, which counts completions: four of lengths 10, 10, 1000, 1000
    with the rewards 1, 1, 0, 0 get about 10, 10, -0.1, -0.1 here, but 0.87, 0.87, -0.87, -0.87 with
    `gdpo`.

    Args:
        rewards: `[..., G, K]`; all leading axes are the batch.
        weights: `[K]` or `[..., K]`, not negative.
        lengths: `[..., G]`, number of tokens of each completion.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.
        ddof: 1 for the sample's standard deviations, 0 for the population's.
        epsilon: added to each objective's standard deviation.
        variance_epsilon: added to the batch's variance.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    group.check_lengths(lengths, rewards)
    batch = group.prepare_batch(rewards, weights, mask)
    scores = group.standard_scores(batch, ddof=ddof, epsilon=epsilon)
    tokens = jnp.asarray(lengths).astype(scores.values.dtype).reshape(batch.scored.shape)
    whitened = whitening.whiten(
        group.weighted_sum(scores.values, batch.weights),
        group.weighted_sum(jnp.abs(scores.values), batch.weights),
        jnp.where(batch.scored, tokens, 0),
        ddof=ddof,
        variance_epsilon=variance_epsilon,
    )
    advantages = jnp.where(batch.scored & scores.has_signal[:, None], whitened, 0)
    return advantages.reshape(jnp.shape(rewards)[:-1])
