"""The table of advantage aggregators: one import line and one row for each method.

Names, help pages, the tables of `dvaojax methods` and of the README, and the lists `METHODS`,
`BY_NAME`, `STATEFUL` and `RANDOM` are derived from it. A row states what a signature does not: the
equation on one line, the source, and properties of the advantages that do not depend on the
rewards. The tests measure every property and compare the papers with the docstrings.

A new method takes its file, one line among the imports and one row.
"""

from collections.abc import Mapping
from functools import partial

from dvaojax import papers
from dvaojax.aggregators._core.rows import AggregatorRow as AggregatorRow
from dvaojax.aggregators._core.rows import OtherFunctionRow as OtherFunctionRow
from dvaojax.aggregators.advantage_combination import (
    advantage_combination as advantage_combination,
)
from dvaojax.aggregators.corr_gdpo import corr_gdpo as corr_gdpo
from dvaojax.aggregators.corr_grpo import corr_grpo as corr_grpo
from dvaojax.aggregators.ctwa import ctwa as ctwa
from dvaojax.aggregators.dara import dara_asymmetric as dara_asymmetric
from dvaojax.aggregators.dara import dara_symmetric as dara_symmetric
from dvaojax.aggregators.dr_grpo import dr_grpo as dr_grpo
from dvaojax.aggregators.dro import accepted as accepted
from dvaojax.aggregators.dro import dro as dro
from dvaojax.aggregators.dro import dro_of_checks as dro_of_checks
from dvaojax.aggregators.dvao import dvao as dvao
from dvaojax.aggregators.dvao_denoised import dvao_denoised as dvao_denoised
from dvaojax.aggregators.dvao_denoised import dvao_of_repeats as dvao_of_repeats
from dvaojax.aggregators.dvao_interpolated import dvao_interpolated as dvao_interpolated
from dvaojax.aggregators.dvao_shrunk import dvao_shrunk as dvao_shrunk
from dvaojax.aggregators.dvao_shrunk import dvao_shrunk_running as dvao_shrunk_running
from dvaojax.aggregators.focal import focal_reward as focal_reward
from dvaojax.aggregators.gd2po import gd2po_hard as gd2po_hard
from dvaojax.aggregators.gd2po import gd2po_snr as gd2po_snr
from dvaojax.aggregators.gdpo import gdpo as gdpo
from dvaojax.aggregators.gdpo import gdpo_token_weighted as gdpo_token_weighted
from dvaojax.aggregators.grpo import grpo as grpo
from dvaojax.aggregators.gtpo import gtpo as gtpo
from dvaojax.aggregators.hvpo import hvpo as hvpo
from dvaojax.aggregators.james_stein import james_stein as james_stein
from dvaojax.aggregators.lagrangian import constrained_grpo as constrained_grpo
from dvaojax.aggregators.lagrangian import lagrangian as lagrangian
from dvaojax.aggregators.lite_ppo import lite_ppo as lite_ppo
from dvaojax.aggregators.maxrl import maxrl as maxrl
from dvaojax.aggregators.ms_grpo import ms_grpo as ms_grpo
from dvaojax.aggregators.opo import opo as opo
from dvaojax.aggregators.optimal_baseline import oblr_po as oblr_po
from dvaojax.aggregators.optimal_baseline import optimal_token_baseline as optimal_token_baseline
from dvaojax.aggregators.rdpo import rdpo as rdpo
from dvaojax.aggregators.reinforce_plus_plus import reinforce_plus_plus as reinforce_plus_plus
from dvaojax.aggregators.reinforce_plus_plus import (
    reinforce_plus_plus_baseline as reinforce_plus_plus_baseline,
)
from dvaojax.aggregators.reward_combination import reward_combination as reward_combination
from dvaojax.aggregators.rloo import rloo as rloo
from dvaojax.aggregators.rvpo import rvpo as rvpo
from dvaojax.aggregators.rvpo import rvpo_annealed as rvpo_annealed
from dvaojax.aggregators.rvpo import rvpo_variance_penalty as rvpo_variance_penalty
from dvaojax.aggregators.rvpo import soft_minimum as soft_minimum
from dvaojax.aggregators.sa_mrpo import sa_mrpo as sa_mrpo
from dvaojax.aggregators.saw import saw_gdpo as saw_gdpo
from dvaojax.aggregators.saw import saw_grpo as saw_grpo
from dvaojax.aggregators.sc_ppo import sc_ppo as sc_ppo
from dvaojax.aggregators.tchebycheff import augmented_tchebycheff as augmented_tchebycheff
from dvaojax.aggregators.vpo import vpo as vpo

SYMBOLS: Mapping[str, str] = {
    "r_ik": "the reward of completion `i` on objective `k`",
    "μ_k, σ_k": "its mean and standard deviation within the group",
    "c_i": "`Σ_k w_k (r_ik − μ_k)`, the centred weighted sum",
    "z_ik": "`(r_ik − μ_k) / σ_k`, the z-score of one objective",
    "whiten(A)": "`(A − mean(A)) / std(A)`, over all completions of the batch",
}
"""The symbols of the equations, with their meanings."""

# The families, see `AggregatorRow.family`: a row begins with one of these.
_sum = partial(AggregatorRow, family="sum", order="sum")
_z_scores = partial(AggregatorRow, family="z-scores", scale="yes", bound="batch")
_adapted_grpo = partial(AggregatorRow, family="adapted")
_adapted_gdpo = partial(AggregatorRow, family="adapted", scale="yes", bound="batch")
_own = partial(AggregatorRow, family="own")

_OURS = "ours, after {}"
_RECONSTRUCTED = "{}, a reconstruction"
_EPISODES = "comes with episodes of several turns"

_TABLE: tuple[AggregatorRow, ...] = (
    _sum(grpo, papers.GRPO, "`c_i / (std(Σ_k w_k r_ik) + ε)`, sample deviation"),
    _sum(dr_grpo, papers.DR_GRPO, "`c_i`", bound="none"),
    _sum(rloo, papers.RLOO, "`c_i · G / (G − 1)`", bound="none"),
    _sum(
        opo,
        papers.OPO,
        "`Σ_k w_k r_ik` minus its mean over the tokens of the group",
        bound="none",
        zero_sum=False,
    ),
    _sum(
        optimal_token_baseline,
        papers.OPTIMAL_TOKEN_BASELINE,
        "`Σ_k w_k r_ik` minus, at each token, the group's mean by the squared gradient norms up to "
        "it",
        bound="none",
        zero_sum=False,
        cost="T",
    ),
    _own(
        oblr_po,
        papers.OBLR_PO,
        "`Σ_k w_k r_ik` minus the mean of the other completions, each counted by its squared "
        "gradient norm",
        order="none",
        bound="none",
        zero_sum=False,
        cost="G",
        credit=_RECONSTRUCTED,
    ),
    _sum(
        james_stein,
        papers.JAMES_STEIN,
        "`Σ_k w_k r_ik` minus `(1 − λ) · mean of the others + λ · mean of the other groups`",
        bound="none",
        zero_sum=False,
    ),
    _sum(reward_combination, papers.DVAO, "`c_i / std(Σ_k w_k r_ik)`, population deviation"),
    _z_scores(
        advantage_combination, papers.DVAO, "`Σ_k w_k z_ik`", bound="group", also=papers.MO_GRPO
    ),
    _sum(dvao, papers.DVAO, "`c_i / Σ_k w_k σ_k`"),
    _sum(
        dvao_interpolated,
        papers.DVAO,
        "`c_i / √((1 − α) std(Σ_k w_k r_ik)² + α (Σ_k w_k σ_k)²)`",
        credit=_OURS,
    ),
    _z_scores(
        dvao_denoised,
        papers.DVAO,
        "`Σ_k w̃_k z_ik`, `w̃_k ∝ w_k σ_k √max(0, 1 − noise_k / s_k²)`, `s_k²` the sample variance",
        scale="no",
        bound="group",
        credit=_OURS,
    ),
    _z_scores(
        dvao_of_repeats,
        papers.DVAO,
        "`dvao_denoised` of the means of several scores, with the noise from their differences",
        scale="no",
        bound="group",
        credit=_OURS,
        settings="rewards.repeats=2",
    ),
    _sum(
        dvao_shrunk,
        papers.DVAO,
        "`c_i / Σ_k w_k σ̂_k`, σ̂ moved towards the batch's mean deviation as far as it is uncertain",
        bound="batch",
        credit=_OURS,
    ),
    _sum(
        dvao_shrunk_running,
        papers.DVAO,
        "`dvao_shrunk`, σ̂ moved towards the mean deviation of this and earlier steps",
        bound="batch",
        credit=_OURS,
    ),
    _z_scores(gdpo, papers.GDPO, "`whiten(Σ_k w_k z_ik)`"),
    _z_scores(
        gdpo_token_weighted,
        papers.GDPO,
        "`gdpo`, each completion counted once per token",
        zero_sum=False,
        credit="{}, its code for verl",
    ),
    _z_scores(
        rvpo,
        papers.RVPO,
        "`whiten(−1/s · ln Σ_k w̄_k exp(−s z_ik))`, `w̄ = w / Σ w`",
        zero_sum=False,
        conflict="punished",
    ),
    _z_scores(
        rvpo_annealed,
        papers.RVPO,
        "`rvpo`, s rising from `first` to `last` over `num_steps` steps",
        zero_sum=False,
        conflict="punished",
    ),
    _z_scores(
        rvpo_variance_penalty,
        papers.RVPO,
        "`whiten(Σ_k w̄_k z_ik − β Var_k(z_ik))`",
        order="none",
        zero_sum=False,
        conflict="punished",
    ),
    _adapted_grpo(
        lagrangian,
        papers.CONSTRAINED_GRPO,
        "`grpo` with the weights `w_k + λ_k`, λ rising while a mean reward is below its threshold",
        shift="with knobs",
        credit="{}, which advises against it",
        also=papers.SAFE_RLHF,
    ),
    _adapted_grpo(
        constrained_grpo,
        papers.CONSTRAINED_GRPO,
        "`Σ_k (w_k + λ_k) z_ik`, λ rising while a mean reward is below its threshold",
        shift="with knobs",
    ),
    _adapted_grpo(
        ctwa,
        papers.CTWA,
        "`grpo` with the weights `w_k exp(u_k)`, u growing while the covariance of reward and "
        "advantage is below its target",
        shift="with knobs",
    ),
    _own(
        hvpo,
        papers.AMO,
        "`(q_i − mean of the others) / running deviation`, `q_i` the geometric mean of the "
        "gains over a reference",
        scale="with knobs",
        shift="with knobs",
        bound="none",
        conflict="punished",
    ),
    _sum(
        lite_ppo, papers.LITE_PPO, "`c_i / (std of Σ_k w_k r_ik over the batch + ε)`", bound="batch"
    ),
    _sum(
        corr_grpo,
        papers.CORR_GRPO,
        "`c_i / √(Σ_kl ρ_kl + ε)`, `ρ` the correlations within the group",
        bound="none",
    ),
    _z_scores(
        corr_gdpo,
        papers.CORR_GRPO,
        "`Σ_k w_k z_ik` minus its mean over tokens, over `√(Σ_kl C_kl + ε)`, `C` the correlations "
        "of the `w_k z_ik` over the batch",
        bound="group",
        zero_sum=False,
        credit="{}, its code",
    ),
    _sum(maxrl, papers.MAXRL, "`c_i / (mean of Σ_k w_k r_ik + ε)`", shift="no", bound="none"),
    _sum(
        reinforce_plus_plus,
        papers.REINFORCE_PLUS_PLUS,
        "`Σ_k w_k r_ik`, whitened over the tokens of the batch",
        bound="batch",
        zero_sum=False,
    ),
    _sum(
        reinforce_plus_plus_baseline,
        papers.REINFORCE_PLUS_PLUS,
        "`c_i`, whitened over the tokens of the batch",
        bound="batch",
        zero_sum=False,
    ),
    _adapted_grpo(
        saw_grpo,
        papers.SAW,
        "`grpo` with the weights `w_k · CV_k`, the coefficient of variation over the batch",
        shift="with knobs",
    ),
    _adapted_gdpo(
        saw_gdpo,
        papers.SAW,
        "`gdpo` with the weights of `saw_grpo`",
        scale="with knobs",
        shift="with knobs",
    ),
    _z_scores(
        gd2po_hard,
        papers.GD2PO,
        "`gdpo` over the completions whose `z_ik` all have one sign, times their share of the "
        "group",
        order="none",
        zero_sum=False,
        conflict="dropped",
    ),
    _z_scores(
        gd2po_snr,
        papers.GD2PO,
        "`gd2po_hard`, but a conflict stays if `|Σ_k w_k z_ik| ≥ τ Σ_k w_k |z_ik|`",
        order="none",
        zero_sum=False,
        conflict="dropped",
    ),
    _adapted_gdpo(
        sa_mrpo,
        papers.SA_MRPO,
        "`gdpo` with the weights `w_k (1 − s_k)^γ`, `s_k` how near the batch's mean is to the top",
        scale="with knobs",
        shift="with knobs",
    ),
    _adapted_gdpo(
        dara_symmetric,
        papers.DARA,
        "`gdpo` with the weights `w_k d_k`, `d_k = min(5, √(π_max / π_k))`, `π_k` the share of "
        "groups where k varies",
    ),
    _adapted_gdpo(
        dara_asymmetric,
        papers.DARA,
        "`dara_symmetric`, its factors on the positive part of `z_ik` alone",
        zero_sum=False,
    ),
    _adapted_gdpo(
        sc_ppo,
        None,
        "`gdpo` with the weights of least norm that no objective loses by, from the other half of "
        "the groups",
        scale="no",
        shift="with knobs",
        cost="2^K",
        credit="from code alone",
    ),
    _own(
        augmented_tchebycheff,
        papers.PANACEA,
        "`t_i = −max_k w_k (z* − r_ik) + ρ Σ_k w_k r_ik` in place of the sum of `grpo`",
        shift="with knobs",
        conflict="punished",
        credit="{}, there without ρ",
    ),
    _own(
        rdpo,
        papers.RDPO,
        "`Σ_k w_k q_ik`, q soft ranks within the group, decorrelated over the batch",
        order="none",
        scale="yes",
        bound="batch",
        cost="G + K",
        credit=_RECONSTRUCTED,
    ),
    _adapted_grpo(
        focal_reward,
        papers.FOCAL_REWARD,
        "`grpo` with the weights `w_k (1 − μ_k)^γ` of each group",
        shift="no",
        credit=_RECONSTRUCTED,
    ),
    _own(
        dro,
        papers.DRO,
        "`grpo` where a completion that a gate rejects is worth the least of the accepted ones",
        shift="with knobs",
        conflict="punished",
        credit=_RECONSTRUCTED,
    ),
    _own(
        vpo,
        papers.VPO,
        "z-score of `E_ω max_y Σ_k ω_k r_iyk` over the answers y of one completion, ω from a "
        "Dirichlet",
        cost="draws",
    ),
)

ROWS: Mapping[str, AggregatorRow] = {row.method.__name__: row for row in _TABLE}
"""The rows by the names of their methods."""

ALIASES: Mapping[str, str] = {
    "mo_grpo": "advantage_combination",
    "ac": "advantage_combination",
    "rc": "reward_combination",
}
"""Names that papers use for methods of the table."""

_OTHER_FUNCTIONS: tuple[OtherFunctionRow, ...] = (
    OtherFunctionRow(
        dro_of_checks,
        papers.DRO,
        "`dro` with checks that are not objectives",
        takes="which completions are accepted",
        use="aggregator=dro aggregator.options=gates.OBJECTIVE=1, with the checks as objectives",
        credit=_RECONSTRUCTED,
    ),
    OtherFunctionRow(
        ms_grpo,
        papers.MS_GRPO,
        "the group's z-score of an episode's whole reward, at each of its turns",
        takes="the reward of each turn",
        use=_EPISODES,
    ),
    OtherFunctionRow(
        gtpo,
        papers.GTPO,
        "the group's z-score, at each turn, of the discounted reward from there on",
        takes="the reward of each turn",
        use=_EPISODES,
        credit=_RECONSTRUCTED,
    ),
)

OTHER_FUNCTIONS: Mapping[str, OtherFunctionRow] = {
    row.method.__name__: row for row in _OTHER_FUNCTIONS
}
"""Functions with other inputs than those of the aggregators of a run, by name."""
