"""Log-probabilities and advantages to a loss, as a sum and a count.

A loss of `BY_NAME` has the signature

    loss(logp, logp_old, advantages, *, where, reduce, knobs) -> (Mean, SurrogateInfo)

It takes one value per token and says with `where` which tokens were sampled. It returns a
`numerics.Mean`: the sums and the counts of micro-batches, devices and hosts are added and divided
once, so that how a batch is cut cannot change the answer. How tokens become one mean is a function
that is passed in: `token_mean`, `sequence_mean` or `partial(constant_length, length=...)`; each
loss's default is its paper's.

Losses differ in the unit of the ratio (a token; the whole sequence in `gspo` and `gmpo`; the way to
the token in `minpro`), in what happens beyond their bound (no gradient; a bounded weight in `cispo`
and `minpro`; a gate that fades in `sapo`), and in what the bound is on (a ratio; a probability or
divergence in `dppo_tv` and `dppo_kl`; a covariance in `clip_cov` and `kl_cov`). At ratio 1 all but
those of `lco` have the slope of `policy_gradient`.

A loss is added by writing its file, exporting it here and naming it in `BY_NAME`: the common exam
and the configuration know it from there.
"""

from collections.abc import Callable

from dvaojax.losses.cispo import cispo
from dvaojax.losses.clipped_surrogate import clipped_surrogate
from dvaojax.losses.covariance import clip_cov, kl_cov
from dvaojax.losses.dapo import dapo
from dvaojax.losses.dppo import dppo_kl, dppo_tv
from dvaojax.losses.dynamo_modulation import dynamo_modulation
from dvaojax.losses.gmpo import gmpo
from dvaojax.losses.gspo import gspo, gspo_token
from dvaojax.losses.kl import KL_ESTIMATORS, k1, k2, k3, kl_penalty
from dvaojax.losses.knobs import knobs_of, read_knobs, reduction_of
from dvaojax.losses.lco import lco_kld, lco_lch, lco_mse
from dvaojax.losses.minpro import minpro
from dvaojax.losses.policy_gradient import policy_gradient
from dvaojax.losses.ratios import SurrogateInfo
from dvaojax.losses.reductions import (
    REDUCTIONS,
    Reduction,
    constant_length,
    sequence_mean,
    token_mean,
)
from dvaojax.losses.sapo import sapo
from dvaojax.losses.truncated_importance import truncated_importance_weights, weighted
from dvaojax.numerics import Mean

Loss = Callable[..., tuple[Mean, SurrogateInfo]]
"""`loss(logp, logp_old, advantages, *, where, reduce, knobs)`."""

BY_NAME: dict[str, Loss] = {
    loss.__name__: loss
    for loss in (
        clipped_surrogate,
        dapo,
        gspo,
        gspo_token,
        gmpo,
        cispo,
        minpro,
        sapo,
        dppo_tv,
        dppo_kl,
        clip_cov,
        kl_cov,
        lco_mse,
        lco_lch,
        lco_kld,
    )
}
"""The losses by the name a configuration writes."""

__all__ = [
    "BY_NAME",
    "KL_ESTIMATORS",
    "REDUCTIONS",
    "Loss",
    "Reduction",
    "SurrogateInfo",
    "cispo",
    "clip_cov",
    "clipped_surrogate",
    "constant_length",
    "dapo",
    "dppo_kl",
    "dppo_tv",
    "dynamo_modulation",
    "gmpo",
    "gspo",
    "gspo_token",
    "k1",
    "k2",
    "k3",
    "kl_cov",
    "kl_penalty",
    "knobs_of",
    "lco_kld",
    "lco_lch",
    "lco_mse",
    "minpro",
    "policy_gradient",
    "read_knobs",
    "reduction_of",
    "sapo",
    "sequence_mean",
    "token_mean",
    "truncated_importance_weights",
    "weighted",
]
