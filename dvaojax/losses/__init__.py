"""Losses: log-probabilities and advantages to a sum and a count.

A loss of `BY_NAME` has the signature

    loss(logp, logp_old, advantages, *, where, reduce, knobs) -> (Mean, SurrogateInfo)

and, if it needs the entropy of the policy's next-token distributions, a parameter `entropy` next
to `where`. Its inputs have one value per token; `where` marks the sampled tokens. It returns a
`numerics.Mean`: the sums and the counts of micro-batches, devices and hosts are added and divided
only once, so that the result does not depend on how a batch is split. `reduce` averages the terms:
`token_mean`, `sequence_mean` or `partial(constant_length, length=...)`; the default of each loss is
that of its paper.

Losses differ in the unit of the ratio, in the bounded quantity and in the treatment of tokens past
the bound; the table in `methods.py` lists them. At ratio 1 all but those of `lco` have the gradient
of `policy_gradient`.

To add a loss:

1. Write its file in this package, a function `my_loss` of this signature. The keyword-only
   parameters other than `where`, `entropy` and `reduce` are its knobs.
2. Add its import line and its row in `methods.py`.

It can then be imported from here and selected by `loss=my_loss`; `dvaojax methods` lists and
explains it, and the common tests include it. They ask for an oracle in `tests/helpers`.
"""

from collections.abc import Callable
from typing import Any

from dvaojax import plugins
from dvaojax.losses.dynamo_modulation import dynamo_modulation as dynamo_modulation
from dvaojax.losses.kl import KL_ESTIMATORS as KL_ESTIMATORS
from dvaojax.losses.kl import k1 as k1
from dvaojax.losses.kl import k2 as k2
from dvaojax.losses.kl import k3 as k3
from dvaojax.losses.kl import kl_penalty as kl_penalty
from dvaojax.losses.knobs import knobs_of as knobs_of
from dvaojax.losses.knobs import needs_entropy as needs_entropy
from dvaojax.losses.knobs import read_knobs as read_knobs
from dvaojax.losses.knobs import reduction_of as reduction_of
from dvaojax.losses.methods import *  # noqa: F403  (the functions of the table)
from dvaojax.losses.methods import OTHERS as OTHERS
from dvaojax.losses.methods import PAIR_LOSSES as PAIR_LOSSES
from dvaojax.losses.methods import ROWS as ROWS
from dvaojax.losses.policy_gradient import policy_gradient as policy_gradient
from dvaojax.losses.ratios import SurrogateInfo as SurrogateInfo
from dvaojax.losses.ratios import log_ratios as log_ratios
from dvaojax.losses.ratios import surrogate_info as surrogate_info
from dvaojax.losses.reductions import REDUCTIONS as REDUCTIONS
from dvaojax.losses.reductions import Reduction as Reduction
from dvaojax.losses.reductions import constant_length as constant_length
from dvaojax.losses.reductions import sequence_mean as sequence_mean
from dvaojax.losses.reductions import token_mean as token_mean
from dvaojax.losses.truncated_importance import (
    truncated_importance_weights as truncated_importance_weights,
)
from dvaojax.losses.truncated_importance import weighted as weighted
from dvaojax.numerics import Mean

Loss = Callable[..., tuple[Mean, Any]]
"""`loss(logp, logp_old, advantages, *, where, reduce, knobs)` to a `Mean` and `SurrogateInfo`."""

BY_NAME: dict[str, Loss] = {name: row.method for name, row in ROWS.items()}
"""The losses, by name."""


def find(name: str) -> Loss:
    """The loss of a name.

    Args:
        name: a key of `BY_NAME` or `PAIR_LOSSES`, or a plug-in, `my_file.py:my_loss` or
            `module:my_loss`, which is loaded.

    Raises:
        UserError: there is no such loss, or the plug-in cannot be used.
    """
    if name in PAIR_LOSSES:
        return PAIR_LOSSES[name]
    loss = plugins.find(name, BY_NAME | PAIR_LOSSES, kind="loss")
    per_token = ["logp", "logp_old", "advantages"]
    plugins.require_arguments(name, loss, per_token, ["where", "reduce"])
    return loss
