"""DAPO's loss (arXiv:2503.14476): the clipped surrogate with "clip-higher", by its own name.

Of DAPO's four parts two are of the loss: the upper clip and the mean over tokens, which are
settings of `clipped_surrogate` and nothing else. The other two are not: the overlong penalty is a
reward (`rewards.length.overlong_penalty`), and dynamic sampling refills groups that teach nothing.
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

    What it is confused with. All of DAPO: its overlong penalty is a reward, its dynamic sampling a
    matter of which groups are learnt from (see the module), and its overlong *filtering*, an
    ablation there, is a caller's `where` that leaves cut-off completions out.

    Args:
        logp: `[..., T]` log-probability of each sampled token under the policy, in nats.
        logp_old: `[..., T]` the same under the policy that sampled it; no gradient flows through.
        advantages: `[...]`, one per sequence, or `[..., T]`; no gradient flows through them.
        where: `[..., T]` bool, true on sampled tokens; elsewhere anything may stand.
        reduce: how tokens become one mean.
        clip_low: how far below 1 the ratio may pull, in [0, 1].
        clip_high: how far above 1, not negative.

    Returns:
        The loss as sum and count, and the numbers worth logging.

    Raises:
        ValueError: a clip range does not contain 1.
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
