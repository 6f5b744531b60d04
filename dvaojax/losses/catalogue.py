"""What there is to know of each loss before it is chosen, in one table.

A row says what a signature does not: what is maximised, on one line, where it is from, and what
becomes of a token whose probability has moved. The tests measure every property, and hold the
papers against the files that cite them. What a loss is confused with, and what its knobs mean, is
in its own docstring.
"""

from typing import Literal, NamedTuple

from dvaojax import papers
from dvaojax.papers import Paper

LETTERS = {
    "ρ_t": "`π_t / π_old,t`, the ratio of a token",
    "A": "its advantage",
    "min A": "`min(ρ A, clip(ρ, 1 − clip_low, 1 + clip_high) A)` with the ratio that is named",
    "sg": "a stopped gradient",
}


class Entry(NamedTuple):
    """One row.

    Attributes:
        objective: what is maximised, in Markdown, in `LETTERS`.
        paper: where it is from.
        unit: whose ratio weighs a token: its own (`token`), its own and those before it
            (`prefix`), or all of its completion (`sequence`).
        bound: on what it is: the `ratio`; the `probability` or the `divergence` of the token
            against all others; a `covariance`, which may act where nothing has moved; `none`.
        beyond: what is left of a token's gradient far beyond the bound, where its advantage pushes
            it on: `nothing`; its weight `stops` growing; it `fades`; it turns `back`; or nothing
            stops it and a `penalty` is taken off.
        scales: whether advantages that are all multiplied by a positive number multiply the
            gradient by it and change nothing else.
        leaves: whether a token without an advantage is left alone, however far it has moved.
        credit: what is said of the paper; `{}` stands for it.
    """

    objective: str
    paper: Paper
    unit: Literal["token", "prefix", "sequence"] = "token"
    bound: Literal["ratio", "probability", "divergence", "covariance", "none"] = "ratio"
    beyond: Literal["nothing", "stops", "fades", "back", "penalty"] = "nothing"
    scales: bool = True
    leaves: bool = True
    credit: str = "{}"


_RECONSTRUCTED = "{}, a reconstruction"

# What the papers call by another name.
OTHER_NAMES = {"ppo": "clipped_surrogate"}

CATALOGUE: dict[str, Entry] = {
    "clipped_surrogate": Entry(
        "`min A` of `ρ_t`; for A < 0 no more than `dual_clip` · A", papers.PPO
    ),
    "dapo": Entry("`min A` of `ρ_t`", papers.DAPO),
    "gspo": Entry("`min A` of `s = exp(mean_t log ρ_t)`", papers.GSPO, unit="sequence"),
    "gspo_token": Entry("`min A` of `sg(s) π_t / sg(π_t)`", papers.GSPO, unit="sequence"),
    "gmpo": Entry(
        "`A exp(mean_t m_t)`, `m_t` the log-ratio clipped on the side that A picks",
        papers.GMPO,
        unit="sequence",
    ),
    "cispo": Entry("`sg(clip(ρ_t)) A log π_t`", papers.CISPO, beyond="stops"),
    "minpro": Entry(
        "`sg(clip(ρ_t min_{j<t} ρ_j)) A log π_t`", papers.MINPRO, unit="prefix", beyond="stops"
    ),
    "sapo": Entry(
        "`4/τ sigmoid(τ(ρ_t − 1)) A`, τ by the sign of A", papers.SAPO, bound="none", beyond="fades"
    ),
    "dppo_tv": Entry(
        "`sg(min(ρ_t, ratio_cap)) A log π_t`, 0 where π_t has moved by more than delta the way A "
        "pushes",
        papers.DPPO,
        bound="probability",
    ),
    "dppo_kl": Entry(
        '`dppo_tv` with the divergence of "this token or another"', papers.DPPO, bound="divergence"
    ),
    "clip_cov": Entry(
        "`min A` of `ρ_t` without a few tokens of high covariance, drawn by lot",
        papers.COVARIANCE,
        bound="covariance",
        scales=False,
    ),
    "kl_cov": Entry(
        "`ρ_t A`, less `kl_coefficient` · `abs(log ρ_t)` on the tokens of highest covariance",
        papers.COVARIANCE,
        bound="covariance",
        beyond="penalty",
        scales=False,
        leaves=False,
    ),
    "lco_mse": Entry(
        "`−beta/2 (o_t − o*_t)²` with the log-odds `o` of π_t and `o* = o_old + A / beta`",
        papers.LCO,
        bound="none",
        beyond="back",
        scales=False,
        leaves=False,
        credit=_RECONSTRUCTED,
    ),
    "lco_lch": Entry(
        "`−beta log cosh(o_t − o*_t)`",
        papers.LCO,
        bound="none",
        beyond="back",
        scales=False,
        leaves=False,
        credit=_RECONSTRUCTED,
    ),
    "lco_kld": Entry(
        '`−beta KL(π*_t, π_t)` of "this token or another"',
        papers.LCO,
        bound="none",
        beyond="back",
        scales=False,
        leaves=False,
        credit=_RECONSTRUCTED,
    ),
}
