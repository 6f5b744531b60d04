"""DynaMO's modulation of the advantage, token by token (Fang et al., arXiv 2602.19208)."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from dvaojax.losses.tokens import advantages_on_tokens, on_tokens
from dvaojax.numerics import MAX_EXPONENT, masked_sum, safe_divide


def dynamo_modulation(
    advantages: Array,
    logp: Array,
    logp_old: Array,
    entropy: Array,
    *,
    where: Array,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    least: float = 0.6,
    threshold: float = 0.99,
    steepness: float = 50.0,
    most: float = 1.2,
) -> Array:
    r"""More for sure and right tokens, less for tokens that move the entropy most.

    $$ \hat A_t = A_t\, \beta^{comp}_t \beta^{stab}_t, \qquad
       \beta^{comp}_t = 1 + (\mu - 1) \frac{H_{max} - H_t}{H_{max} - H_{min}}
       \text{ where } A_t > 0, \text{ else } 1 $$
    $$ \beta^{stab}_t = \lambda + \frac{1 - \lambda}{1 + e^{\gamma (x_t - \tau)}}, \quad
       x_t = \frac{\Xi_t}{\max \Xi}, \quad
       \Xi_t = \big| \xi_t \big(\pi_t \Lambda_t - \overline{\pi \Lambda}\big) \big| $$

    with $\Lambda_t = \log \pi_t + H_t$ and $\xi_t = \rho_t A_t$, or 0 where the ratio $\rho_t$ is
    clipped; $\Xi_t$ estimates by how much the update changes the entropy, the mean being that over
    the completion's tokens. The defaults are those of the official script, "decay6_linearnorm"
    (GithubX-F/DynaMO-RL, commit 63e5ec9a); its "decay5_linearnorm" has a threshold of 0.9 and 1.4
    for `most`. The paper's own form of the decay was not seen outside that code.

    A departure: the official code takes the largest and smallest values over a micro-batch, so that
    its size changes the update. Here they are those of the *group*, which is never cut: how a batch
    is cut into micro-batches or laid over devices changes nothing. The official 1e-8 in both
    denominators is a guard against 0, which is an exact one here.

    What it is confused with. An entropy bonus, which is a term of the loss with a gradient of its
    own; here the entropy weights the advantage, and no gradient flows through it.

    Args:
        advantages: `[..., G]`, one per completion.
        logp: `[..., G, T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., G, T]` the same under the policy that the ratio is anchored to.
        entropy: `[..., G, T]` of the policy's next-token distribution, in nats.
        where: `[..., G, T]` bool, true on sampled tokens; elsewhere anything may stand.
        clip_low: how far below 1 the loss lets the ratio pull.
        clip_high: how far above 1.
        least: $\lambda$, what is left of the advantage where the entropy changes most, in (0, 1].
        threshold: $\tau$, the share of the largest change where it is halfway there.
        steepness: $\gamma$ of the way there.
        most: $\mu$, the factor of a token whose entropy is the group's smallest, at least 1.

    Returns:
        `[..., G, T]`, 0 where `where` is false; without gradient.

    Raises:
        ValueError: `least` or `most` is out of range.
        AssertionError: the shapes do not fit.
    """
    if not 0.0 < least <= 1.0 <= most:
        raise ValueError(f"least={least} must lie in (0, 1] and most={most} not below 1")
    chex.assert_equal_shape([logp, logp_old, entropy, where])
    logp, logp_old, entropy = (
        jax.lax.stop_gradient(on_tokens(values, where)) for values in (logp, logp_old, entropy)
    )
    given = advantages_on_tokens(advantages, where, dtype=logp.dtype)
    change = _entropy_change(given, logp, logp_old, entropy, where, clip_low, clip_high)
    largest = jnp.max(change, axis=(-2, -1), keepdims=True)
    decay = jax.nn.sigmoid(-steepness * (safe_divide(change, largest) - threshold))
    highest = jnp.max(jnp.where(where, entropy, -jnp.inf), axis=(-2, -1), keepdims=True)
    lowest = jnp.min(jnp.where(where, entropy, jnp.inf), axis=(-2, -1), keepdims=True)
    above = jnp.where(where, highest - entropy, 0)
    sureness = safe_divide(above, jnp.broadcast_to(highest - lowest, above.shape))
    boost = jnp.where(given > 0, 1 + (most - 1) * sureness, 1)
    return jnp.where(where, given * boost * (least + (1 - least) * decay), 0)


def _entropy_change(
    advantages: Array,
    logp: Array,
    logp_old: Array,
    entropy: Array,
    where: Array,
    clip_low: float,
    clip_high: float,
) -> Array:
    r"""$\Xi$, `[..., G, T]`; 0 where `where` is false."""
    ratio = jnp.exp(jnp.clip(logp - logp_old, -MAX_EXPONENT, MAX_EXPONENT))
    pulls_up = (advantages > 0) & (ratio <= 1 + clip_high)
    pulls_down = (advantages < 0) & (ratio >= 1 - clip_low)
    pull = jnp.where(pulls_up | pulls_down, ratio * advantages, 0)
    product = jnp.where(where, jnp.exp(logp) * (logp + entropy), 0)
    count = jnp.sum(where, axis=-1, keepdims=True, dtype=product.dtype)
    mean = safe_divide(masked_sum(product, where, axis=-1)[..., None], count)
    return jnp.where(where, jnp.abs(pull * (product - mean)), 0)
