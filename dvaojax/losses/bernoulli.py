"""The Bernoulli distribution of a next token: the sampled token against all others.

The losses only know the probability `p` of the sampled token; all other tokens together have
`1 - p`. In float32, `1 - p` has no accurate digits where `p` is nearly 1, so each function bounds
`1 - p` from below by about `least`. All functions are elementwise.
"""

import jax.numpy as jnp
from jax import Array


def log_complement(logp: Array, *, least: float) -> Array:
    """`log(1 - p)`, with `1 - p` at least about `least`; the gradient is 0 below that."""
    return jnp.log(-jnp.expm1(jnp.minimum(logp, -least)))


def log_odds(logp: Array, *, least: float) -> Array:
    """`log(p / (1 - p))`, with `1 - p` at least about `least`; the gradient is 0 below that.

    The log-odds are the logit of the token minus the log-sum-exp of all other logits: raising only
    the token's logit by `d` raises them by `d`.
    """
    bounded = jnp.minimum(logp, -least)
    return bounded - log_complement(bounded, least=least)


def binary_kl(logp: Array, logp_other: Array, *, least: float) -> Array:
    """`p log(p/q) + (1 - p) log((1 - p)/(1 - q))` in nats, from the two logarithms."""
    p, complement = jnp.exp(logp), -jnp.expm1(logp)
    log_ratio = log_complement(logp, least=least) - log_complement(logp_other, least=least)
    return p * (logp - logp_other) + complement * log_ratio
