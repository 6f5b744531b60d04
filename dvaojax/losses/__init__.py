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

from dvaojax.losses.cispo import cispo as cispo
from dvaojax.losses.clipped_surrogate import clipped_surrogate as clipped_surrogate
from dvaojax.losses.covariance import clip_cov as clip_cov
from dvaojax.losses.covariance import kl_cov as kl_cov
from dvaojax.losses.dapo import dapo as dapo
from dvaojax.losses.dppo import dppo_kl as dppo_kl
from dvaojax.losses.dppo import dppo_tv as dppo_tv
from dvaojax.losses.dynamo_modulation import dynamo_modulation as dynamo_modulation
from dvaojax.losses.gmpo import gmpo as gmpo
from dvaojax.losses.gspo import gspo as gspo
from dvaojax.losses.gspo import gspo_token as gspo_token
from dvaojax.losses.kl import KL_ESTIMATORS as KL_ESTIMATORS
from dvaojax.losses.kl import k1 as k1
from dvaojax.losses.kl import k2 as k2
from dvaojax.losses.kl import k3 as k3
from dvaojax.losses.kl import kl_penalty as kl_penalty
from dvaojax.losses.knobs import knobs_of as knobs_of
from dvaojax.losses.knobs import read_knobs as read_knobs
from dvaojax.losses.knobs import reduction_of as reduction_of
from dvaojax.losses.lco import lco_kld as lco_kld
from dvaojax.losses.lco import lco_lch as lco_lch
from dvaojax.losses.lco import lco_mse as lco_mse
from dvaojax.losses.minpro import minpro as minpro
from dvaojax.losses.policy_gradient import policy_gradient as policy_gradient
from dvaojax.losses.ratios import SurrogateInfo as SurrogateInfo
from dvaojax.losses.reductions import REDUCTIONS as REDUCTIONS
from dvaojax.losses.reductions import Reduction as Reduction
from dvaojax.losses.reductions import constant_length as constant_length
from dvaojax.losses.reductions import sequence_mean as sequence_mean
from dvaojax.losses.reductions import token_mean as token_mean
from dvaojax.losses.sapo import sapo as sapo
from dvaojax.losses.truncated_importance import (
    truncated_importance_weights as truncated_importance_weights,
)
from dvaojax.losses.truncated_importance import weighted as weighted
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
