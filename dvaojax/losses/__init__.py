"""Log-probabilities and advantages to a loss, as a sum and a count.

A loss takes one value per token and says with `where` which tokens were sampled. It returns a
`numerics.Mean`: the sums and the counts of micro-batches, devices and hosts are added and divided
once, so that how a batch is cut cannot change the answer. How tokens become one mean is a function
that is passed in: `token_mean`, `sequence_mean` or `partial(constant_length, length=...)`.
"""

from dvaojax.losses.clipped_surrogate import SurrogateInfo, clipped_surrogate
from dvaojax.losses.kl import KL_ESTIMATORS, k1, k2, k3, kl_penalty
from dvaojax.losses.policy_gradient import policy_gradient
from dvaojax.losses.reductions import (
    REDUCTIONS,
    Reduction,
    constant_length,
    sequence_mean,
    token_mean,
)

__all__ = [
    "KL_ESTIMATORS",
    "REDUCTIONS",
    "Reduction",
    "SurrogateInfo",
    "clipped_surrogate",
    "constant_length",
    "k1",
    "k2",
    "k3",
    "kl_penalty",
    "policy_gradient",
    "sequence_mean",
    "token_mean",
]
