"""DPPO, Divergence PPO (arXiv:2602.04879): a trust region in probability, not in ratio."""

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax.losses.bernoulli import binary_kl
from dvaojax.losses.ratios import SurrogateInfo, log_ratios, require_positive, surrogate_info
from dvaojax.losses.reductions import Reduction, token_mean
from dvaojax.losses.tokens import advantages_on_tokens, on_tokens
from dvaojax.numerics import Mean

# The mask needs no gradient, so that the bound on 1 - p may be smaller than in `lco`.
_MIN_COMPLEMENT = 1e-6


def dppo_tv(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = token_mean,
    delta_low: float = 0.15,
    delta_high: float = 0.15,
    ratio_cap: float = 20.0,
) -> tuple[Mean, SurrogateInfo]:
    r"""The policy gradient without tokens whose probability has already moved too far.

    $$ L_t = -M_t \,\mathrm{sg}[\min(\rho_t, c)]\, A_t \log\pi_t \quad\text{with}\quad M_t =
       \begin{cases} [\pi_t - \mu_t \le \delta_h] & A_t > 0 \cr
                     [\pi_t - \mu_t \ge -\delta_l] & A_t \le 0 \end{cases} $$

    (Qi et al., arXiv:2602.04879, binary total variation; verl 018f23b5.) $|\pi_t - \mu_t|$ is the
    total variation between "this token" and "any other" under the two policies. A masked
    token still counts in the mean. In the paper $\mu$ is the policy that *sampled* the token, and
    training with log-probabilities recomputed by the trainer collapsed; so pass those of the
    sampler as `logp_old`.

    Not to be confused with: a clip of the ratio, which stops an unlikely token that doubles from
    0.001 and lets a likely one fall from 0.99 to 0.8; DPPO does the opposite. Nor is it the total
    variation between the whole distributions, for which it is a lower bound.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens are averaged.
        delta_low: largest decrease of the probability where the advantage is not positive.
        delta_high: largest increase of the probability where the advantage is positive.
        ratio_cap: largest importance weight, at least 1; the paper recommends a large one.

    Returns:
        The loss as sum and count, and the metrics to log; `clip_fraction` counts masked
        tokens.

    Raises:
        ValueError: a delta is not positive and finite, or `ratio_cap` is below 1.
    """
    change = jnp.exp(on_tokens(logp, where, name="logp")) - jnp.exp(
        on_tokens(logp_old, where, name="logp_old")
    )
    return _masked_gradient(
        logp,
        logp_old,
        advantages,
        where=where,
        reduce=reduce,
        has_risen=change > delta_high,
        has_fallen=change < -delta_low,
        deltas={"delta_low": delta_low, "delta_high": delta_high},
        ratio_cap=ratio_cap,
    )


def dppo_kl(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = token_mean,
    delta_low: float = 0.05,
    delta_high: float = 0.05,
    ratio_cap: float = 20.0,
) -> tuple[Mean, SurrogateInfo]:
    r"""`dppo_tv` with a divergence in place of a difference of probabilities.

    $$ M_t = 0 \iff \mathrm{KL}\big(\mathrm{Bern}(\mu_t) \,\|\, \mathrm{Bern}(\pi_t)\big) > \delta
       \ \text{and}\ (A_t > 0 \wedge \pi_t > \mu_t \ \vee\ A_t \le 0 \wedge \pi_t < \mu_t) $$

    (Qi et al., arXiv:2602.04879, binary KL; verl 018f23b5.) The divergence is between the
    Bernoulli distributions of "this token or any other", from the sampler's policy to the current
    one, in nats. A probability within 1e-6 of 1 counts as 1 - 1e-6; in verl within 1e-8, which
    float32 cannot represent.

    Not to be confused with: the divergence between the whole distributions, for which it is a lower
    bound. Nor is it a penalty: within the bound it has no effect.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens are averaged.
        delta_low: largest divergence of a token that has become less likely, in nats.
        delta_high: largest divergence of a token that has become more likely, in nats.
        ratio_cap: largest importance weight, at least 1.

    Returns:
        The loss as sum and count, and the metrics to log; `clip_fraction` counts masked
        tokens.

    Raises:
        ValueError: a delta is not positive and finite, or `ratio_cap` is below 1.
    """
    new, old = on_tokens(logp, where, name="logp"), on_tokens(logp_old, where, name="logp_old")
    divergence = binary_kl(old, new, least=_MIN_COMPLEMENT)
    return _masked_gradient(
        logp,
        logp_old,
        advantages,
        where=where,
        reduce=reduce,
        has_risen=(divergence > delta_high) & (new > old),
        has_fallen=(divergence > delta_low) & (new < old),
        deltas={"delta_low": delta_low, "delta_high": delta_high},
        ratio_cap=ratio_cap,
    )


def _masked_gradient(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction,
    has_risen: Array,
    has_fallen: Array,
    deltas: dict[str, float],
    ratio_cap: float,
) -> tuple[Mean, SurrogateInfo]:
    """The weighted policy gradient of the tokens that have not moved too far."""
    require_positive(**deltas)
    if not ratio_cap >= 1.0:
        raise ValueError(f"{ratio_cap=} must be at least 1")
    log_ratio = log_ratios(logp, logp_old, where)
    advantages = advantages_on_tokens(advantages, where, dtype=log_ratio.dtype)
    is_masked = jnp.where(advantages > 0, has_risen, has_fallen)
    weight = jnp.minimum(jax.lax.stop_gradient(jnp.exp(log_ratio)), ratio_cap)
    terms = -weight * advantages * on_tokens(logp, where, name="logp")
    info = surrogate_info(log_ratio, is_masked, advantages, where)
    return reduce(jnp.where(is_masked, 0, terms), where), info
