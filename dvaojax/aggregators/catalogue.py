"""What there is to know of each method before it is chosen, in one table.

A row says what a signature does not: the equation on one line, where it is from, and what holds of
the advantages whatever the rewards are. Nothing here is taken on trust: the tests measure every
property on rewards that tell its values apart, and hold the papers against the files that cite
them. What a method is confused with, and what its knobs mean, is in its own docstring.

A row is a prototype of its family and what sets it apart from that.
"""

from typing import Any, Literal, NamedTuple, Self

from dvaojax import papers
from dvaojax.papers import Paper

LETTERS = {
    "r_ik": "the reward of completion `i` on objective `k`",
    "μ_k, σ_k": "its mean and its deviation within the group",
    "c_i": "`Σ_k w_k (r_ik − μ_k)`, the centred weighted sum",
    "z_ik": "`(r_ik − μ_k) / σ_k`, the z-score of one objective",
    "whiten(A)": "`(A − mean(A)) / std(A)`, over all completions of the batch",
}


class Method(NamedTuple):
    """One row.

    Attributes:
        family: `sum` divides the weighted sum of the rewards, minus a baseline, by one positive
            number per group or batch; `z-scores` puts each objective on the scale of its group
            before it combines them; `adapted` is one of these two under weights that follow the
            rewards; `own` is neither.
        advantage: the equation, in Markdown, in `LETTERS`.
        paper: where it is from; None where there is code alone, and no public repository.
        order: of the completions of a group: that of the weighted `sum`; or `pareto`, in which at
            least none that is better on every objective comes behind; or `none` of them.
        scale: whether one objective's rewards may be multiplied by a positive number and nothing
            changes: `yes`, `no`, or `told` if the knobs in units of the reward move along.
        shift: the same for a number that is added to one objective's rewards.
        bound: whether an advantage has a bound that the rewards cannot move: one of the size of the
            `group` and the knobs; one of that of the `batch`, which the only group that still
            varies may come near to; or `none`.
        zero_sum: whether the advantages of a group sum to 0.
        conflict: what becomes of a completion that is good on one objective and bad on another:
            it is `traded` off, `punished` by its worst objective, or `dropped`.
        cost: operations a reward: `1` for a number that does not grow, or what it grows with.
        credit: what is said of the paper; `{}` stands for it.
        also: another paper that has it.
    """

    family: Literal["sum", "z-scores", "adapted", "own"]
    advantage: str = ""
    paper: Paper | None = None
    order: Literal["sum", "pareto", "none"] = "pareto"
    scale: Literal["yes", "no", "told"] = "no"
    shift: Literal["yes", "no", "told"] = "yes"
    bound: Literal["group", "batch", "none"] = "group"
    zero_sum: bool = True
    conflict: Literal["traded", "punished", "dropped"] = "traded"
    cost: Literal["1", "G + K", "2^K", "draws"] = "1"
    credit: str = "{}"
    also: Paper | None = None

    def of(self, paper: Paper | None, advantage: str, /, **differences: Any) -> Self:
        """This prototype's row for one method."""
        return self._replace(paper=paper, advantage=advantage, **differences)


_SUM = Method("sum", order="sum")
_SCORES = Method("z-scores", scale="yes", bound="batch")
_AS_GRPO = Method("adapted")
_AS_GDPO = Method("adapted", scale="yes", bound="batch")
_OWN = Method("own")

_OURS = {"credit": "ours, after {}"}
_RECONSTRUCTED = {"credit": "{}, a reconstruction"}

CATALOGUE: dict[str, Method] = {
    "grpo": _SUM.of(papers.GRPO, "`c_i / (std(Σ_k w_k r_ik) + ε)`, sample deviation"),
    "dr_grpo": _SUM.of(papers.DR_GRPO, "`c_i`", bound="none"),
    "rloo": _SUM.of(papers.RLOO, "`c_i · G / (G − 1)`", bound="none"),
    "opo": _SUM.of(
        papers.OPO,
        "`Σ_k w_k r_ik` minus its mean over the tokens of the group",
        bound="none",
        zero_sum=False,
    ),
    "reward_combination": _SUM.of(papers.DVAO, "`c_i / std(Σ_k w_k r_ik)`, population deviation"),
    "advantage_combination": _SCORES.of(
        papers.DVAO, "`Σ_k w_k z_ik`", bound="group", also=papers.MO_GRPO
    ),
    "dvao": _SUM.of(papers.DVAO, "`c_i / Σ_k w_k σ_k`"),
    "dvao_interpolated": _SUM.of(
        papers.DVAO, "`c_i / √((1 − α) std(Σ_k w_k r_ik)² + α (Σ_k w_k σ_k)²)`", **_OURS
    ),
    "dvao_denoised": _SCORES.of(
        papers.DVAO,
        "`Σ_k w̃_k z_ik`, `w̃_k ∝ w_k √max(0, σ_k² − noise_k)`",
        scale="no",
        bound="group",
        **_OURS,
    ),
    "dvao_shrunk": _SUM.of(
        papers.DVAO,
        "`c_i / Σ_k w_k σ̂_k`, σ̂ moved towards the batch's mean deviation as far as it is uncertain",
        bound="batch",
        **_OURS,
    ),
    "dvao_shrunk_running": _SUM.of(
        papers.DVAO,
        "`dvao_shrunk`, σ̂ moved towards the mean deviation of this and earlier steps",
        bound="batch",
        **_OURS,
    ),
    "gdpo": _SCORES.of(papers.GDPO, "`whiten(Σ_k w_k z_ik)`"),
    "gdpo_token_weighted": _SCORES.of(
        papers.GDPO,
        "`gdpo`, each completion counted once per token",
        zero_sum=False,
        credit="{}, its code for verl",
    ),
    "rvpo": _SCORES.of(
        papers.RVPO,
        "`whiten(−1/s · ln Σ_k w̄_k exp(−s z_ik))`, `w̄ = w / Σ w`",
        zero_sum=False,
        conflict="punished",
    ),
    "rvpo_annealed": _SCORES.of(
        papers.RVPO,
        "`rvpo`, s rising from `first` to `last` over `num_steps` steps",
        zero_sum=False,
        conflict="punished",
    ),
    "rvpo_variance_penalty": _SCORES.of(
        papers.RVPO,
        "`whiten(Σ_k w̄_k z_ik − β Var_k(z_ik))`",
        order="none",
        zero_sum=False,
        conflict="punished",
    ),
    "lagrangian": _AS_GRPO.of(
        papers.CONSTRAINED_GRPO,
        "`grpo` with the weights `w_k + λ_k`, λ rising while a mean reward is below its threshold",
        shift="told",
        credit="{}, which advises against it",
        also=papers.SAFE_RLHF,
    ),
    "constrained_grpo": _AS_GRPO.of(
        papers.CONSTRAINED_GRPO,
        "`Σ_k (w_k + λ_k) z_ik`, λ rising while a mean reward is below its threshold",
        shift="told",
    ),
    "ctwa": _AS_GRPO.of(
        papers.CTWA,
        "`grpo` with the weights `w_k exp(u_k)`, u growing while the covariance of reward and "
        "advantage is below its target",
        shift="told",
    ),
    "hvpo": _OWN.of(
        papers.AMO,
        "`(q_i − mean of the others) / running deviation`, `q_i` the geometric mean of what is "
        "gained over a reference",
        scale="told",
        shift="told",
        bound="none",
        conflict="punished",
    ),
    "lite_ppo": _SUM.of(
        papers.LITE_PPO, "`c_i / (std of Σ_k w_k r_ik over the batch + ε)`", bound="batch"
    ),
    "corr_grpo": _SUM.of(
        papers.CORR_GRPO,
        "`c_i / √(Σ_kl ρ_kl + ε)`, `ρ` the correlations within the group",
        bound="none",
    ),
    "maxrl": _SUM.of(papers.MAXRL, "`c_i / (mean of Σ_k w_k r_ik + ε)`", shift="no", bound="none"),
    "reinforce_plus_plus": _SUM.of(
        papers.REINFORCE_PLUS_PLUS,
        "`Σ_k w_k r_ik`, whitened over the tokens of the batch",
        bound="batch",
        zero_sum=False,
    ),
    "reinforce_plus_plus_baseline": _SUM.of(
        papers.REINFORCE_PLUS_PLUS,
        "`c_i`, whitened over the tokens of the batch",
        bound="batch",
        zero_sum=False,
    ),
    "saw_grpo": _AS_GRPO.of(
        papers.SAW,
        "`grpo` with the weights `w_k · CV_k`, the coefficient of variation over the batch",
        shift="told",
    ),
    "saw_gdpo": _AS_GDPO.of(
        papers.SAW, "`gdpo` with the weights of `saw_grpo`", scale="told", shift="told"
    ),
    "gd2po_hard": _SCORES.of(
        papers.GD2PO,
        "`gdpo` over the completions whose `z_ik` all have one sign, times their share of the "
        "group",
        order="none",
        zero_sum=False,
        conflict="dropped",
    ),
    "gd2po_snr": _SCORES.of(
        papers.GD2PO,
        "`gd2po_hard`, but a conflict stays if `|Σ_k w_k z_ik| ≥ τ Σ_k w_k |z_ik|`",
        order="none",
        zero_sum=False,
        conflict="dropped",
    ),
    "sa_mrpo": _AS_GDPO.of(
        papers.SA_MRPO,
        "`gdpo` with the weights `w_k (1 − s_k)^γ`, `s_k` how near the batch's mean is to the top",
        scale="told",
        shift="told",
    ),
    "dara_symmetric": _AS_GDPO.of(
        papers.DARA,
        "`gdpo` with the weights `w_k d_k`, `d_k = min(5, √(π_max / π_k))`, `π_k` the share of "
        "groups where k varies",
    ),
    "dara_asymmetric": _AS_GDPO.of(
        papers.DARA,
        "`dara_symmetric`, its factors on the positive part of `z_ik` alone",
        zero_sum=False,
    ),
    "sc_ppo": _AS_GDPO.of(
        None,
        "`gdpo` with the weights of least norm that no objective loses by, from the other half of "
        "the groups",
        scale="no",
        shift="told",
        cost="2^K",
        credit="from code alone",
    ),
    "augmented_tchebycheff": _OWN.of(
        papers.PANACEA,
        "`t_i = −max_k w_k (z* − r_ik) + ρ Σ_k w_k r_ik` in place of the sum of `grpo`",
        shift="told",
        conflict="punished",
        credit="{}, there without ρ",
    ),
    "rdpo": _OWN.of(
        papers.RDPO,
        "`Σ_k w_k q_ik`, q soft ranks within the group, decorrelated over the batch",
        order="none",
        scale="yes",
        bound="batch",
        cost="G + K",
        **_RECONSTRUCTED,
    ),
    "focal_reward": _AS_GRPO.of(
        papers.FOCAL_REWARD,
        "`grpo` with the weights `w_k (1 − μ_k)^γ` of each group",
        shift="no",
        **_RECONSTRUCTED,
    ),
    "vpo": _OWN.of(
        papers.VPO,
        "z-score of `E_ω max_y Σ_k ω_k r_iyk` over the answers y of one completion, ω from a "
        "Dirichlet",
        cost="draws",
    ),
}

# What the papers call by another name.
OTHER_NAMES = {
    "mo_grpo": "advantage_combination",
    "ac": "advantage_combination",
    "rc": "reward_combination",
}


class Beside(NamedTuple):
    """A method that takes more than rewards and weights, for a step of one's own.

    Attributes:
        takes: what it takes besides, or instead.
        advantage: the equation, in Markdown.
        paper: where it is from.
        credit: what is said of the paper; `{}` stands for it.
    """

    takes: str
    advantage: str
    paper: Paper
    credit: str = "{}"


BESIDE: dict[str, Beside] = {
    "dro": Beside(
        "which completions are accepted",
        "`grpo` where a rejected completion is worth the least of the accepted ones",
        papers.DRO,
        **_RECONSTRUCTED,
    ),
    "ms_grpo": Beside(
        "the reward of each turn",
        "the group's z-score of an episode's whole reward, at each of its turns",
        papers.MS_GRPO,
    ),
    "gtpo": Beside(
        "the reward of each turn",
        "the group's z-score, at each turn, of the discounted reward from there on",
        papers.GTPO,
        **_RECONSTRUCTED,
    ),
    "dvao_of_repeats": Beside(
        "several scores of each completion",
        "`dvao_denoised` of their means, with the noise that they show",
        papers.DVAO,
        **_OURS,
    ),
}
