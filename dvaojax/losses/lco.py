"""LCO, Logits Convex Optimization (arXiv:2603.00963): A RECONSTRUCTION, in three forms.

The paper starts from the optimum of the KL-regularised objective, `pi* ~ pi_old exp(A / beta)`,
whose logits are `z_old + A / beta`, and fits the policy to it with a loss that is convex in the
logits. Its exact normalisation was not found, nor was code. What stands here is its "sparse" case,
in which only the sampled token has an advantage, written with what a loss is given: with the logit
of the token against all others, `o = log(p / (1 - p))`, the target is

    o* = o_old + A / beta

because adding `A / beta` to one logit adds it to that token's log-odds. The scale is chosen here:
each loss is `beta` times a distance of `o` from `o*`, so that (A, beta) -> (c A, c beta) multiplies
it by c, and the first two have slope -A by `o` at the old policy, to first order in `A / beta`.

All three differ from a policy gradient in one way that is easily missed: a token without an
advantage is pulled back to the old policy instead of being left alone.
"""

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax.losses.bernoulli import log_odds
from dvaojax.losses.ratios import SurrogateInfo, log_ratios, require_positive, surrogate_info
from dvaojax.losses.reductions import Reduction, token_mean
from dvaojax.losses.tokens import advantages_on_tokens, on_tokens
from dvaojax.numerics import Mean

# The slope by logp is that by the log-odds over 1 - p: below this, rounding would be magnified.
# The policy gradient of such a token's logit is below 1e-4 of its advantage.
_LEAST_REST = 1e-4


def lco_mse(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = token_mean,
    beta: float = 1.0,
) -> tuple[Mean, SurrogateInfo]:
    r"""Half the squared distance of the log-odds from the optimum's. A RECONSTRUCTION: see above.

    $$ L_t = \tfrac{\beta}{2} (o_t - o^*_t)^2 $$

    (Chen et al., arXiv:2603.00963, LCO-MSE.) Its slope by the log-probability is that by the
    log-odds over $1 - p$: $-A / (1 - p)$ at the old policy. A probability within 1e-4 of 1 counts
    as there and has no gradient.

    What it is confused with. The paper's loss to the letter, which is on all logits: this is for
    the sampled token alone. And a policy gradient: a token without an advantage is pulled back to
    where it was, and one that has gone beyond its target too.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere anything may stand.
        reduce: how tokens become one mean.
        beta: how much the divergence from the old policy costs, above 0; the smaller, the farther
            the target.

    Returns:
        The loss as sum and count, and the numbers worth logging; nothing is ever clipped.

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
    r"""The same distance through log cosh, whose slope is bounded. A RECONSTRUCTION: see above.

    $$ L_t = \beta \log\cosh(o_t - o^*_t) $$

    (Chen et al., arXiv:2603.00963, LCO-LCH.) Near the target it is `lco_mse`, far from it the slope
    by the log-odds is $\pm\beta$: $-\beta\tanh(A/\beta)$ at the old policy.

    What it is confused with. See `lco_mse`. Its slope is bounded, its advantage is not: an
    advantage ten times as large puts the target ten times as far.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere anything may stand.
        reduce: how tokens become one mean.
        beta: how much the divergence from the old policy costs, above 0.

    Returns:
        The loss as sum and count, and the numbers worth logging; nothing is ever clipped.

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
    r"""The divergence of the policy from the optimum. A RECONSTRUCTION: see above.

    $$ L_t = \beta\, \mathrm{KL}\big(\mathrm{Bern}(p^*_t) \,\|\, \mathrm{Bern}(p_t)\big)
       \quad\text{with}\quad p^*_t = \mathrm{sigmoid}(o^*_t) $$

    (Chen et al., arXiv:2603.00963, LCO-KLD.) Its slope by the log-odds is $\beta (p_t - p^*_t)$,
    about $-p(1-p) A$ at the old policy: unlike the other two it hardly moves a token that is very
    unlikely or very likely. The divergence is that of "this token or any other".

    What it is confused with. See `lco_mse`. A penalty for leaving the old policy, which is the
    divergence the other way round and from another point: this one is from the target.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere anything may stand.
        reduce: how tokens become one mean.
        beta: how much the divergence from the old policy costs, above 0.

    Returns:
        The loss as sum and count, and the numbers worth logging; nothing is ever clipped.

    Raises:
        ValueError: `beta` is not positive and finite.
    """
    odds, target, advantages = _odds_and_target(logp, logp_old, advantages, where, beta)
    info = _info(logp, logp_old, advantages, where)
    of_rest = jax.nn.softplus(odds) - jax.nn.softplus(target)
    return reduce(beta * (jax.nn.sigmoid(target) * (target - odds) + of_rest), where), info


def _odds_and_target(
    logp: Array, logp_old: Array, advantages: Array, where: Array, beta: float
) -> tuple[Array, Array, Array]:
    """The policy's log-odds of each token, the optimum's, and each token's advantage."""
    require_positive(beta=beta)
    odds = log_odds(on_tokens(logp, where), least=_LEAST_REST)
    old = jax.lax.stop_gradient(log_odds(on_tokens(logp_old, where), least=_LEAST_REST))
    advantages = advantages_on_tokens(advantages, where, dtype=odds.dtype)
    return odds, old + advantages / beta, advantages


def _info(logp: Array, logp_old: Array, advantages: Array, where: Array) -> SurrogateInfo:
    """What is logged of a step in which nothing is clipped."""
    log_ratio = log_ratios(logp, logp_old, where)
    return surrogate_info(log_ratio, jnp.zeros_like(where), advantages, where)
