"""The sampled token against all the others: a next-token distribution seen as a coin.

What a loss of this room knows of a distribution is the probability `p` of the token that was drawn;
the rest of it has `1 - p`. Float32 cannot tell `1 - p` from its rounding where `p` is nearly 1, so
`p` counts as no nearer to 1 than a caller says. All functions are elementwise.
"""

import jax.numpy as jnp
from jax import Array


def log_complement(logp: Array, *, least: float) -> Array:
    """`log(1 - p)`, with `1 - p` at least about `least`; no gradient where that bound acts."""
    return jnp.log(-jnp.expm1(jnp.minimum(logp, -least)))


def log_odds(logp: Array, *, least: float) -> Array:
    """`log(p / (1 - p))`, with `1 - p` at least about `least`; no gradient where that bound acts.

    It is the logit of the token minus the log-sum-exp of all other logits: raising the token's
    logit by `d` and leaving the others alone raises it by `d`.
    """
    held = jnp.minimum(logp, -least)
    return held - log_complement(held, least=least)


def binary_kl(logp: Array, logp_other: Array, *, least: float) -> Array:
    """`p log(p/q) + (1 - p) log((1 - p)/(1 - q))` in nats, from the two logarithms."""
    p, rest = jnp.exp(logp), -jnp.expm1(logp)
    of_rest = log_complement(logp, least=least) - log_complement(logp_other, least=least)
    return p * (logp - logp_other) + rest * of_rest
