"""The table of allocation rules: one import line and one row for each rule.

Names, help pages, the tables of `dvaojax methods` and the dictionary `BY_NAME` are derived from it.
The tests measure every property and compare the papers with the docstrings.

A new rule takes its file, one line among the imports and one row.
"""

from collections.abc import Mapping

from dvaojax import papers
from dvaojax.allocation.dynamo import dynamo as dynamo
from dvaojax.allocation.dynamo import neyman as neyman
from dvaojax.allocation.gradalign import gradalign as gradalign
from dvaojax.allocation.gvm import gvm as gvm
from dvaojax.allocation.rows import AllocationRow as AllocationRow
from dvaojax.allocation.sage import sage as sage
from dvaojax.allocation.uniform import uniform as uniform
from dvaojax.allocation.vip import vip as vip

SYMBOLS: Mapping[str, str] = {
    "n_i": "the completions of problem `i`; the standard deviation of its rewards is `σ_i`",
    "g_i, g_V": "its policy gradient; that of the trusted problems",
    "p_i, G_i": "the share of its completions that succeed; the mean gradient norm of those",
}
"""The symbols of the equations, with their meanings."""

_TABLE: tuple[AllocationRow, ...] = (
    AllocationRow(uniform, None, "`n_i` equal for all problems", "nothing", "none"),
    AllocationRow(neyman, papers.DYNAMO, "`n_i ∝ σ_i`", "spread", "half"),
    AllocationRow(
        dynamo,
        papers.DYNAMO,
        "`n_i − floor ∝ max(4 p_i (1 − p_i), 0.01)`, 0.01 once `p_i` reaches 0.85",
        "success",
        "half",
        credit="{}, its code",
    ),
    AllocationRow(
        vip,
        papers.VIP,
        "`n_i` of least `Σ_i p_i (1 − p_i) / (n_i − 1)`, or of Dr.GRPO's variance",
        "success",
        "half",
        credit="{}, without its Gaussian process",
    ),
    AllocationRow(
        sage,
        papers.SAGE,
        "from `p_i ≈ 1 − mean p` outwards, `n_i − floor ∝ (1 − p_i) / √(p_i (1 − p_i) + ε)`",
        "success",
        "half",
        credit="{}, a reconstruction",
    ),
    AllocationRow(
        gradalign,
        papers.GRADALIGN,
        "the cap for problems of the largest `cos(g_i, g_V)`, else the floor",
        "alignment",
        "aligned",
        settings="evaluation.num_prompts=480",
    ),
    AllocationRow(gvm, papers.GVM, "`n_i ∝ G_i / √(p_i + α / p_i^(β − 1))`", "gradients", "rarely"),
)

ROWS: Mapping[str, AllocationRow] = {row.method.__name__: row for row in _TABLE}
"""The rows by the names of their rules."""
