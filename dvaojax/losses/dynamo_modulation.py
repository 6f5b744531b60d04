"""DynaMO's modulation of the advantage, token by token (Fang et al., arXiv 2602.19208)."""

import jax
import jax.numpy as jnp
from jax import Array

from dvaojax.losses.tokens import advantages_on_tokens, on_tokens
from dvaojax.numerics import MAX_EXPONENT, masked_sum, require_shape, safe_divide


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
    r"""Raise positive advantages of low-entropy tokens; shrink those that change the entropy most.

    $$ \hat A_t = A_t\, \beta^{comp}_t \beta^{stab}_t, \qquad
       \beta^{comp}_t = 1 + (\mu - 1) \frac{H_{max} - H_t}{H_{max} - H_{min}}
       \text{ where } A_t > 0, \text{ else } 1 $$
    $$ \beta^{stab}_t = \lambda + \frac{1 - \lambda}{1 + e^{\gamma (x_t - \tau)}}, \quad
       x_t = \frac{\Xi_t}{\max \Xi}, \quad
       \Xi_t = \big| \xi_t \big(\pi_t \Lambda_t - \overline{\pi \Lambda}\big) \big| $$

    with $\Lambda_t = \log \pi_t + H_t$ and $\xi_t = \rho_t A_t$, or 0 where the ratio $\rho_t$ is
    clipped. $\Xi_t$ estimates how much the update changes the entropy; the mean is over the tokens
    of the completion. The defaults are those of the official script, "decay6_linearnorm"
    (GithubX-F/DynaMO-RL, commit 63e5ec9a); its "decay5_linearnorm" has threshold 0.9 and `most`
    1.4. The form of the decay is taken from that code; the paper's own was not available.

    Differences: the official code computes the largest and smallest values over a micro-batch, so
    that its size changes the update. Here they are computed over the *group*, so that the result
    does not depend on how the batch is split into micro-batches or over devices. The official code
    adds 1e-8 to both denominators to avoid division by 0; here 0 is handled exactly.

    Not to be confused with: an entropy bonus, which is a term of the loss with its own gradient.
    Here the entropy weights the advantage, and no gradient flows through it.

    Args:
        advantages: `[..., G]`, one per completion.
        logp: `[..., G, T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., G, T]` the same under the policy in the ratio's denominator.
        entropy: `[..., G, T]` of the policy's next-token distribution, in nats.
        where: `[..., G, T]` bool, true on sampled tokens; elsewhere values are ignored.
        clip_low: width of the loss's clip range below 1.
        clip_high: width of the loss's clip range above 1.
        least: $\lambda$, the factor in the limit of large entropy changes, in (0, 1].
        threshold: $\tau$, the fraction of the largest change at which the decay is halfway.
        steepness: $\gamma$, the steepness of the decay.
        most: $\mu$, the factor of the token with the smallest entropy of its group, at least 1.

    Returns:
        `[..., G, T]`, 0 where `where` is false; without gradient.

    Raises:
        ValueError: `least` or `most` is out of range.
        AssertionError: the shapes do not fit.
    """
    if not 0.0 < least <= 1.0 <= most:
        raise ValueError(f"{least=} must lie in (0, 1] and {most=} must be at least 1")
    for name, array in (("logp_old", logp_old), ("entropy", entropy), ("where", where)):
        require_shape(name, array, logp.shape, axes="[..., G, T]", like="logp")
    logp, logp_old, entropy = (
        jax.lax.stop_gradient(on_tokens(values, where)) for values in (logp, logp_old, entropy)
    )
    token_advantages = advantages_on_tokens(advantages, where, dtype=logp.dtype)
    change = _entropy_change(token_advantages, logp, logp_old, entropy, where, clip_low, clip_high)
    largest = jnp.max(change, axis=(-2, -1), keepdims=True)
    decay = jax.nn.sigmoid(-steepness * (safe_divide(change, largest) - threshold))
    highest = jnp.max(jnp.where(where, entropy, -jnp.inf), axis=(-2, -1), keepdims=True)
    lowest = jnp.min(jnp.where(where, entropy, jnp.inf), axis=(-2, -1), keepdims=True)
    headroom = jnp.where(where, highest - entropy, 0)
    certainty = safe_divide(headroom, jnp.broadcast_to(highest - lowest, headroom.shape))
    boost = jnp.where(token_advantages > 0, 1 + (most - 1) * certainty, 1)
    return jnp.where(where, token_advantages * boost * (least + (1 - least) * decay), 0)


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
