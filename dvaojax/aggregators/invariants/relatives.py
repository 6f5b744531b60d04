"""What must hold of one batch, by the name of the aggregator: the relatives of the first ones.

Most of them are one of the first seen in another way: with the weights that they adapted they are
GRPO or GDPO, and all that holds of those holds of them. The adapted weights are taken from the
method's own functions: what is examined is what it does with them. Each public function returns
`[B]`, `[B, G]` or `[]`, as in `propositions`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax import numerics
from dvaojax.aggregators import gd2po
from dvaojax.aggregators._core import batch as batches
from dvaojax.aggregators._core import group, whitening
from dvaojax.aggregators.corr_grpo import sum_of_correlations
from dvaojax.aggregators.dara import factors, stretch
from dvaojax.aggregators.focal import weights_by_difficulty
from dvaojax.aggregators.invariants import propositions
from dvaojax.aggregators.invariants.facts import Facts
from dvaojax.aggregators.invariants.propositions import mean_score
from dvaojax.aggregators.invariants.statements import (
    DOMINANCE,
    GROUP_SUM,
    RC,
    SILENCE,
    Invariant,
    seen_through,
    sum_family,
    whitened,
)
from dvaojax.aggregators.maxrl import mean_and_size
from dvaojax.aggregators.sa_mrpo import weights_by_saturation
from dvaojax.aggregators.saw import weights_by_variation
from dvaojax.aggregators.sc_ppo import cross_fitted_weights
from dvaojax.aggregators.tchebycheff import scalarised

# Views: the facts with the weights that a method adapted.

Weigh = Callable[..., Array]  # a batch and the method's own knobs to weights


def reweighted(weigh: Weigh, knobs: tuple[str, ...], facts: Facts) -> Facts:
    """The facts under the weights `weigh(batch, **knobs)`.

    Args:
        weigh: the method's own function.
        knobs: the names of those it takes.
        facts: under the weights that were given.
    """
    weights = weigh(facts.batch, **{knob: facts.knobs[knob] for knob in knobs})
    weights = jnp.broadcast_to(weights, facts.shares.shape)
    batch = facts.batch._replace(weights=weights)
    unit = jnp.mean(jnp.sum(weights, axis=-1))
    unit = jnp.where(unit > 0, unit, 1)
    return facts._replace(
        batch=batch,
        total=group.centred_sum(batch, ddof=facts.knobs.get("ddof", 0)),
        shares=weights / unit,
        weight=unit,
    )


def _as_grpo(weigh: Weigh, *knobs: str) -> tuple[Invariant, ...]:
    view = partial(reweighted, weigh, knobs)
    return seen_through(view, *sum_family(propositions.rc_units), *RC)


def _as_gdpo(weigh: Weigh, *knobs: str) -> tuple[Invariant, ...]:
    view = partial(reweighted, weigh, knobs)
    return seen_through(view, *whitened(mean_score, "36"), GROUP_SUM, DOMINANCE)


def _own_weights(batch: group.GroupedRewards) -> Array:
    return batch.weights


def stretched_score(facts: Facts) -> Array:
    """`[B, G]` of the asymmetric DARA before the whitening."""
    stretched = stretch(facts.scores.values, factors(facts.batch, cap=facts.knobs["cap"]))
    return group.weighted_sum(stretched, facts.shares)


def kept_hard(facts: Facts) -> Facts:
    """The facts with the completions alone that have no conflict."""
    return _kept(facts, ~gd2po.in_conflict(facts.scores.values, facts.batch.weights))


def kept_snr(facts: Facts) -> Facts:
    """The facts with the completions alone that have no conflict or a clear consensus."""
    is_weak = jnp.abs(_consensus(facts)) < facts.knobs["threshold"]
    conflict = gd2po.in_conflict(facts.scores.values, facts.batch.weights)
    return _kept(facts, ~(conflict & is_weak))


def _consensus(facts: Facts) -> Array:
    return gd2po.consensus(facts.scores.values, facts.batch.weights)


def _kept(facts: Facts, is_kept: Array) -> Facts:
    facts = reweighted(_own_weights, (), facts)
    kept = is_kept & facts.batch.scored
    share = numerics.safe_divide(jnp.sum(kept, axis=-1, dtype=facts.count.dtype), facts.count)
    values = facts.scores.values * share[:, None, None]  # so are their sums
    return facts._replace(
        batch=facts.batch._replace(where=facts.batch.where & kept[..., None]),
        scores=facts.scores._replace(values=values),
        counts=kept.astype(facts.counts.dtype),
    )


def consensus_within_one(facts: Facts) -> Array:
    """The magnitude of q above 1."""
    return jnp.abs(_consensus(facts)) - 1


def consensus_is_one_without_conflict(facts: Facts) -> Array:
    """Completions with a signal and no conflict whose q is neither 1 nor -1."""
    has_signal = group.weighted_sum(jnp.abs(facts.scores.values), facts.shares) > 1e-2
    agree = ~gd2po.in_conflict(facts.scores.values, facts.batch.weights) & has_signal
    # Scores that are taken for 0 may have either sign.
    slack = 2e2 * jnp.finfo(facts.shares.dtype).eps ** 0.5 * facts.shares.shape[-1]
    return jnp.where(agree, 1 - slack - jnp.abs(_consensus(facts)), 0)


def over_the_batch(facts: Facts) -> Facts:
    """The facts of REINFORCE++: rewards above the batch's mean for scores, no group silent."""
    objectives = group.statistics(facts.batch, ddof=0)
    departures = batches.statistics(objectives, ddof=0).departures
    values = objectives.centred + jnp.where(facts.batch.scored[..., None], departures[:, None], 0)
    facts = _in_units_of_rewards(facts, values)
    return facts._replace(scores=facts.scores._replace(has_signal=facts.count >= 0))


def over_the_groups(facts: Facts) -> Facts:
    """The facts of REINFORCE++ with a baseline: rewards above the group's mean for scores."""
    return _in_units_of_rewards(facts, group.statistics(facts.batch, ddof=0).centred)


def _in_units_of_rewards(facts: Facts, values: Array) -> Facts:
    """The facts with `values` `[B, G, K]` for scores, brought to order 1 by one number."""
    weights = facts.batch.group_weights
    size = whitening.root_mean_square(group.weighted_sum(jnp.abs(values), weights), facts.counts)
    size = jnp.where(size > 0, size, 1)
    return facts._replace(
        scores=facts.scores._replace(values=values / size), shares=weights, weight=size
    )


# Units: an advantage times these is `c / S`, or of order 1.


def corr_units(facts: Facts) -> Array:
    """CorrGRPO's divisor over `S`; 0 where the correlations cancel."""
    objectives = group.statistics(facts.batch, ddof=0)
    correlations, num_counted = sum_of_correlations(objectives, facts.batch.weights)
    rounding = jnp.finfo(correlations.dtype).eps ** 0.5
    divisor = numerics.safe_sqrt(correlations + facts.knobs["variance_epsilon"])
    cancels = numerics.safe_sqrt(correlations) <= rounding * num_counted
    return jnp.where(cancels, 0, divisor * facts.in_spreads)


def maxrl_units(facts: Facts) -> Array:
    """MaxRL's divisor over `S`; 0 where the mean is nothing but rounding."""
    mean, size = mean_and_size(group.statistics(facts.batch, ddof=0), facts.batch.weights)
    is_rounding = mean <= jnp.finfo(mean.dtype).eps ** 0.5 * size
    return jnp.where(is_rounding, 0, (mean + facts.knobs["epsilon"]) * facts.in_spreads)


def tchebycheff_moments(facts: Facts) -> numerics.Moments:
    """Of the scalarised rewards of each group."""
    knobs = {knob: facts.knobs[knob] for knob in ("ideal", "augmentation")}
    values = scalarised(facts.batch, group.statistics(facts.batch, ddof=0), **knobs)
    moments = partial(numerics.moments, ddof=facts.knobs["ddof"])
    return jax.vmap(moments)(values, facts.batch.scored)


def tchebycheff_units(facts: Facts) -> Array:
    """Its divisor over `S`; 0 where the scalarised rewards are nothing but rounding."""
    deviation = tchebycheff_moments(facts).deviation
    is_rounding = deviation <= jnp.finfo(deviation.dtype).eps ** 0.5 * facts.total.scale
    return jnp.where(is_rounding, 0, (deviation + facts.knobs["epsilon"]) * facts.in_spreads)


def tchebycheff_is_standardised(facts: Facts) -> Array:
    """The distance from the scalarised reward minus its mean, in units of `S`."""
    units = tchebycheff_units(facts)[:, None]
    centred = tchebycheff_moments(facts).centred * facts.in_spreads[:, None]
    return jnp.abs(facts.advantages * units - jnp.where(units > 0, centred, 0))


def rdpo_units(facts: Facts) -> Array:
    """One over the largest that the inverse root can make of a sum of the weights."""
    total = jnp.broadcast_to(jnp.sum(facts.batch.weights, axis=-1), facts.count.shape)
    return numerics.safe_divide(jnp.sqrt(jnp.asarray(facts.knobs["shrinkage"], total.dtype)), total)


def rdpo_mean_square(facts: Facts) -> Array:
    """The batch's mean square above `sum w^2 / (1 - shrinkage)`, in its own unit.

    The objectives have unit variance and no correlation, but for the shrinkage; with weights of the
    groups' own, at most K times that.
    """
    weights = facts.batch.weights
    squares = jnp.max(jnp.sum(jnp.square(weights), axis=-1), initial=0)
    total = numerics.safe_divide(jnp.sum(facts.advantages**2), jnp.sum(facts.count))
    times = 1 if weights.ndim == 1 else weights.shape[-1]
    return numerics.safe_divide(total * (1 - facts.knobs["shrinkage"]), squares) - times


_UNSCORED = Invariant("34 (a completion without score gets 0)", propositions.silence)
_DROPPED = Invariant("45 (what is dropped gets 0)", propositions.silence)
_CONSENSUS = (
    Invariant("45 (q is within 1)", consensus_within_one),
    Invariant("45 (without conflict q is 1 or -1)", consensus_is_one_without_conflict),
)
_ORDER = Invariant(
    "17 (better on every objective is not worse)",
    partial(propositions.dominance, partial(propositions.whitened_units, stretched_score)),
)
_SAW = ("lower", "delta", "ddof")
_SC_PPO = ("target", "priority_floor", "priority_power", "saturation", "ddof", "epsilon")

RELATIVES: dict[str, tuple[Invariant, ...]] = {
    "corr_grpo": (
        *sum_family(corr_units),
        Invariant(
            "49 (c over the root of the sum of correlations)",
            partial(propositions.is_the_sum, corr_units),
        ),
    ),
    "maxrl": (
        *sum_family(maxrl_units),
        Invariant("9 (c over the mean)", partial(propositions.is_the_sum, maxrl_units)),
    ),
    "saw_grpo": _as_grpo(weights_by_variation, *_SAW),
    "saw_gdpo": _as_gdpo(weights_by_variation, *_SAW),
    "focal_reward": _as_grpo(weights_by_difficulty, "gamma"),
    "sa_mrpo": _as_gdpo(weights_by_saturation, "lower", "upper", "gamma"),
    "dara_symmetric": _as_gdpo(
        lambda batch, cap: batch.group_weights * factors(batch, cap=cap)[None, :], "cap"
    ),
    "dara_asymmetric": seen_through(
        partial(reweighted, _own_weights, ()), *whitened(stretched_score, "36"), _ORDER
    ),
    "gd2po_hard": (
        SILENCE,
        *_CONSENSUS,
        *seen_through(kept_hard, _DROPPED, *whitened(mean_score, "36")[1:]),
    ),
    "gd2po_snr": (
        SILENCE,
        *_CONSENSUS,
        *seen_through(kept_snr, _DROPPED, *whitened(mean_score, "36")[1:]),
    ),
    "sc_ppo": _as_gdpo(cross_fitted_weights, *_SC_PPO),
    "augmented_tchebycheff": (
        SILENCE,
        Invariant("9 (the scalarised reward, standardised)", tchebycheff_is_standardised),
        Invariant(
            "10 (each group sums to 0)", partial(propositions.sums_to_zero, tchebycheff_units)
        ),
        Invariant(
            "11 (no advantage exceeds sqrt(G - 1))", partial(propositions.bound, tchebycheff_units)
        ),
        Invariant(
            "17 (better on every objective is not worse)",
            partial(propositions.dominance, tchebycheff_units),
        ),
    ),
    "rdpo": (
        SILENCE,
        Invariant("10 (each group sums to 0)", partial(propositions.sums_to_zero, rdpo_units)),
        Invariant("5 (the mean square is at most sum w^2)", rdpo_mean_square),
    ),
    "reinforce_plus_plus": seen_through(
        over_the_batch, _UNSCORED, *whitened(mean_score, "37")[1:], DOMINANCE
    ),
    "reinforce_plus_plus_baseline": seen_through(
        over_the_groups, *whitened(mean_score, "37"), DOMINANCE
    ),
}
