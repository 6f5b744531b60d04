r"""How far the policy is from a reference, estimated from the tokens it sampled.

With `d = log pi(x) - log pi_ref(x)` at a token `x` drawn from `pi`, three estimators of the reverse
divergence `KL(pi || pi_ref) = E_pi[d]` (Schulman, http://joschu.net/blog/kl-approx.html):

| name | value             | mean of the value      | mean of the gradient, as a loss  |
|------|-------------------|------------------------|----------------------------------|
| k1   | `d`               | `KL(pi || pi_ref)`     | 0: it teaches nothing            |
| k2   | `d^2 / 2`         | biased, third order    | that of `KL(pi || pi_ref)`       |
| k3   | `exp(-d) + d - 1` | `KL(pi || pi_ref)`     | that of `KL(pi_ref || pi)`       |

The value of an estimator and its gradient are two questions. A gradient taken through the value
does not see that the tokens were drawn from `pi`; so k1, unbiased to look at, only adds noise to a
loss; k2 is the one whose gradient is the reverse divergence's; and k3, which GRPO subtracts
(arXiv:2402.03300, eq. 4), pulls as the *forward* divergence does. The three agree where the two
policies agree, to first order in the gradient. All of it holds for tokens drawn from the policy
itself; for those of an older policy it holds up to the ratio of the two, which is not applied here.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax.losses.reductions import Reduction, token_mean
from dvaojax.losses.tokens import on_tokens
from dvaojax.numerics import MAX_EXPONENT, Mean

Estimator = Callable[[Array, Array], Array]
"""`(logp, logp_reference) -> value`, element by element."""


def k1(logp: Array, logp_reference: Array) -> Array:
    """The log-ratio itself: unbiased, of either sign, and of high variance.

    For reading, not for training: the mean of its gradient is 0 (see the module).

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_reference: `[..., T]` the same under the reference.

    Returns:
        `[..., T]` in nats.
    """
    return logp - logp_reference


def k2(logp: Array, logp_reference: Array) -> Array:
    """Half the squared log-ratio: biased in value, the right gradient for the reverse divergence.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_reference: `[..., T]` the same under the reference.

    Returns:
        `[..., T]`, never negative.
    """
    return 0.5 * jnp.square(logp - logp_reference)


def k3(logp: Array, logp_reference: Array) -> Array:
    """GRPO's estimator: unbiased in value, never negative, the forward divergence's gradient.

    Where the reference finds a token more than exp(20) times as likely as the policy does, value
    and gradient stop growing: the gradient there is 0.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_reference: `[..., T]` the same under the reference.

    Returns:
        `[..., T]`, never negative but for rounding.
    """
    difference = jnp.minimum(logp_reference - logp, MAX_EXPONENT)
    return jnp.expm1(difference) - difference


def kl_penalty(
    logp: Array,
    logp_reference: Array,
    *,
    where: Array,
    estimator: Estimator = k3,
    reduce: Reduction = token_mean,
) -> Mean:
    """The divergence from the reference as a loss, to be weighted and added to the policy's loss.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_reference: `[..., T]` the same under the reference; no gradient flows through it.
        where: `[..., T]` bool, true on sampled tokens; elsewhere anything may stand.
        estimator: `k1`, `k2` or `k3`; which one decides what the gradient means (see the module).
        reduce: how tokens become one mean.

    Returns:
        The mean as sum and count.
    """
    logp_reference = jax.lax.stop_gradient(on_tokens(logp_reference, where))
    return reduce(estimator(on_tokens(logp, where), logp_reference), where)


KL_ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}
"""The estimators by the name a configuration writes."""
