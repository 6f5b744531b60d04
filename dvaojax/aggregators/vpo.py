"""VPO: vector policy optimisation (Bahlous-Boldi et al., arXiv 2605.22817; code ryanboldi/vpo)."""

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group


def vpo(
    rewards: ArrayLike,
    weights: ArrayLike,
    key: Array,
    *,
    mask: ArrayLike | None = None,
    answers: int = 1,
    draws: int = 100,
    concentration: float = 1.0,
    epsilon: float = 1e-6,
) -> Array:
    r"""What a *set* of answers is worth to somebody whose trade-off is not known, as a z-score.

    A completion holds m answers, each with its reward vector. With S trade-offs drawn anew for
    every group and shared by its completions,

    $$ R_i = \frac{1}{S} \sum_s \max_{y \in i} \sum_k \omega^{(s)}_k r_{iyk}, \qquad
       \omega^{(s)} \sim \operatorname{Dirichlet}(\alpha K \bar w), \qquad
       A_i = \frac{R_i - \operatorname{mean}(R)}{\operatorname{std}(R) + \epsilon} $$

    A set is worth more if some answer serves each trade-off, so that answers which differ in what
    they are good at pay. The defaults are those of the official code: 100 draws, alpha 1, the
    population's deviation, and 0 where it is below epsilon. That code knows no weights: equal ones
    give its Dirichlet(alpha, ..., alpha), and others shift the mean of the draws to
    $\bar w = w / \sum w$; an objective of weight 0 is left out, of K too.

    What it is confused with. Not a hypervolume, and not conditioned on a goal: nothing tells the
    policy the trade-off. With one answer a completion it is `grpo` under random weights, which
    rewards no diversity. Rewards enter as they are: no objective is normalised, and one on a larger
    scale decides most trade-offs.

    Args:
        rewards: `[..., G, m * K]`: the K objectives of the first answer, then those of the second.
        weights: `[m * K]` or `[..., m * K]`, not negative; an objective's weight is the mean over
            its answers.
        key: a random key, consumed.
        mask: `[..., G, m * K]` bool. An answer of which nothing was scored is not in the set; an
            unscored objective of one that is counts as the group's mean of it. A completion without
            any answer that should be held against it, as in the official code, is scored as one
            answer worth 0.
        answers: m.
        draws: S, trade-offs of each group.
        concentration: alpha; large is nearly always the mean trade-off, small nearly always a
            single objective.
        epsilon: added to the standard deviation, and the least deviation that counts.

    Returns:
        `[..., G]` float32 (float64 for float64 rewards); exactly 0 in a group where every
        objective of every answer is constant.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: the objectives do not divide into that many answers, or a knob is not positive;
            outside jit, a reward that counts is not finite, or a weight is negative.
    """
    batch = group.open_batch(rewards, weights, mask)
    num_groups, size, columns = batch.rewards.shape
    if answers < 1 or columns % answers:
        raise ValueError(f"answers={answers} does not divide the {columns} objectives")
    if draws < 1 or not concentration > 0:
        raise ValueError(f"draws={draws} and concentration={concentration} must be positive")
    shape = (num_groups, size, answers, columns // answers)
    where = batch.where.reshape(shape)
    vectors = _centred(batch.rewards.reshape(shape), where)
    wanted = jnp.broadcast_to(batch.weights, (num_groups, columns))
    wanted = jnp.mean(wanted.reshape(num_groups, *shape[2:]), axis=1)
    drawn = trade_offs(key, wanted, draws=draws, concentration=concentration)
    worth = jax.vmap(jax.vmap(set_value, (0, 0, None)))(vectors, jnp.any(where, axis=-1), drawn)
    moments = jax.vmap(numerics.moments)(worth, batch.scored)
    is_alive = group.is_alive(group.statistics(batch, ddof=0).deviation)
    deviation = jnp.where(is_alive & (moments.deviation >= epsilon), moments.deviation + epsilon, 0)
    advantages = numerics.safe_divide(moments.centred, deviation[:, None])
    return advantages.reshape(jnp.shape(rewards)[:-1])


def set_value(vectors: Array, is_there: Array, drawn: Array) -> Array:
    """What a set of answers is worth: the best one for each trade-off, averaged; 0 if empty.

    Args:
        vectors: `[m, K]`, an answer's rewards each.
        is_there: `[m]` bool, false where there is no such answer.
        drawn: `[S, K]` trade-offs, each with sum 1.

    Returns:
        `[]`.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_equal_shape_suffix([vectors, drawn], 1)
    values = jnp.einsum("mk,sk->sm", vectors, drawn, precision=jax.lax.Precision.HIGHEST)
    best = jnp.max(jnp.where(is_there[None], values, -jnp.inf), axis=-1)
    return jnp.mean(jnp.where(jnp.any(is_there), best, 0))


def trade_offs(key: Array, weights: Array, *, draws: int, concentration: float) -> Array:
    """Trade-offs around the weights of each group.

    Args:
        key: a random key, consumed.
        weights: `[B, K]`, not negative.
        draws: S.
        concentration: alpha.

    Returns:
        `[B, S, K]`, each with sum 1 (0 where all weights are 0) and the mean `w / sum w`; draws of
        different groups are independent.
    """
    total = jnp.sum(weights, axis=-1, keepdims=True)
    count = jnp.sum(weights > 0, axis=-1, dtype=weights.dtype, keepdims=True)
    alpha = concentration * count * numerics.safe_divide(weights, total)
    drawn = jax.random.dirichlet(
        key, jnp.where(alpha > 0, alpha, 1), (draws, len(weights)), dtype=weights.dtype
    )
    # Without those of weight 0 the rest is a Dirichlet draw again, once it has sum 1.
    kept = jnp.where(alpha[None] > 0, drawn, 0)
    kept = numerics.safe_divide(kept, jnp.sum(kept, axis=-1, keepdims=True))
    return jnp.swapaxes(kept, 0, 1)


def _centred(vectors: Array, where: Array) -> Array:
    """`[B, G, m, K]` minus each objective's mean over the group's answers; 0 where not scored.

    With trade-offs that the group shares this changes no advantage, and it keeps the digits that
    far-off rewards would round away.
    """
    count = jnp.sum(where, axis=(1, 2), dtype=vectors.dtype, keepdims=True)
    total = numerics.masked_sum(vectors, where, axis=(1, 2))[:, None, None]
    return jnp.where(where, vectors - numerics.safe_divide(total, count), 0)
