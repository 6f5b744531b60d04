"""HVPO: hypervolume-guided policy optimisation (Artessay/Amo@6e7df03; no paper was found)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dvaojax import numerics
from dvaojax.aggregators._core import group, whitening
from dvaojax.aggregators._core.aggregator import Aggregator, PerObjective, per_objective, stateful


class PastSpread(NamedTuple):
    """What `hvpo` remembers.

    Attributes:
        deviation: `[]` running mean of the deviations that earlier steps' differences had.
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
    r"""Each completion's own hypervolume above a reference, minus its companions' mean.

    $$ q_i = \prod_k (z_{ik} - z^0_k)^{\bar w_k} \text{ if no factor is negative, else }
             -\max_k (z^0_k - z_{ik}), \qquad z_{ik} = \frac{r_{ik} - l_k}{u_k - l_k} $$
    $$ A_i = \frac{q_i - \frac{1}{G - 1} \sum_{j \ne i} q_j}{s_t + \epsilon}, \qquad
       s_{t+1} = \gamma s_t + (1 - \gamma) \operatorname{std}_{batch}(q_i - \bar q_{-i}) $$

    The credit is the volume of the box between the reference and the completion, brought back to
    the unit of one objective by a root: a geometric mean, which is 0 as soon as one objective is at
    its reference. The divisor knows the past alone, so that the step that is judged does not set
    its own scale. The code has no weights; here $\bar w = w / \sum w$ stands for its $1 / K$, equal
    weights give its formula, and an objective of weight 0 takes no part.

    What it is confused with. A hypervolume *contribution*, which depends on the other completions
    (earlier notes of the same repository describe it so); here each is judged alone, and a set of
    equal completions is worth as much as a diverse one. A group of one, which the code refuses,
    gets 0 here. An objective of a completion that was not scored counts as its group's mean before
    the product, one that nobody in the group was scored on takes no part in it.

    Args:
        weights: `[K]`, not negative.
        lower: l, the reward that counts as 0, fixed beforehand.
        upper: u, the reward that counts as 1; rewards outside are not clipped.
        reference: z0, on that scale, above which an objective is acceptable.
        decay: gamma, how much of the running deviation a step keeps.
        initial: the divisor of the first step.
        epsilon: added to the divisor.

    Returns:
        An aggregator whose state is `PastSpread`.

    Raises:
        ValueError: an upper end is not above its lower one, there are neither one nor K of them,
            or decay is not in [0, 1].
    """
    if not 0 <= decay <= 1 or initial < 0:
        raise ValueError(f"decay={decay} must lie in [0, 1], and initial={initial} not be negative")

    def begin(weights: Array) -> PastSpread:
        with jax.ensure_compile_time_eval():
            if not jnp.all(per_objective(upper, weights) > per_objective(lower, weights)):
                raise ValueError(f"every upper={upper} must exceed its lower={lower}")
        return PastSpread(jnp.asarray(initial, weights.dtype))

    def step(
        rewards: Array, weights: Array, state: PastSpread, /, *, mask: Array | None
    ) -> tuple[Array, PastSpread]:
        batch = group.open_batch(rewards, weights, mask)
        low, high, base = (
            per_objective(value, batch.weights)[None, None] for value in (lower, upper, reference)
        )
        objectives = group.statistics(batch, ddof=0)
        # With what was not scored at its group's mean.
        whole = jnp.where(batch.where, batch.rewards, objectives.mean[:, None, :])
        counts = jnp.where(objectives.count > 0, batch.weights[None], 0)
        credit = hypervolume_credit((whole - low) / (high - low) - base, counts)
        differences = _minus_the_others(credit, batch.scored)
        # Equal rewards have equal credits but for rounding, which must teach nothing.
        differences = jnp.where(group.is_alive(objectives.deviation)[:, None], differences, 0)
        advantages = numerics.safe_divide(differences, state.deviation + epsilon)
        scored = batch.scored.astype(differences.dtype)
        now = whitening.batch_moments(differences, scored, ddof=0).deviation
        after = decay * state.deviation + (1 - decay) * now
        kept = jnp.where(jnp.any(batch.scored), after, state.deviation)
        return advantages.reshape(jnp.shape(rewards)[:-1]), PastSpread(kept)

    return stateful(begin, step, weights=weights)


def hypervolume_credit(gains: Array, weights: Array) -> Array:
    """The geometric mean of what is gained on each objective, or minus the largest shortfall.

    Args:
        gains: `[B, G, K]` rewards above their references, on the scale of their anchors.
        weights: `[K]` or `[B, K]`, not negative; an objective of weight 0 takes no part.

    Returns:
        `[B, G]`: exactly 0 where some gain is 0 and none negative; between the smallest gain and
        their weighted mean where all are positive; negative where one is.
    """
    shares = numerics.safe_divide(weights, jnp.sum(weights, axis=-1, keepdims=True))
    shares = jnp.broadcast_to(shares, (len(gains), gains.shape[-1]))
    takes_part = shares[:, None, :] > 0
    worst = jnp.min(jnp.where(takes_part, gains, jnp.inf), axis=-1)
    logarithms = jnp.log(jnp.where(takes_part & (gains > 0), gains, 1))
    volume = jnp.exp(group.weighted_sum(logarithms, shares))
    return jnp.where(worst > 0, jnp.where(worst < jnp.inf, volume, 0), worst)


def _minus_the_others(credit: Array, scored: Array) -> Array:
    """`[B, G]` minus the mean over the others of the group; 0 where there is no other."""

    def one_group(values: Array, where: Array) -> Array:
        moments = numerics.moments(values, where, ddof=0)
        factor = numerics.safe_divide(moments.count, moments.count - 1)
        return moments.centred * factor

    return jax.vmap(one_group)(credit, scored)
