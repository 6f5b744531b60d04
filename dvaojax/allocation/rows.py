"""Rows of the table of allocation rules, `dvaojax.allocation.methods`."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from dvaojax.papers import Paper


class AllocationRow(NamedTuple):
    """An allocation rule and the properties of the numbers of completions.

    Attributes:
        method: the function `method(statistics, weights, *, budget, floor, cap, ...)`.
        paper: source; None for a rule without a paper.
        equation: how many completions a problem gets, in Markdown, in the symbols of `SYMBOLS`.
        looks_at: the statistic it depends on: the `spread` of a problem's rewards, the share of
            completions that `success` counts, the `alignment` of its gradient with that of trusted
            problems, or the `gradients` of single completions, which take a forward pass; or
            `nothing`.
        most: the problems that get the most completions, all else being equal: those that are
            solved `half` of the time, those that `rarely` are, the most `aligned`, or `none`.
        credit: description of the source; `{}` is replaced by the paper.
        settings: of a run of the built-in task that selects it, in addition to its name.
    """

    method: Callable[..., Any]
    paper: Paper | None
    equation: str
    looks_at: Literal["spread", "success", "alignment", "gradients", "nothing"]
    most: Literal["half", "rarely", "aligned", "none"]
    credit: str = "{}"
    settings: str = ""
