"""What another aggregator would have made of the same rewards, for people to watch."""

from functools import partial
from typing import NamedTuple

import chex
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group

_RIDGE = (
    1e-3  # of the largest that an eigenvalue can be; the second pass squares what it leaves out
)


class Comparison(NamedTuple):
    """Two sets of advantages for one batch of rewards; means are kept in halves.

    Attributes:
        cosine: `[]` of the angle between the two, over the whole batch; nothing is counted where
            one of them is 0 everywhere.
        sign_agreement: `[]` the share of completions that both push the same way, among those that
            at least one of them pushes at all.
        mean_square: `[]` of the other's advantages, over all completions.
        effective_weight: `[K]` the other's, see `effective_weights`, over the groups that it
            follows.
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
    """How `other` differs from `advantages`, and what it makes of each objective.

    The cosine does not see that one is a multiple of the other: that is in the mean squares.

    Args:
        advantages: `[..., G]`, of the aggregator in use.
        other: `[..., G]`, of another one, from the same rewards.
        rewards: `[..., G, K]`.
        weights: `[K]` or `[..., K]`, not negative.
        mask: `[..., G, K]` bool, false where an objective does not apply or was not scored.

    Raises:
        AssertionError: the shapes do not fit.
    """
    chex.assert_shape([advantages, other], jnp.shape(rewards)[:-1])
    used, other = jnp.asarray(advantages), jnp.asarray(other)
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
    r"""The combination of z-scores that comes nearest to the advantages of each group.

    $$ \beta = \arg\min_\beta \sum_i \Bigl( A_i - \sum_k \beta_k z_{ik} \Bigr)^2, \qquad
       \text{effective weight}_k = \beta_k / \sum_l |\beta_l| $$

    Whatever made the advantages, this says what they follow in the group. A method of the
    centred-sum family has DVAO's weights `w_k sigma_k / sum_l w_l sigma_l` whatever it divides by;
    `advantage_combination` and `gdpo` have the configured weights of the objectives that vary; of
    `rvpo` it is the linear part. Where objectives rise and fall together in a group, or are more
    than its completions can tell apart, many combinations come equally near: the one with the
    smallest `sum_k beta_k^2 / w_k` is taken, so that identical objectives share in the ratio of
    their weights.

    What it is confused with. `Diagnostics.effective_weight` is DVAO's formula for the rewards and
    looks at no advantages.

    Args:
        advantages: `[..., G]`.
        rewards: `[..., G, K]`.
        weights: `[K]` or `[..., K]`, not negative; an objective of weight 0 gets 0.
        mask: `[..., G, K]` bool.

    Returns:
        `[..., K]`, absolute values adding up to 1, or all 0 in a group without an advantage; exact
        to about a part in a thousand. One may be negative: the group is led away from it.

    Raises:
        AssertionError: the shapes do not fit.
    """
    batch = group.mask_nonfinite(rewards, weights, mask)
    scores = group.standard_scores(batch, ddof=0, epsilon=0.0).values
    totals = jnp.sum(batch.weights, axis=-1, keepdims=True)
    roots = jnp.sqrt(numerics.safe_divide(batch.weights, totals))
    roots = jnp.broadcast_to(roots, (len(scores), roots.shape[-1]))
    columns = scores * roots[:, None, :] / scores.shape[1] ** 0.5
    # Units of the group's largest advantage: what is tiny in size is not therefore rounding.
    target = jnp.asarray(advantages, scores.dtype).reshape(scores.shape[:2])
    target = numerics.safe_divide(target, jnp.max(jnp.abs(target), axis=1, keepdims=True))
    gram = jnp.einsum("bgk,bgl->bkl", columns, columns, precision="highest")
    right = jnp.einsum("bgk,bg->bk", columns, target, precision="highest")[..., None]
    solve = partial(cho_solve, cho_factor(gram + _RIDGE * jnp.eye(gram.shape[-1])[None]))
    first = solve(right)
    second = first + solve(right - jnp.einsum("bkl,blo->bko", gram, first, precision="highest"))
    found = roots * second[..., 0]
    effective = numerics.safe_divide(found, jnp.sum(jnp.abs(found), axis=-1, keepdims=True))
    return effective.reshape(*jnp.shape(rewards)[:-2], effective.shape[-1])
