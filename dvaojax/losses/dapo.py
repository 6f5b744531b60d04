"""DAPO's loss (arXiv:2503.14476): the clipped surrogate with "clip-higher".

Two of DAPO's four parts belong to the loss, the upper clip and the mean over tokens; they are
settings of `clipped_surrogate`. The other two do not: the overlong penalty is a reward
(`rewards.length.overlong_penalty`), and dynamic sampling replaces zero-variance groups
(`allocation.refills`).
"""

from jax import Array

from dvaojax.losses.clipped_surrogate import clipped_surrogate
from dvaojax.losses.ratios import SurrogateInfo
from dvaojax.losses.reductions import Reduction, token_mean
from dvaojax.numerics import Mean


def dapo(
    logp: Array,
    logp_old: Array,
    advantages: Array,
    *,
    where: Array,
    reduce: Reduction = token_mean,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
) -> tuple[Mean, SurrogateInfo]:
    r"""`clipped_surrogate` with DAPO's epsilons, averaged over tokens.

    $$ L_t = -\min\big(\rho_t A_t,\; \mathrm{clip}(\rho_t, 1-0.2, 1+0.28) A_t\big) $$

    (Yu et al., arXiv:2503.14476.)

    Not to be confused with: all of DAPO. Its overlong penalty is a reward, its dynamic sampling
    selects groups (see the module), and its overlong *filtering*, an ablation in the paper, is a
    `where` that is false on truncated completions.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere values are ignored.
        reduce: how the tokens are averaged.
        clip_low: width of the clip range below 1, in [0, 1].
        clip_high: width of the clip range above 1, not negative.

    Returns:
        The loss as sum and count, and the metrics to log.

    Raises:
        ValueError: the clip range does not contain 1.
    """
    return clipped_surrogate(
        logp,
        logp_old,
        advantages,
        where=where,
        reduce=reduce,
        clip_low=clip_low,
        clip_high=clip_high,
    )
