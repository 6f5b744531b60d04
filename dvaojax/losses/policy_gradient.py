"""The plain policy gradient (REINFORCE; Williams, 1992)."""

from jax import Array

from dvaojax.losses.reductions import Reduction, token_mean
from dvaojax.losses.tokens import advantages_on_tokens, on_tokens
from dvaojax.numerics import Mean


def policy_gradient(
    logp: Array, advantages: Array, *, where: Array, reduce: Reduction = token_mean
) -> Mean:
    r"""Minus the advantage times the log-probability, one term per token.

    $$ L_t = -A_t \log \pi_t $$

    For tokens sampled from the current policy its gradient is the policy gradient, and equals that
    of `clipped_surrogate` (at ratio 1). Its value has no meaning. It does not correct for an older
    policy: over several updates on one batch of experience it is biased.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens are averaged.

    Returns:
        The loss as sum and count.
    """
    logp = on_tokens(logp, where, name="logp")
    return reduce(-advantages_on_tokens(advantages, where, dtype=logp.dtype) * logp, where)
