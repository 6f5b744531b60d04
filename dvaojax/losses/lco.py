"""LCO, Logits Convex Optimization (arXiv:2603.00963): A RECONSTRUCTION, in three forms.

The paper starts from the optimum of the KL-regularised objective, `pi* ~ pi_old exp(A / beta)`,
whose logits are `z_old + A / beta`, and fits the policy to it with a loss that is convex in the
logits. Neither its exact normalisation nor code was available. This module implements its "sparse"
case, in which only the sampled token has an advantage, in terms of the token's log-odds
`o = log(p / (1 - p))`. The target is

    o* = o_old + A / beta

because adding `A / beta` to one logit adds it to that token's log-odds. The scale is our choice:
each loss is `beta` times a distance of `o` from `o*`, so that (A, beta) -> (c A, c beta) multiplies
it by c, and the derivative of the first two with respect to `o` at the old policy is -A, to first
order in `A / beta`.

All three differ from a policy gradient in one way that is easily missed: a token with advantage 0
is pulled back to the old policy instead of having no gradient.
"""

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax.losses.bernoulli import log_odds
from dvaojax.losses.ratios import SurrogateInfo, log_ratios, require_positive, surrogate_info
from dvaojax.losses.reductions import Reduction, token_mean
from dvaojax.losses.tokens import advantages_on_tokens, on_tokens
from dvaojax.numerics import Mean

# The derivative by logp is that by the log-odds divided by 1 - p; a smaller bound on 1 - p would
# amplify rounding. The policy gradient of such a token's logit is below 1e-4 of its advantage.
_MIN_COMPLEMENT = 1e-4


def lco_mse(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = token_mean,
    beta: float = 1.0,
) -> tuple[Mean, SurrogateInfo]:
    r"""Half the squared distance from the optimal log-odds. A RECONSTRUCTION, see the module.

    $$ L_t = \tfrac{\beta}{2} (o_t - o^*_t)^2 $$

    (Chen et al., arXiv:2603.00963, LCO-MSE.) Its derivative by the log-probability is that by
    the log-odds divided by $1 - p$: $-A / (1 - p)$ at the old policy. A probability within 1e-4 of
    1 counts as 1 - 1e-4 and has no gradient.

    Not to be confused with: the exact loss of the paper, which is on all logits; this one is on the
    sampled token only. Nor is it a policy gradient: a token with advantage 0 is pulled back to the
    old policy, and a token beyond its target is pulled back to the target.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens are averaged.
        beta: weight of the divergence from the old policy, above 0; a smaller value moves the
            target farther away.

    Returns:
        The loss as sum and count, and the metrics to log; nothing is clipped.

    Raises:
        ValueError: `beta` is not positive and finite.
    """
    odds, target, advantages = _odds_and_target(logp, logp_old, advantages, where, beta)
    info = _info(logp, logp_old, advantages, where)
    return reduce(0.5 * beta * jnp.square(odds - target), where), info


def lco_lch(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = token_mean,
    beta: float = 1.0,
) -> tuple[Mean, SurrogateInfo]:
    r"""Log cosh of the distance, whose derivative is bounded. A RECONSTRUCTION, see the module.

    $$ L_t = \beta \log\cosh(o_t - o^*_t) $$

    (Chen et al., arXiv:2603.00963, LCO-LCH.) Near the target it equals `lco_mse`; far from it the
    derivative by the log-odds is $\pm\beta$. At the old policy it is $-\beta\tanh(A/\beta)$.

    Not to be confused with: those named in `lco_mse`. Nor with a bound on the advantage: the
    derivative is bounded, but a ten times larger advantage puts the target ten times farther away.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens are averaged.
        beta: weight of the divergence from the old policy, above 0.

    Returns:
        The loss as sum and count, and the metrics to log; nothing is clipped.

    Raises:
        ValueError: `beta` is not positive and finite.
    """
    odds, target, advantages = _odds_and_target(logp, logp_old, advantages, where, beta)
    info = _info(logp, logp_old, advantages, where)
    distance = odds - target
    return reduce(beta * (jnp.logaddexp(distance, -distance) - jnp.log(2.0)), where), info


def lco_kld(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = token_mean,
    beta: float = 1.0,
) -> tuple[Mean, SurrogateInfo]:
    r"""The KL divergence of the policy from the optimum. A RECONSTRUCTION, see the module.

    $$ L_t = \beta\, \mathrm{KL}\big(\mathrm{Bern}(p^*_t) \,\|\, \mathrm{Bern}(p_t)\big)
       \quad\text{with}\quad p^*_t = \mathrm{sigmoid}(o^*_t) $$

    (Chen et al., arXiv:2603.00963, LCO-KLD.) Its derivative by the log-odds is
    $\beta (p_t - p^*_t)$, about $-p(1-p) A$ at the old policy: unlike the other two it hardly moves
    a token that is very unlikely or very likely. The divergence is between the Bernoulli
    distributions of "this token or any other".

    Not to be confused with: those named in `lco_mse`. Nor with a penalty for leaving the old
    policy, which has the arguments of the divergence in the other order and the old policy instead
    of the target.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens are averaged.
        beta: weight of the divergence from the old policy, above 0.

    Returns:
        The loss as sum and count, and the metrics to log; nothing is clipped.

    Raises:
        ValueError: `beta` is not positive and finite.
    """
    odds, target, advantages = _odds_and_target(logp, logp_old, advantages, where, beta)
    info = _info(logp, logp_old, advantages, where)
    log_ratio = jax.nn.softplus(odds) - jax.nn.softplus(target)
    return reduce(beta * (jax.nn.sigmoid(target) * (target - odds) + log_ratio), where), info


def _odds_and_target(
    logp: Array, logp_old: Array, advantages: Array, where: Array, beta: float
) -> tuple[Array, Array, Array]:
    """Log-odds of each token under the policy and under the optimum, and each token's advantage."""
    require_positive(beta=beta)
    odds = log_odds(on_tokens(logp, where, name="logp"), least=_MIN_COMPLEMENT)
    old = jax.lax.stop_gradient(
        log_odds(on_tokens(logp_old, where, name="logp_old"), least=_MIN_COMPLEMENT)
    )
    advantages = advantages_on_tokens(advantages, where, dtype=odds.dtype)
    return odds, old + advantages / beta, advantages


def _info(logp: Array, logp_old: Array, advantages: Array, where: Array) -> SurrogateInfo:
    """The metrics of a loss that does not clip."""
    log_ratio = log_ratios(logp, logp_old, where)
    return surrogate_info(log_ratio, jnp.zeros_like(where), advantages, where)
