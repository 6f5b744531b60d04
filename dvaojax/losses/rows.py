"""Rows of the table of losses, `dvaojax.losses.methods`."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from dvaojax.papers import Paper


class LossRow(NamedTuple):
    """A loss and the properties of its gradient.

    Attributes:
        method: the function `method(logp, logp_old, advantages, *, where, reduce=..., ...)`.
        paper: source; None for a loss without a paper.
        equation: the objective, which is maximised, in Markdown, in the symbols of `SYMBOLS`.
        unit: the probability ratio that weights a token: its own (`token`), its own and those of
            the tokens before it (`prefix`), or that of its completion (`sequence`).
        bound: the bounded quantity: the `ratio`; the `probability` or the `divergence` of the token
            against all other tokens; a `covariance`, which may act where no probability has
            changed; or `none`.
        beyond: the gradient of a token far beyond the bound, where its advantage pushes it further:
            `nothing` is left; its weight `stops` growing; it `fades`; it turns `back`; or nothing
            stops it and a `penalty` is subtracted.
        scales: whether multiplying all advantages by a positive number multiplies the gradient by
            that number and changes nothing else.
        leaves: whether a token with advantage 0 has no gradient, however far it has moved.
        credit: description of the source; `{}` is replaced by the paper.
    """

    method: Callable[..., Any]
    paper: Paper | None
    equation: str
    unit: Literal["token", "prefix", "sequence"] = "token"
    bound: Literal["ratio", "probability", "divergence", "covariance", "none"] = "ratio"
    beyond: Literal["nothing", "stops", "fades", "back", "penalty"] = "nothing"
    scales: bool = True
    leaves: bool = True
    credit: str = "{}"


class OtherLossRow(NamedTuple):
    """A loss of whole groups, or a method that leaves out tokens of any loss.

    Attributes:
        method: the function.
        paper: source.
        equation: the objective, or the condition of a token that is kept, in Markdown.
        takes: its inputs.
        use: settings of a run that select it.
        credit: description of the source; `{}` is replaced by the paper.
    """

    method: Callable[..., Any]
    paper: Paper
    equation: str
    takes: str
    use: str
    credit: str = "{}"
