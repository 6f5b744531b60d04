"""DynaMO's loss: PPO's surrogate with modulated advantages (Fang et al., arXiv 2602.19208)."""

import math

from jax import Array

from dvaojax.losses.clipped_surrogate import clipped_surrogate
from dvaojax.losses.dynamo_modulation import dynamo_modulation
from dvaojax.losses.ratios import SurrogateInfo
from dvaojax.losses.reductions import Reduction, token_mean
from dvaojax.numerics import Mean


def dynamo(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    entropy: Array,
    reduce: Reduction = token_mean,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float = math.inf,
    least: float = 0.6,
    threshold: float = 0.99,
    steepness: float = 50.0,
    most: float = 1.2,
) -> tuple[Mean, SurrogateInfo]:
    r"""`clipped_surrogate` of the advantages that `dynamo_modulation` returns.

    $$ L_t = -\min\big(\rho_t \hat A_t,\; \mathrm{clip}(\rho_t, 1-\epsilon_l, 1+\epsilon_h)
       \hat A_t\big), \qquad \hat A_t = A_t\, \beta^{comp}_t \beta^{stab}_t $$

    The compensation raises positive advantages of tokens of low entropy, by at most `most`; the
    stabilisation shrinks those that change the entropy most, by at least `least`. Both are relative
    to the tokens of the group, so the loss needs whole groups `[..., G, T]`. The other half of the
    method distributes completions over problems: `allocation.name=neyman`, or `dynamo` for that of
    the code.

    Not to be confused with: an entropy bonus; no gradient flows through the factors. The
    allocation rule `dynamo` is another part of the paper.

    Args:
        logp: `[..., G, T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., G, T]` the same under the policy that sampled it; no gradient flows
            through.
        advantages: `[..., G]`, one per sequence, or `[..., G, T]`; no gradient flows through them.
        where: `[..., G, T]` bool, true on sampled tokens; elsewhere values are ignored.
        entropy: `[..., G, T]` of the policy's next-token distribution, in nats; no gradient flows
            through it.
        reduce: how the tokens are averaged.
        clip_low: width of the clip range below 1, in [0, 1].
        clip_high: width of the clip range above 1, not negative.
        dual_clip: upper bound of the ratio where the advantage is negative, above 1; infinity sets
            no bound.
        least: the factor in the limit of large entropy changes, in (0, 1].
        threshold: the fraction of the group's largest change at which the decay is halfway.
        steepness: of the decay.
        most: the factor of the token with the smallest entropy of its group, at least 1.

    Returns:
        The loss as sum and count, and the metrics to log.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: the clip range does not contain 1, or a factor is out of its range.
    """
    modulated = dynamo_modulation(
        advantages,
        logp,
        logp_old,
        entropy,
        where=where,
        clip_low=clip_low,
        clip_high=clip_high,
        least=least,
        threshold=threshold,
        steepness=steepness,
        most=most,
    )
    return clipped_surrogate(
        logp,
        logp_old,
        modulated,
        where=where,
        reduce=reduce,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
    )


def dynamo_code(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    entropy: Array,
    reduce: Reduction = token_mean,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float = 10.0,
    least: float = 0.6,
    threshold: float = 0.99,
    steepness: float = 50.0,
    most: float = 1.2,
) -> tuple[Mean, SurrogateInfo]:
    r"""`dynamo` with the clip of the official code, which differs from its configuration.

    $$ L_t = -\min\big(\rho_t \hat A_t,\; \mathrm{clip}(\rho_t, 1-0.2, 1+0.28) \hat A_t\big),
       \text{ at least } 10 \hat A_t \text{ where } \hat A_t < 0 $$

    The official script (GithubX-F/DynaMO-RL, commit 63e5ec9a) sets both clip widths to 0.2, but the
    code raises an upper width of exactly 0.2 to 0.28 unless another setting forbids it, in the loss
    and in the modulation. The dual clip is the script's.

    Not to be confused with: `dynamo`, which clips as the paper and the script say.

    Args:
        logp: `[..., G, T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., G, T]` the same under the policy that sampled it; no gradient flows
            through.
        advantages: `[..., G]`, one per sequence, or `[..., G, T]`; no gradient flows through them.
        where: `[..., G, T]` bool, true on sampled tokens; elsewhere values are ignored.
        entropy: `[..., G, T]` of the policy's next-token distribution, in nats; no gradient flows
            through it.
        reduce: how the tokens are averaged.
        clip_low: width of the clip range below 1, in [0, 1].
        clip_high: width of the clip range above 1, not negative.
        dual_clip: upper bound of the ratio where the advantage is negative, above 1.
        least: the factor in the limit of large entropy changes, in (0, 1].
        threshold: the fraction of the group's largest change at which the decay is halfway.
        steepness: of the decay.
        most: the factor of the token with the smallest entropy of its group, at least 1.

    Returns:
        The loss as sum and count, and the metrics to log.

    Raises:
        AssertionError: the shapes do not match.
        ValueError: the clip range does not contain 1, or a factor is out of its range.
    """
    return dynamo(
        logp,
        logp_old,
        advantages,
        where=where,
        entropy=entropy,
        reduce=reduce,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        least=least,
        threshold=threshold,
        steepness=steepness,
        most=most,
    )
