"""Clip-Cov and KL-Cov (arXiv:2505.22617): limit the few tokens that reduce the entropy most.

To first order the entropy of a softmax policy falls with the covariance of a token's
log-probability and its advantage, and a few tokens contribute most of it. Both methods select
tokens by

    cov_t = (A_t - mean A) (log pi_t - mean log pi)

Clip-Cov removes their gradient, KL-Cov penalises their distance from the old policy.

**A deliberate difference from the official code.** There the means and the number of selected
tokens are computed over the tokens of the micro-batch, so that the micro-batch size changes the
result. Here both are computed over one group, the last two axes `[..., G, T]`, which is never split
across micro-batches, devices or hosts. Consequently at least one token is selected per *group* that
has a candidate, and a zero-variance group has no candidates, because a candidate's covariance is
positive. In small groups this is more than `share` says: one token of 8 completions of 100 tokens
is 0.125 % of them, where the default is 0.02 %; from 5,000 tokens per group on, the two agree.
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
from dvaojax.numerics import Mean, moments, with_automatic_axes


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
    r"""The clipped surrogate without a few tokens of high covariance, drawn at random.

    $$ L_t = -\min\big(\rho_t A_t,\; \mathrm{clip}(\rho_t) A_t\big)\,[t \notin I] \quad\text{with}
       \quad I \sim \mathrm{Uniform}\lbrace t : c_l < \mathrm{cov}_t < c_h\rbrace,\;
       |I| = \max(1, \lfloor sN\rfloor) $$

    (Cui et al., arXiv:2505.22617; verl 018f23b5.) N is the number of tokens of the
    group, and the covariance is computed within the group, see the module. Tokens whose ratio is
    clipped are not candidates. The random numbers are derived from the token's old log-probability
    and its position in the group: no key is needed, and they do not depend on how the batch is
    split.

    The bounds of the covariance have the unit of the advantage times nats. The defaults assume
    advantages of about unit spread; scaling the advantages by c is equivalent to scaling the bounds
    by 1/c.

    Not to be confused with: an entropy bonus, which acts on every token; Clip-Cov drops a few. The
    official code selects within the micro-batch, this one within the group, see the module.

    Args:
        logp: `[..., G, T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., G, T]` the same under the policy that sampled it; without gradient.
        advantages: `[..., G]`, one per sequence, or `[..., G, T]`; no gradient flows through them.
        where: `[..., G, T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens are averaged; a dropped token still counts.
        clip_low: width of the clip range below 1, in [0, 1].
        clip_high: width of the clip range above 1, not negative.
        share: fraction of a group's tokens that are dropped, in (0, 1]; at least one is.
        cov_low: lower bound of a candidate's covariance, exclusive; not negative.
        cov_high: upper bound of a candidate's covariance, exclusive.

    Returns:
        The loss as sum and count, and the metrics to log; `clip_fraction` counts clipped and
        dropped tokens.

    Raises:
        ValueError: the clip range does not contain 1, or `share` or a bound is out of range.
    """
    require_range(clip_low=clip_low, clip_high=clip_high)
    _require_share(share)
    if not 0.0 <= cov_low < cov_high:
        raise ValueError(f"{cov_low=} must not be negative and must be below {cov_high=}")
    log_ratio = log_ratios(logp, logp_old, where)
    advantages = advantages_on_tokens(advantages, where, dtype=log_ratio.dtype)
    bounded, is_clipped = pessimistic(
        jnp.exp(log_ratio), advantages, low=1.0 - clip_low, high=1.0 + clip_high
    )
    covariance = covariances(logp, advantages, where)
    is_candidate = where & ~is_clipped & (covariance > cov_low) & (covariance < cov_high)
    is_dropped = _largest(_uniform_per_token(logp_old, where), is_candidate, where, share)
    info = surrogate_info(log_ratio, is_clipped | is_dropped, advantages, where)
    return reduce(jnp.where(is_dropped, 0, -advantages * bounded), where), info


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

    (Cui et al., arXiv:2505.22617; verl 018f23b5.) N is the number of tokens of the
    group, and the covariance is computed within the group, see the module. Tokens that tie with the
    last selected one are selected too. The penalty does not scale with the advantages.

    Not to be confused with: a KL divergence, despite the names of the method and its knob. The
    penalty is the absolute difference of log-probabilities, whose slope does not shrink with the
    distance and is 0 only at exactly ratio 1; in the first update on a batch, rounding differences
    between sampler and trainer determine its sign. Nor is it a trust region: the other tokens are
    not bounded.

    Args:
        logp: `[..., G, T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., G, T]` the same under the policy that sampled it; without gradient.
        advantages: `[..., G]`, one per sequence, or `[..., G, T]`; no gradient flows through them.
        where: `[..., G, T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens are averaged.
        share: fraction of a group's tokens that are penalised, in (0, 1]; at least one is.
        kl_coefficient: weight of the penalty, not negative.

    Returns:
        The loss as sum and count, and the metrics to log; `clip_fraction` counts penalised
        tokens.

    Raises:
        ValueError: `share` or `kl_coefficient` is out of range.
    """
    _require_share(share)
    if not 0.0 <= kl_coefficient < jnp.inf:
        raise ValueError(f"{kl_coefficient=} must be finite and not negative")
    log_ratio = log_ratios(logp, logp_old, where)
    advantages = advantages_on_tokens(advantages, where, dtype=log_ratio.dtype)
    covariance = covariances(logp, advantages, where)
    is_penalised = _largest(covariance, where & (covariance > 0), where, share)
    # |x| as sign(x) x: its gradient at ratio 1 is 0, while that of jnp.abs is 1.
    distance = jnp.sign(lax.stop_gradient(log_ratio)) * log_ratio
    penalty = jnp.where(is_penalised, kl_coefficient * distance, 0)
    info = surrogate_info(log_ratio, is_penalised, advantages, where)
    return reduce(-advantages * jnp.exp(log_ratio) + penalty, where), info


def covariances(logp: Array, advantages: Array, where: Array) -> Array:
    """`[..., G, T]`: each token's contribution to its group's covariance, without gradient.

    Exactly 0 in a group whose advantages are equal, for any value of them.

    Args:
        logp: `[..., G, T]`, in nats.
        advantages: `[..., G, T]`.
        where: `[..., G, T]` bool.
    """

    def group_covariances(logp: Array, advantages: Array, where: Array) -> Array:
        return moments(advantages, where).centred * moments(logp, where).centred

    size = where.shape[-2] * where.shape[-1]
    arrays = [x.reshape(-1, size) for x in (on_tokens(logp, where, name="logp"), advantages, where)]
    # Before the reductions, whose derivatives JAX does not partition by explicit axes.
    constants = lax.stop_gradient(arrays)
    return jax.vmap(group_covariances)(*constants).reshape(where.shape)


def _largest(values: Array, is_candidate: Array, where: Array, share: float) -> Array:
    """The candidates with the largest values, a fraction of each group's tokens, including ties."""
    scores = jnp.where(is_candidate, values, -jnp.inf).reshape(*where.shape[:-2], -1)
    tokens = jnp.sum(where, axis=(-2, -1), dtype=values.dtype)
    last = jnp.maximum(jnp.floor(share * tokens), 1).astype(jnp.int32) - 1
    ranked = jnp.sort(scores, axis=-1, descending=True)
    least = jnp.take_along_axis(ranked, last[..., None], axis=-1)[..., None]
    return is_candidate & (values >= least)


def _uniform_per_token(logp_old: Array, where: Array) -> Array:
    """A number in [0, 1) for every token, derived from its bits and its position in the group."""
    bits = lax.bitcast_convert_type(
        on_tokens(logp_old, where, name="logp_old").astype(jnp.float32), jnp.uint32
    )

    def draw(word: Array, member: Array, position: Array) -> Array:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), member), position)
        return jax.random.uniform(jax.random.fold_in(key, word))

    def draws(bits: Array) -> Array:
        members, positions = (
            lax.broadcasted_iota(jnp.uint32, bits.shape, bits.ndim - i) for i in (2, 1)
        )
        flat = [x.reshape(-1) for x in (bits, members, positions)]
        return jax.vmap(draw)(*flat).reshape(bits.shape)

    return lax.stop_gradient(with_automatic_axes(draws, bits))


def _require_share(share: float) -> None:
    if not 0.0 < share <= 1.0:
        raise ValueError(f"{share=} must lie in (0, 1]")
