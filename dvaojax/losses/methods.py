"""The table of losses: one import line and one row for each loss.

Names, help pages, the tables of `dvaojax methods` and of the README, and the dictionary `BY_NAME`
are derived from it. A row states what a signature does not: the objective on one line, the source,
and the treatment of tokens whose probability has changed. The tests measure every property and
compare the papers with the docstrings.

A new loss takes its file, one line among the imports and one row.
"""

from collections.abc import Mapping

from dvaojax import papers
from dvaojax.losses import capo
from dvaojax.losses.cispo import cispo as cispo
from dvaojax.losses.clipped_surrogate import clipped_surrogate as clipped_surrogate
from dvaojax.losses.covariance import clip_cov as clip_cov
from dvaojax.losses.covariance import kl_cov as kl_cov
from dvaojax.losses.dapo import dapo as dapo
from dvaojax.losses.dpo import dpo as dpo
from dvaojax.losses.dppo import dppo_kl as dppo_kl
from dvaojax.losses.dppo import dppo_tv as dppo_tv
from dvaojax.losses.dynamo import dynamo as dynamo
from dvaojax.losses.dynamo import dynamo_code as dynamo_code
from dvaojax.losses.gmpo import gmpo as gmpo
from dvaojax.losses.gspo import gspo as gspo
from dvaojax.losses.gspo import gspo_token as gspo_token
from dvaojax.losses.lco import lco_kld as lco_kld
from dvaojax.losses.lco import lco_lch as lco_lch
from dvaojax.losses.lco import lco_mse as lco_mse
from dvaojax.losses.minpro import minpro as minpro
from dvaojax.losses.rows import LossRow as LossRow
from dvaojax.losses.rows import OtherLossRow as OtherLossRow
from dvaojax.losses.sapo import sapo as sapo

SYMBOLS: Mapping[str, str] = {
    "ρ_t": "`π_t / π_old,t`, the ratio of a token",
    "A": "its advantage",
    "min A": "`min(ρ A, clip(ρ, 1 − clip_low, 1 + clip_high) A)` with the ratio that is named",
    "sg": "a stopped gradient",
}
"""The symbols of the equations, with their meanings."""

_RECONSTRUCTED = "{}, a reconstruction"

_TABLE: tuple[LossRow, ...] = (
    LossRow(
        clipped_surrogate, papers.PPO, "`min A` of `ρ_t`; for A < 0 no less than `dual_clip` · A"
    ),
    LossRow(dapo, papers.DAPO, "`min A` of `ρ_t`"),
    LossRow(
        dynamo,
        papers.DYNAMO,
        "`min Â` of `ρ_t` with `Â = A β_comp β_stab`, raised where the entropy is low, shrunk "
        "where it would change most",
    ),
    LossRow(
        dynamo_code,
        papers.DYNAMO,
        "`dynamo`, for A < 0 no less than `dual_clip` · Â",
        credit="{}, its code",
    ),
    LossRow(gspo, papers.GSPO, "`min A` of `s = exp(mean_t log ρ_t)`", unit="sequence"),
    LossRow(gspo_token, papers.GSPO, "`min A` of `sg(s) π_t / sg(π_t)`", unit="sequence"),
    LossRow(
        gmpo,
        papers.GMPO,
        "`A exp(mean_t m_t)`, `m_t` the log-ratio clipped on the side that A picks",
        unit="sequence",
    ),
    LossRow(cispo, papers.CISPO, "`sg(clip(ρ_t)) A log π_t`", beyond="stops"),
    LossRow(
        minpro,
        papers.MINPRO,
        "`sg(clip(ρ_t min_{j<t} ρ_j)) A log π_t`",
        unit="prefix",
        beyond="stops",
    ),
    LossRow(
        sapo,
        papers.SAPO,
        "`4/τ sigmoid(τ(ρ_t − 1)) A`, τ by the sign of A",
        bound="none",
        beyond="fades",
    ),
    LossRow(
        dppo_tv,
        papers.DPPO,
        "`sg(min(ρ_t, ratio_cap)) A log π_t`, 0 where π_t has moved by more than delta the way A "
        "pushes",
        bound="probability",
    ),
    LossRow(
        dppo_kl,
        papers.DPPO,
        '`dppo_tv` with the divergence of "this token or another"',
        bound="divergence",
    ),
    LossRow(
        clip_cov,
        papers.COVARIANCE,
        "`min A` of `ρ_t` without a few tokens of high covariance, drawn at random",
        bound="covariance",
        scales=False,
    ),
    LossRow(
        kl_cov,
        papers.COVARIANCE,
        "`ρ_t A`, less `kl_coefficient` · `abs(log ρ_t)` on the tokens of highest covariance",
        bound="covariance",
        beyond="penalty",
        scales=False,
        leaves=False,
    ),
    LossRow(
        lco_mse,
        papers.LCO,
        "`−beta/2 (o_t − o*_t)²` with the log-odds `o` of π_t and `o* = o_old + A / beta`",
        bound="none",
        beyond="back",
        scales=False,
        leaves=False,
        credit=_RECONSTRUCTED,
    ),
    LossRow(
        lco_lch,
        papers.LCO,
        "`−beta log cosh(o_t − o*_t)`",
        bound="none",
        beyond="back",
        scales=False,
        leaves=False,
        credit=_RECONSTRUCTED,
    ),
    LossRow(
        lco_kld,
        papers.LCO,
        '`−beta KL(π*_t, π_t)` of "this token or another"',
        bound="none",
        beyond="back",
        scales=False,
        leaves=False,
        credit=_RECONSTRUCTED,
    ),
)

ROWS: Mapping[str, LossRow] = {row.method.__name__: row for row in _TABLE}
"""The rows by the names of their losses."""

OTHERS: Mapping[str, OtherLossRow] = {
    "dpo": OtherLossRow(
        dpo,
        papers.DPO,
        "`log sigmoid(beta (log π⁺/π_ref⁺ − log π⁻/π_ref⁻))` of the best and the worst completion "
        "of each group",
        "log-probabilities under the policy and the reference, advantages of whole groups",
        "loss.name=dpo aggregator=dr_grpo",
    ),
    "capo": OtherLossRow(
        capo.keeps,
        papers.CAPO,
        "kept where `m_F < policy_shift` and `abs(m_H) < objective_shift`, the second-order change "
        "of the policy and of the objective by a step along the token's own gradient",
        "probabilities and hidden state of each token, the learning rate",
        "loss.capo.preset=capo",
        "{}, luckeciano/stable-pg-llm@933fe01",
    ),
}
"""Losses of pairs, and methods that leave out tokens of any loss, by name."""

PAIR_LOSSES = {"dpo": dpo}
"""Losses of pairs of completions, `loss(logp, logp_reference, advantages, *, where, knobs)`."""

ALIASES: Mapping[str, str] = {
    "ppo": "clipped_surrogate",
    "dr_capo": "capo",
    "rein_capo": "capo",
    "reincapo": "capo",
}
"""Names that papers use for losses of the table."""
