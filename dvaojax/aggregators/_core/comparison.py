"""Comparison of two aggregators on the same rewards, for monitoring."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group

_RIDGE = 1e-3  # times the largest possible eigenvalue; the second pass squares its relative error


class Comparison(NamedTuple):
    """Comparison of two sets of advantages for one batch; means are (sum, count) pairs.

    Attributes:
        cosine: `[]`, cosine similarity of the two over the whole batch; its count is 0 if one of
            them is 0 everywhere.
        sign_agreement: `[]`, share of completions whose two advantages have the same sign, among
            those where at least one advantage is not 0.
        mean_square: `[]`, of the other aggregator's advantages, over all completions.
        effective_weight: `[K]`, of the other aggregator, see `effective_weights`, over the groups
            where they are not all 0.
    """

    cosine: numerics.Mean
    sign_agreement: numerics.Mean
    mean_square: numerics.Mean
    effective_weight: numerics.Mean


def compare(
    advantages: ArrayLike,
    other: ArrayLike,
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
) -> Comparison:
    """Compares `other` with `advantages` and computes its effective weights.

    The cosine does not change if one is multiplied by a number; the mean squares show that.

    Args:
        advantages: `[..., G]`, of the aggregator in use.
        other: `[..., G]`, of another aggregator, from the same rewards.
        rewards: `[..., G, K]`.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.

    Raises:
        AssertionError: the shapes do not match.
    """
    used, other = jnp.asarray(advantages), jnp.asarray(other)
    for name, array in (("advantages", used), ("other", other)):
        _check_advantages(name, array, rewards)
    lengths = jnp.sqrt(jnp.sum(jnp.square(used))) * jnp.sqrt(jnp.sum(jnp.square(other)))
    cosine = numerics.safe_divide(jnp.sum(used * other), lengths)
    is_same = (jnp.sign(used) == jnp.sign(other)).astype(other.dtype)
    effective = effective_weights(other, rewards, weights, mask=mask)
    effective = effective.reshape(-1, effective.shape[-1])
    follows = jnp.any(effective != 0, axis=-1)
    return Comparison(
        cosine=numerics.Mean(cosine, (lengths > 0).astype(cosine.dtype)),
        sign_agreement=numerics.masked_mean(is_same, (used != 0) | (other != 0)),
        mean_square=numerics.masked_mean(jnp.square(other), jnp.ones_like(other, bool)),
        effective_weight=numerics.Mean(
            jnp.sum(effective, axis=0),
            jnp.broadcast_to(jnp.sum(follows, dtype=effective.dtype), effective.shape[-1:]),
        ),
    )


def effective_weights(
    advantages: ArrayLike,
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    mask: ArrayLike | None = None,
) -> Array:
    r"""Linear combination of z-scores that is nearest to the advantages of each group.

    $$ \beta = \arg\min_\beta \sum_i \Bigl( A_i - \sum_k \beta_k z_{ik} \Bigr)^2, \qquad
       \text{effective weight}_k = \beta_k / \sum_l |\beta_l| $$

    They are defined for the advantages of any method. A method of the centred-sum family has DVAO's
    weights `w_k sigma_k / sum_l w_l sigma_l` for any divisor; `advantage_combination` and `gdpo`
    have the configured weights of the objectives that vary; for `rvpo` they are its linear part. If
    objectives are collinear in a group, several combinations are equally near: the one with the
    smallest `sum_k beta_k^2 / w_k` is taken, so that identical objectives share in the ratio of
    their weights.

    Not to be confused with: `Diagnostics.effective_weight`, DVAO's formula applied to the rewards,
    which does not depend on the advantages.

    Args:
        advantages: `[..., G]`.
        rewards: `[..., G, K]`.
        weights: `[K]` or `[..., K]`, not negative; an objective of weight 0 gets 0.
        mask: `[..., G, K]` bool.

    Returns:
        `[..., K]`, with absolute values that sum to 1, or all 0 in a group whose advantages are 0;
        accurate to about one part in a thousand. A negative weight means that the advantages
        decrease with the objective.

    Raises:
        AssertionError: the shapes do not match.
    """
    batch = group.mask_nonfinite(rewards, weights, mask)
    _check_advantages("advantages", advantages, rewards)
    scores = group.standard_scores(batch, ddof=0, epsilon=0.0).values
    totals = jnp.sum(batch.weights, axis=-1, keepdims=True)
    roots = jnp.sqrt(numerics.safe_divide(batch.weights, totals))
    roots = jnp.broadcast_to(roots, (len(scores), roots.shape[-1]))
    columns = scores * roots[:, None, :] / scores.shape[1] ** 0.5
    # In units of the group's largest advantage, so that small advantages are not treated as 0.
    target = jnp.asarray(advantages, scores.dtype).reshape(scores.shape[:2])
    target = numerics.safe_divide(target, jnp.max(jnp.abs(target), axis=1, keepdims=True))
    gram = jnp.einsum("bgk,bgl->bkl", columns, columns, precision="highest")
    right = jnp.einsum("bgk,bg->bk", columns, target, precision="highest")[..., None]
    solve = partial(cho_solve, cho_factor(gram + _RIDGE * jnp.eye(gram.shape[-1])[None]))
    first = solve(right)
    second = first + solve(right - jnp.einsum("bkl,blo->bko", gram, first, precision="highest"))
    beta = roots * second[..., 0]
    effective = numerics.safe_divide(beta, jnp.sum(jnp.abs(beta), axis=-1, keepdims=True))
    return effective.reshape(*jnp.shape(rewards)[:-2], effective.shape[-1])


def _check_advantages(name: str, advantages: ArrayLike, rewards: ArrayLike) -> None:
    """Asserts that there is one advantage for each completion."""
    expected = jnp.shape(rewards)[:-1]
    numerics.require_shape(name, advantages, expected, axes="[..., G]", like="rewards")
