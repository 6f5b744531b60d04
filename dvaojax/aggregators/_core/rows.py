"""Rows of the table of aggregators, `dvaojax.aggregators.methods`."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from dvaojax.papers import Paper


class AggregatorRow(NamedTuple):
    """An aggregator and the properties of its advantages.

    Attributes:
        method: the function `method(rewards, weights, *, mask=None, ...)`, with the further
            arguments that it needs, such as `lengths`, after the weights, or a factory
            `method(weights, ...)` of an `Aggregator` with a state.
        paper: source; None for code without a paper or a public repository.
        equation: on one line, in Markdown, in the symbols of `SYMBOLS`.
        family: `sum` divides the weighted sum of the rewards, minus a baseline, by one positive
            number per group or batch; `z-scores` standardises each objective within its group
            before it combines them; `adapted` is one of these two under weights that depend on the
            rewards; `own` is neither.
        order: order of the completions of a group: that of the weighted `sum`; `pareto` if a
            completion that is better on every objective never has the smaller advantage; or `none`.
        scale: whether multiplying one objective's rewards by a positive number changes nothing:
            `yes`, `no`, or `with knobs` if the knobs in units of the reward are multiplied too.
        shift: whether adding a number to one objective's rewards changes nothing, likewise.
        bound: on the size of an advantage: it depends on the size of the `group` and the knobs
            only; on the size of the `batch`, which is reached if one group varies and the others do
            not; or there is `none`.
        zero_sum: whether the advantages of a group sum to 0.
        conflict: treatment of a completion that is good on one objective and bad on another: it is
            `traded` off, `punished` by its worst objective, or `dropped`.
        cost: operations per reward: `1` for a constant, or the quantity they grow with; `T` is the
            number of tokens of a completion.
        credit: description of the source; `{}` is replaced by the paper.
        also: another paper with the same method.
        settings: of a run that selects it, in addition to its name.
    """

    method: Callable[..., Any]
    paper: Paper | None
    equation: str
    family: Literal["sum", "z-scores", "adapted", "own"] = "own"
    order: Literal["sum", "pareto", "none"] = "pareto"
    scale: Literal["yes", "no", "with knobs"] = "no"
    shift: Literal["yes", "no", "with knobs"] = "yes"
    bound: Literal["group", "batch", "none"] = "group"
    zero_sum: bool = True
    conflict: Literal["traded", "punished", "dropped"] = "traded"
    cost: Literal["1", "G", "G + K", "2^K", "T", "draws"] = "1"
    credit: str = "{}"
    also: Paper | None = None
    settings: str = ""


class OtherFunctionRow(NamedTuple):
    """A function with other inputs than those of the aggregators of a run.

    Attributes:
        method: the function.
        paper: source.
        equation: in words or symbols, in Markdown.
        takes: its additional or other inputs.
        use: settings of a run that computes the same, or what such a run waits for.
        credit: description of the source; `{}` is replaced by the paper.
    """

    method: Callable[..., Any]
    paper: Paper | None
    equation: str
    takes: str
    use: str
    credit: str = "{}"
