"""What there is to know of each rule before it is chosen, in one table.

The tests measure what a row says, and hold the papers against the files that cite them.
"""

from typing import Literal, NamedTuple

from dvaojax import papers
from dvaojax.papers import Paper

LETTERS = {
    "n_i": "the completions of problem `i`; its rewards have the spread `σ_i`",
    "p_i, G_i": "the share of its completions that succeed; the mean gradient norm of those",
}


class Entry(NamedTuple):
    """One row.

    Attributes:
        share: how many completions a problem gets, in Markdown, in `LETTERS`.
        paper: where it is from.
        looks_at: what it has to know of a problem: the `spread` of its rewards, its share of
            `success`, or the `gradients` of single completions, which the trainer of this package
            does not measure.
        most: which problems get the most completions, others being equal: those that are solved
            `half` of the time, or those that `rarely` are.
        credit: what is said of the paper; `{}` stands for it.
    """

    share: str
    paper: Paper
    looks_at: Literal["spread", "success", "gradients"]
    most: Literal["half", "rarely"]
    credit: str = "{}"


CATALOGUE: dict[str, Entry] = {
    "neyman": Entry("`n_i ∝ σ_i`", papers.DYNAMO, "spread", "half"),
    "dynamo": Entry(
        "`n_i − floor ∝ max(4 p_i (1 − p_i), 0.01)`, 0.01 once `p_i` reaches 0.85",
        papers.DYNAMO,
        "success",
        "half",
        credit="{}, its code",
    ),
    "gvm": Entry("`n_i ∝ G_i / √(p_i + α / p_i^(β − 1))`", papers.GVM, "gradients", "rarely"),
}
