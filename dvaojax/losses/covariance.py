"""Clip-Cov and KL-Cov (arXiv:2505.22617): what few tokens do to the entropy is held back.

To first order the entropy of a softmax policy falls with the covariance of a token's
log-probability and its advantage, and a handful of tokens holds most of it. Both methods look for
them by

    cov_t = (A_t - mean A) (log pi_t - mean log pi)

One takes their gradient away, the other ties them to the old policy.

**A departure from the official code, on purpose.** There the means, and the number of tokens that
are picked, are those of whatever tokens the loss is called on, a micro-batch; so cutting a batch
differently trains another policy. Here both are taken over one group, the last two axes
`[..., G, T]`, which no micro-batch, device or host ever cuts. What follows: at least one token is
picked per *group* that has a candidate; and a group that learns nothing has none, because a
candidate's covariance is positive.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from dvaojax.losses.ratios import (
    SurrogateInfo,
    log_ratios,
    pessimistic,
    require_range,
    surrogate_info,
)
from dvaojax.losses.reductions import Reduction, token_mean
from dvaojax.losses.tokens import advantages_on_tokens, on_tokens
from dvaojax.numerics import Mean, moments


def clip_cov(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = token_mean,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    share: float = 2e-4,
    cov_low: float = 1.0,
    cov_high: float = 5.0,
) -> tuple[Mean, SurrogateInfo]:
    r"""The clipped surrogate without a few tokens of high covariance, drawn by lot.

    $$ L_t = -\min\big(\rho_t A_t,\; \mathrm{clip}(\rho_t) A_t\big)\,[t \notin I] \quad\text{with}
       \quad I \sim \mathrm{Uniform}\lbrace t : c_l < \mathrm{cov}_t < c_h\rbrace,\;
       |I| = \max(1, \lfloor sN\rfloor) $$

    (Cui et al., arXiv:2505.22617; verl 018f23b5.) N counts the tokens of the group and the
    covariance is taken within it, see the module. Tokens that the ratio has clipped already
    are no candidates. The lots are drawn from the token's old log-probability and its place in the
    group: no key is needed, and the same token has the same lot however the batch is cut.

    The bounds of the covariance have the unit of the advantage times nats: they are for advantages
    of about unit spread, and scaling the advantages by c is scaling the bounds by 1/c.

    What it is confused with. An entropy bonus, which pulls at every token: this one holds a few
    back. And its official code, which looks at the micro-batch: here it is the group, see the
    module.

    Args:
        logp: `[..., G, T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., G, T]` the same under the policy that sampled it; without gradient.
        advantages: `[..., G]`, one per sequence, or `[..., G, T]`; no gradient flows through them.
        where: `[..., G, T]` bool, true on sampled tokens; elsewhere anything may stand.
        reduce: how tokens become one mean; a token held back still counts.
        clip_low: how far below 1 the ratio may pull, in [0, 1].
        clip_high: how far above 1, not negative.
        share: of a group's tokens that are held back, in (0, 1]; at least one is.
        cov_low: a candidate's covariance lies above it; not negative.
        cov_high: and below this.

    Returns:
        The loss as sum and count, and the numbers worth logging; `clip_fraction` counts clipped
        tokens and those held back.

    Raises:
        ValueError: a clip range does not contain 1, or a share or bound cannot be.
    """
    require_range(clip_low=clip_low, clip_high=clip_high)
    _require_share(share)
    if not 0.0 <= cov_low < cov_high:
        raise ValueError(f"{cov_low=} must not be negative and be below {cov_high=}")
    log_ratio = log_ratios(logp, logp_old, where)
    advantages = advantages_on_tokens(advantages, where, dtype=log_ratio.dtype)
    bounded, is_clipped = pessimistic(
        jnp.exp(log_ratio), advantages, low=1.0 - clip_low, high=1.0 + clip_high
    )
    covariance = covariances(logp, advantages, where)
    is_candidate = where & ~is_clipped & (covariance > cov_low) & (covariance < cov_high)
    is_held = _largest(_lots(logp_old, where), is_candidate, where, share)
    info = surrogate_info(log_ratio, is_clipped | is_held, advantages, where)
    return reduce(jnp.where(is_held, 0, -advantages * bounded), where), info


def kl_cov(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = token_mean,
    share: float = 2e-4,
    kl_coefficient: float = 1.0,
) -> tuple[Mean, SurrogateInfo]:
    r"""The unclipped surrogate, with a penalty on the few tokens of highest covariance.

    $$ L_t = -\rho_t A_t + \beta\, |\log\rho_t|\,[t \in I], \quad
       I = \text{the } \max(1, \lfloor sN\rfloor) \text{ tokens of largest cov}_t > 0 $$

    (Cui et al., arXiv:2505.22617; verl 018f23b5.) N counts the tokens of the group and the
    covariance is taken within it, see the module; tokens that tie with the last one picked
    are picked too. The penalty does not grow with the advantages.

    What it is confused with. A divergence, as its name and its knob have it: the penalty is the
    distance of log-probabilities, whose slope is as large for the smallest distance as for any, 0
    at exactly ratio 1 alone, so that in the first update on a batch rounding between sampler and
    trainer gives it a sign. And a trust region: nothing bounds the other tokens.

    Args:
        logp: `[..., G, T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., G, T]` the same under the policy that sampled it; without gradient.
        advantages: `[..., G]`, one per sequence, or `[..., G, T]`; no gradient flows through them.
        where: `[..., G, T]` bool, true on sampled tokens; elsewhere anything may stand.
        reduce: how tokens become one mean.
        share: of a group's tokens that are penalised, in (0, 1]; at least one is.
        kl_coefficient: weight of the penalty, not negative.

    Returns:
        The loss as sum and count, and the numbers worth logging; `clip_fraction` counts penalised
        tokens.

    Raises:
        ValueError: a share or coefficient cannot be.
    """
    _require_share(share)
    if not 0.0 <= kl_coefficient < jnp.inf:
        raise ValueError(f"{kl_coefficient=} must be finite and not negative")
    log_ratio = log_ratios(logp, logp_old, where)
    advantages = advantages_on_tokens(advantages, where, dtype=log_ratio.dtype)
    covariance = covariances(logp, advantages, where)
    is_penalised = _largest(covariance, where & (covariance > 0), where, share)
    # |x| as sign(x) x: at ratio 1 its gradient is 0, where that of jnp.abs is 1.
    distance = jnp.sign(lax.stop_gradient(log_ratio)) * log_ratio
    penalty = jnp.where(is_penalised, kl_coefficient * distance, 0)
    info = surrogate_info(log_ratio, is_penalised, advantages, where)
    return reduce(-advantages * jnp.exp(log_ratio) + penalty, where), info


def covariances(logp: Array, advantages: Array, where: Array) -> Array:
    """`[..., G, T]`: what each token adds to its group's covariance, without gradient.

    Exactly 0 in a group whose advantages are equal, whatever their float.

    Args:
        logp: `[..., G, T]`, in nats.
        advantages: `[..., G, T]`.
        where: `[..., G, T]` bool.
    """

    def of_group(logp: Array, advantages: Array, where: Array) -> Array:
        return moments(advantages, where).centred * moments(logp, where).centred

    size = where.shape[-2] * where.shape[-1]
    arrays = [x.reshape(-1, size) for x in (on_tokens(logp, where), advantages, where)]
    return lax.stop_gradient(jax.vmap(of_group)(*arrays).reshape(where.shape))


def _largest(values: Array, is_candidate: Array, where: Array, share: float) -> Array:
    """The candidates of each group with the largest values, that share of its tokens, ties all."""
    scores = jnp.where(is_candidate, values, -jnp.inf).reshape(*where.shape[:-2], -1)
    tokens = jnp.sum(where, axis=(-2, -1), dtype=values.dtype)
    last = jnp.maximum(jnp.floor(share * tokens), 1).astype(jnp.int32) - 1
    ranked = jnp.sort(scores, axis=-1, descending=True)
    least = jnp.take_along_axis(ranked, last[..., None], axis=-1)[..., None]
    return is_candidate & (values >= least)


def _lots(logp_old: Array, where: Array) -> Array:
    """A number in [0, 1) for every token, from its bits and its place in the group alone."""
    members, places = (
        lax.broadcasted_iota(jnp.uint32, where.shape, where.ndim - i) for i in (2, 1)
    )
    bits = lax.bitcast_convert_type(on_tokens(logp_old, where).astype(jnp.float32), jnp.uint32)

    def draw(word: Array, member: Array, place: Array) -> Array:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), member), place)
        return jax.random.uniform(jax.random.fold_in(key, word))

    flat = [x.reshape(-1) for x in (bits, members, places)]
    return lax.stop_gradient(jax.vmap(draw)(*flat).reshape(where.shape))


def _require_share(share: float) -> None:
    if not 0.0 < share <= 1.0:
        raise ValueError(f"{share=} must lie in (0, 1]")
