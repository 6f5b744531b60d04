"""VPO: vector policy optimisation (Bahlous-Boldi et al., arXiv 2605.22817; code ryanboldi/vpo)."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group, sobol
from dvaojax.errors import suggest

SEQUENCES = ("independent", "sobol")
"""The values of `sequence`."""


def vpo(
    rewards: ArrayLike,
    weights: ArrayLike,
    key: Array,
    *,
    mask: ArrayLike | None = None,
    answers: int = 1,
    draws: int = 100,
    concentration: float = 1.0,
    sequence: str = "independent",
    epsilon: float = 1e-6,
) -> Array:
    r"""The z-score of the value of a *set* of answers, averaged over random trade-offs.

    A completion contains m answers, each with a reward vector. With S trade-offs drawn for every
    group and shared by its completions,

    $$ R_i = \frac{1}{S} \sum_s \max_{y \in i} \sum_k \omega^{(s)}_k r_{iyk}, \qquad
       \omega^{(s)} \sim \operatorname{Dirichlet}(\alpha K \bar w), \qquad
       A_i = \frac{R_i - \operatorname{mean}(R)}{\operatorname{std}(R) + \epsilon} $$

    A set has a high value if there is a good answer for each trade-off, which rewards answers with
    different strengths. The defaults are those of the official code: 100 draws, alpha 1, the
    population's deviation, and an advantage of 0 if it is below epsilon. That code has no weights:
    equal weights give its Dirichlet(alpha, ..., alpha), others shift the mean of the draws to
    $\bar w = w / \sum w$. Objectives of weight 0 are left out and not counted in K.

    With `sequence="sobol"` the trade-offs of a group are scrambled Sobol points, which cover the
    simplex more evenly, so that fewer of them give the same noise; each is still a Dirichlet draw.
    It is an option of the official code, too, which there maps K - 1 dimensions to the simplex by
    sorting if alpha is 1; here K dimensions are mapped by the quantiles of gamma variables for any
    alpha, as it does otherwise.

    Not to be confused with: a hypervolume, or a policy that is conditioned on the trade-off. With
    one answer per completion it is `grpo` with random weights, which does not reward diversity. The
    rewards are not normalised, so an objective with a larger scale dominates most trade-offs.

    Args:
        rewards: `[..., G, m * K]`: the K objectives of the first answer, then those of the second.
        weights: `[m * K]` or `[..., m * K]`, not negative; an objective's weight is the mean over
            its answers.
        key: a random key, consumed.
        mask: `[..., G, m * K]` bool. An answer that was not scored on any objective is not in the
            set; other masked rewards count as the group's mean of the objective. To penalise a
            completion without any answer, as the official code does, score it as one answer of
            reward 0.
        answers: m.
        draws: S, number of trade-offs of each group.
        concentration: alpha; if large, trade-offs are close to their mean, if small, close to a
            single objective.
        sequence: "independent" draws, or "sobol" points.
        epsilon: added to the standard deviation; smaller deviations give advantages of 0.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective of every answer is constant.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: the number of objectives is not a multiple of `answers`; a knob is not positive
            or unknown; outside jit, an unmasked reward is not finite, or a weight is negative.
    """
    batch = group.prepare_batch(rewards, weights, mask)
    num_groups, size, columns = batch.rewards.shape
    if answers < 1 or columns % answers:
        raise ValueError(f"answers={answers} does not divide the {columns} objectives")
    if draws < 1 or not concentration > 0:
        raise ValueError(f"draws={draws} and concentration={concentration} must be positive")
    if sequence not in SEQUENCES:
        raise ValueError(f"sequence: unknown {suggest(sequence, SEQUENCES)}")
    shape = (num_groups, size, answers, columns // answers)
    where = batch.where.reshape(shape)
    vectors = _centred(batch.rewards.reshape(shape), where)
    means = jnp.broadcast_to(batch.weights, (num_groups, columns))
    means = jnp.mean(means.reshape(num_groups, *shape[2:]), axis=1)
    drawn = trade_offs(key, means, draws=draws, concentration=concentration, sequence=sequence)
    values = jax.vmap(jax.vmap(set_value, (0, 0, None)))(vectors, jnp.any(where, axis=-1), drawn)
    moments = jax.vmap(numerics.moments)(values, batch.scored)
    has_signal = group.has_signal(group.statistics(batch, ddof=0).deviation)
    has_signal &= moments.deviation >= epsilon
    deviation = jnp.where(has_signal, moments.deviation + epsilon, 0)
    advantages = numerics.safe_divide(moments.centred, deviation[:, None])
    return advantages.reshape(jnp.shape(rewards)[:-1])


def set_value(vectors: Array, exists: Array, drawn: Array) -> Array:
    """Value of the best answer for each trade-off, averaged over trade-offs; 0 for an empty set.

    Args:
        vectors: `[m, K]`, the rewards of each answer.
        exists: `[m]` bool, false where there is no answer.
        drawn: `[S, K]` trade-offs, each with sum 1.

    Returns:
        `[]`.

    Raises:
        AssertionError: the shapes do not match.
    """
    numerics.require_shape(
        "drawn", drawn, (drawn.shape[0], vectors.shape[-1]), axes="[S, K]", like="vectors"
    )
    values = jnp.einsum("mk,sk->sm", vectors, drawn, precision=jax.lax.Precision.HIGHEST)
    best = jnp.max(jnp.where(exists[None], values, -jnp.inf), axis=-1)
    return jnp.mean(jnp.where(jnp.any(exists), best, 0))


def trade_offs(
    key: Array,
    weights: Array,
    *,
    draws: int,
    concentration: float,
    sequence: str = "independent",
) -> Array:
    """Draws random trade-offs with the weights of each group as their mean.

    Args:
        key: a random key, consumed.
        weights: `[B, K]`, not negative.
        draws: S.
        concentration: alpha.
        sequence: of `SEQUENCES`.

    Returns:
        `[B, S, K]`, with sum 1 (0 if all weights are 0) and mean `w / sum w`; draws of different
        groups are independent.
    """
    total = jnp.sum(weights, axis=-1, keepdims=True)
    count = jnp.sum(weights > 0, axis=-1, dtype=weights.dtype, keepdims=True)
    alpha = concentration * count * numerics.safe_divide(weights, total)
    positive = jnp.where(alpha > 0, alpha, 1)
    if sequence == "sobol":
        drawn = sobol.dirichlet(key, positive, draws=draws)
    else:
        drawn = jax.random.dirichlet(key, positive, (draws, len(weights)), dtype=weights.dtype)
    # Without the objectives of weight 0, the normalised rest is again a Dirichlet draw.
    kept = jnp.where(alpha[None] > 0, drawn, 0)
    kept = numerics.safe_divide(kept, jnp.sum(kept, axis=-1, keepdims=True))
    return jnp.swapaxes(kept, 0, 1)


def _centred(vectors: Array, where: Array) -> Array:
    """`[B, G, m, K]` minus each objective's mean over the group's answers; 0 where not scored.

    As the group shares its trade-offs this does not change the advantages, and it avoids rounding
    errors if the rewards have a large offset.
    """
    count = jnp.sum(where, axis=(1, 2), dtype=vectors.dtype, keepdims=True)
    total = numerics.masked_sum(vectors, where, axis=(1, 2))[:, None, None]
    return jnp.where(where, vectors - numerics.safe_divide(total, count), 0)
