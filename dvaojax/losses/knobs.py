"""The options of a loss, read from its signature."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from dvaojax import options
from dvaojax.losses.reductions import Reduction, token_mean


def knobs_of(loss: Callable[..., Any]) -> dict[str, float]:
    """The keyword-only knobs of a loss with their defaults, without its inputs and `reduce`."""
    return options.knobs_of(loss, without=("where", "entropy", "reduce"))


def needs_entropy(loss: Callable[..., Any]) -> bool:
    """Whether a loss takes the entropy of the policy's next-token distributions."""
    return "entropy" in inspect.signature(loss).parameters


def reduction_of(loss: Callable[..., Any]) -> Reduction:
    """The default reduction of a loss, that of its paper; `token_mean` if it has no default."""
    parameter = inspect.signature(loss).parameters.get("reduce")
    if parameter is None or parameter.default is inspect.Parameter.empty:
        return token_mean
    return parameter.default


def read_knobs(loss: Callable[..., Any], settings: Sequence[str], *, name: str) -> dict[str, float]:
    """The knobs that options of the form `knob=value` set.

    Args:
        loss: a loss.
        settings: its options.
        name: of the loss, for errors.

    Raises:
        UserError: the loss has no such knob, or the value is not of its type.
    """
    return options.read_options(name, settings, knobs_of(loss))
