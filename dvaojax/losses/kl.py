r"""Estimators of the KL divergence of the policy from a reference, from sampled tokens.

With `d = log pi(x) - log pi_ref(x)` at a token `x` drawn from `pi`, three estimators of the reverse
divergence `KL(pi || pi_ref) = E_pi[d]` (Schulman, http://joschu.net/blog/kl-approx.html):

| name | value             | mean of the value      | mean of the gradient, as a loss  |
|------|-------------------|------------------------|----------------------------------|
| k1   | `d`               | `KL(pi || pi_ref)`     | 0: no training signal            |
| k2   | `d^2 / 2`         | biased, third order    | that of `KL(pi || pi_ref)`       |
| k3   | `exp(-d) + d - 1` | `KL(pi || pi_ref)`     | that of `KL(pi_ref || pi)`       |

An estimator with an unbiased value need not have an unbiased gradient. Differentiating the value
ignores that the distribution of the tokens depends on `pi`. Hence k1 only adds noise to a loss; the
gradient of k2 is that of the reverse divergence; and k3, which GRPO subtracts (arXiv:2402.03300,
eq. 4), has the gradient of the *forward* divergence. Near `pi = pi_ref` the gradients of k2 and k3
agree to first order. All of this is for tokens sampled from the policy itself; for tokens of an
older policy it would need importance weights, which are not applied here.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax.losses.reductions import Reduction, token_mean
from dvaojax.losses.tokens import on_tokens
from dvaojax.numerics import MAX_EXPONENT, Mean, require_shape

Estimator = Callable[[Array, Array], Array]
"""`(logp, logp_reference) -> value`, elementwise."""


def k1(logp: Array, logp_reference: Array) -> Array:
    """The log-ratio itself: unbiased, of either sign, and of high variance.

    For monitoring, not for training: the mean of its gradient is 0 (see the module).

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_reference: `[..., T]` the same under the reference.

    Returns:
        `[..., T]` in nats.
    """
    return _difference(logp, logp_reference)


def k2(logp: Array, logp_reference: Array) -> Array:
    """Half the squared log-ratio: biased in value, with the gradient of the reverse divergence.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_reference: `[..., T]` the same under the reference.

    Returns:
        `[..., T]`, never negative.
    """
    return 0.5 * jnp.square(_difference(logp, logp_reference))


def k3(logp: Array, logp_reference: Array) -> Array:
    """GRPO's estimator: unbiased, never negative, with the gradient of the forward divergence.

    Where a token is more than exp(20) times as likely under the reference as under the policy, the
    value is constant and the gradient 0.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_reference: `[..., T]` the same under the reference.

    Returns:
        `[..., T]`, not negative up to rounding.
    """
    difference = jnp.minimum(-_difference(logp, logp_reference), MAX_EXPONENT)
    return jnp.expm1(difference) - difference


def _difference(logp: Array, logp_reference: Array) -> Array:
    require_shape("logp_reference", logp_reference, jnp.shape(logp), axes="[..., T]", like="logp")
    return logp - logp_reference


def kl_penalty(
    logp: Array,
    logp_reference: Array,
    *,
    where: Array,
    estimator: Estimator = k3,
    reduce: Reduction = token_mean,
) -> Mean:
    """The divergence from the reference as a term to weight and add to the policy's loss.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_reference: `[..., T]` the same under the reference; no gradient flows through it.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        estimator: `k1`, `k2` or `k3`; they differ in their gradients (see the module).
        reduce: how the tokens are averaged.

    Returns:
        The mean as sum and count.
    """
    logp_reference = jax.lax.stop_gradient(on_tokens(logp_reference, where, name="logp_reference"))
    return reduce(estimator(on_tokens(logp, where, name="logp"), logp_reference), where)


KL_ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}
"""The estimators by their name in a configuration."""
