"""HVPO: hypervolume-guided policy optimisation (Artessay/Amo@6e7df03; we know of no paper)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group, whitening
from dvaojax.aggregators._core.aggregator import Aggregator, PerObjective, per_objective, stateful


class PastSpread(NamedTuple):
    """State of `hvpo`.

    Attributes:
        deviation: `[]`, running mean of the deviations of the differences in earlier steps.
    """

    deviation: Array


def hvpo(
    weights: ArrayLike,
    *,
    lower: PerObjective = 0.0,
    upper: PerObjective = 1.0,
    reference: PerObjective = 0.0,
    decay: float = 0.99,
    initial: float = 1.0,
    epsilon: float = numerics.VERL_EPSILON,
) -> Aggregator:
    r"""Hypervolume of each completion above a reference, minus the mean of the rest of its group.

    $$ q_i = \prod_k (z_{ik} - z^0_k)^{\bar w_k} \text{ if no factor is negative, else }
             -\max_k (z^0_k - z_{ik}), \qquad z_{ik} = \frac{r_{ik} - l_k}{u_k - l_k} $$
    $$ A_i = \frac{q_i - \frac{1}{G - 1} \sum_{j \ne i} q_j}{s_t + \epsilon}, \qquad
       s_{t+1} = \gamma s_t + (1 - \gamma) \operatorname{std}_{batch}(q_i - \bar q_{-i}) $$

    The credit q is the volume of the box between the reference and the completion, raised to a
    power that gives it the unit of one objective: a geometric mean, which is 0 if one objective is
    at its reference. The divisor depends on earlier steps only. The official code has no weights;
    $\bar w = w / \sum w$ replaces its $1 / K$, so that equal weights give its formula and an
    objective of weight 0 is ignored. A masked reward counts as its group's mean; an objective on
    which no completion of the group was scored is left out of the product. A group of one, which
    the code rejects, gets 0.

    Not to be confused with: a hypervolume *contribution*, which depends on the other completions
    (and which earlier notes of the same repository describe). Here each completion is scored
    separately, so that diversity within a group is not rewarded.

    Args:
        weights: `[K]`, not negative.
        lower: l, the reward that is mapped to 0.
        upper: u, the reward that is mapped to 1; rewards outside [l, u] are not clipped.
        reference: z0, the lowest acceptable value, on that scale.
        decay: gamma, the decay of the running deviation per step.
        initial: the divisor of the first step.
        epsilon: added to the divisor.

    Returns:
        An aggregator whose state is `PastSpread`.

    Raises:
        ValueError: `upper` is not above `lower`, the number of either is neither one nor K, or
            decay is not in [0, 1].
    """
    if not 0 <= decay <= 1 or initial < 0:
        raise ValueError(
            f"decay={decay} must lie in [0, 1] and initial={initial} must not be negative"
        )

    def begin(weights: Array) -> PastSpread:
        with jax.ensure_compile_time_eval():
            if not jnp.all(per_objective(upper, weights) > per_objective(lower, weights)):
                raise ValueError(f"every upper={upper} must exceed its lower={lower}")
        return PastSpread(jnp.asarray(initial, weights.dtype))

    def step(
        rewards: Array, weights: Array, state: PastSpread, /, *, mask: Array | None
    ) -> tuple[Array, PastSpread]:
        batch = group.prepare_batch(rewards, weights, mask)
        low, high, base = (
            per_objective(value, batch.weights)[None, None] for value in (lower, upper, reference)
        )
        objectives = group.statistics(batch, ddof=0)
        # Masked rewards are replaced by the mean of their group.
        filled = jnp.where(batch.where, batch.rewards, objectives.mean[:, None, :])
        counts = jnp.where(objectives.count > 0, batch.weights[None], 0)
        credit = hypervolume_credit((filled - low) / (high - low) - base, counts)
        differences = _minus_the_others(credit, batch.scored)
        # Equal rewards have equal credits up to rounding error, which must give exactly 0.
        differences = jnp.where(group.has_signal(objectives.deviation)[:, None], differences, 0)
        advantages = numerics.safe_divide(differences, state.deviation + epsilon)
        scored = batch.scored.astype(differences.dtype)
        now = whitening.batch_moments(differences, scored, ddof=0).deviation
        after = decay * state.deviation + (1 - decay) * now
        deviation = jnp.where(jnp.any(batch.scored), after, state.deviation)
        return advantages.reshape(jnp.shape(rewards)[:-1]), PastSpread(deviation)

    return stateful(begin, step, weights=weights)


def hypervolume_credit(gains: Array, weights: Array) -> Array:
    """Weighted geometric mean of the gains, or minus the largest shortfall.

    Args:
        gains: `[B, G, K]`, scaled rewards minus their references.
        weights: `[K]` or `[B, K]`, not negative; objectives of weight 0 are ignored.

    Returns:
        `[B, G]`: exactly 0 if some gain is 0 and none is negative; between the smallest gain and
        the weighted mean of the gains if all are positive; negative if one is negative.
    """
    shares = numerics.safe_divide(weights, jnp.sum(weights, axis=-1, keepdims=True))
    shares = jnp.broadcast_to(shares, (len(gains), gains.shape[-1]))
    has_weight = shares[:, None, :] > 0
    worst = jnp.min(jnp.where(has_weight, gains, jnp.inf), axis=-1)
    logarithms = jnp.log(jnp.where(has_weight & (gains > 0), gains, 1))
    volume = jnp.exp(group.weighted_sum(logarithms, shares))
    return jnp.where(worst > 0, jnp.where(worst < jnp.inf, volume, 0), worst)


def _minus_the_others(credit: Array, scored: Array) -> Array:
    """`[B, G]`, credit minus the mean over the other completions of the group; 0 without others."""

    def one_group(values: Array, where: Array) -> Array:
        moments = numerics.moments(values, where, ddof=0)
        factor = numerics.safe_divide(moments.count, moments.count - 1)
        return moments.centred * factor

    return jax.vmap(one_group)(credit, scored)
