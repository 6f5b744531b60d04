"""Whether the right tools are called with the right parameters.

`toolrl_correctness` equals ToolRL's code (qiancheng0/ToolRL 8cee13ec). The others are the
recommended version: in ToolRL's range, rescaled to [0, 1], as an exact match, and in parts. The
differences are documented at `correctness`. Every function takes the gold answer's text as its
reference.

ToolRL's code has variants enabled by environment variables, all off by default, which are not
offered: CORRECTMAX1 and the schedules (SCHEDULEREWARD, MAX1STEP30MAX3) only rescale an objective,
as its weight does; COARSEREWARD is `exact_match` rescaled and sensitive to the calls' order;
REFINEDREWARD and INTERMEDIATEREWARD count whole lists of names and whole calls; WITHLENGTH rewards
long thoughts.
"""

from collections.abc import Sequence
from typing import Any

from dvaojax.rewards.tools.blocks import first_block, gold_calls, tool_calls
from dvaojax.rewards.tools.call_matching import Fit, best_fit, most, overlap
from dvaojax.types import Completion

LOWEST, HIGHEST = -3.0, 3.0


def toolrl_correctness(completion: Completion, gold: str, /) -> float | None:
    """ToolRL's score in [-3, 3]; None if ToolRL's code cannot read its own gold answer.

    As in qiancheng0/ToolRL 8cee13ec (`rlla.py`) and NVlabs/GDPO b080e63d, with no environment
    variable set. The first `<tool_call>` block is read, thoughts included, as one JSON value per
    line; any error gives -3. Two equal lists of calls give 3. Otherwise the score sums the overlap
    of the tools' names and the best fit of each gold call, which takes the best remaining call in
    turn; the sum over its maximum is mapped to [-3, 3]. Python's `==` is used, so `true` equals 1.

    A gold answer without a `<tool_call>` gives 0 for every completion. For a gold answer whose
    thought mentions the tag (17 of the 400 in ToolRL's fine-tuning set) ToolRL's code raises; here
    the result is None, so that the objective does not apply.

    Args:
        completion: the answer.
        gold: the gold answer's text.
    """
    if "<tool_call>" not in gold:
        return 0.0
    try:
        wanted = first_block(gold)
    except (ValueError, RecursionError):
        return None
    try:
        return _greedy_score(wanted, first_block(completion.text))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return LOWEST


def correctness(completion: Completion, gold: str, /) -> float | None:
    """ToolRL's score in [-3, 3] for the calls after the thought. Recommended.

    It differs from `toolrl_correctness` in six ways. Only the text after the last `</think>` is
    read, and its last block, so that a thought may mention the tag. Blank lines between calls and
    tags in a call's strings do not matter. Calls and gold calls are paired
    to maximise the sum (as in GDPO's paper, arXiv:2601.05242), not greedily. `true` does not equal
    1. A call must have a name and parameters. If the gold answer responds in words, the objective
    does not apply (None), instead of giving every completion the same reward.

    -3 if the calls cannot be read or no tool's name is right; 3 exactly if every gold call is made
    and no other, in any order. An additional call only lowers the overlap of the names.

    Args:
        completion: the answer.
        gold: the gold answer's text.

    Raises:
        ValueError: the gold answer's calls cannot be read.
    """
    share = graded(completion, gold)
    return None if share is None else LOWEST + (HIGHEST - LOWEST) * share


def graded(completion: Completion, gold: str, /) -> float | None:
    """`correctness` rescaled to [0, 1].

    The graded version of DVAO's tool-use accuracy (arXiv:2605.25604).

    Raises:
        ValueError: the gold answer's calls cannot be read.
    """
    fits = _fit_and_most(completion, gold)
    return None if fits is None else sum(fits[0]) / sum(fits[1])


def exact_match(completion: Completion, gold: str, /) -> float | None:
    """1 if every gold call is made and no other, in any order; else 0. None as in `correctness`.

    The strict version of DVAO's tool-use accuracy, which its paper calls binary. 1 exactly if
    `graded` is 1.

    Raises:
        ValueError: the gold answer's calls cannot be read.
    """
    fits = _fit_and_most(completion, gold)
    return None if fits is None else float(fits[0] == fits[1])


def names(completion: Completion, gold: str, /) -> float | None:
    """Overlap of the called tools' names with the gold ones, in [0, 1]. None as in `correctness`.

    The first of three parts of `correctness`. A name counts once for each call.

    Raises:
        ValueError: the gold answer's calls cannot be read.
    """
    fits = _fit_and_most(completion, gold)
    return None if fits is None else fits[0].names


def parameter_names(completion: Completion, gold: str, /) -> float | None:
    """Overlap of the parameters' names, as a mean over the gold calls, in [0, 1].

    The second part of `correctness`, and None in the same cases.

    Raises:
        ValueError: the gold answer's calls cannot be read.
    """
    fits = _fit_and_most(completion, gold)
    return None if fits is None else fits[0].parameter_names / fits[1].parameter_names


def values(completion: Completion, gold: str, /) -> float | None:
    """Fraction of the gold parameters whose value is right, in [0, 1].

    The third part of `correctness`. None in the same cases, and if no gold call has a parameter.

    Raises:
        ValueError: the gold answer's calls cannot be read.
    """
    fits = _fit_and_most(completion, gold)
    if fits is None or not fits[1].values:
        return None
    return fits[0].values / fits[1].values


def _fit_and_most(completion: Completion, gold: str) -> tuple[Fit, Fit] | None:
    """The fit and the largest possible fit; None if the gold answer makes no call."""
    wanted = gold_calls(gold)
    if wanted is None:
        return None
    calls = tool_calls(completion.text)
    return Fit(0.0, 0.0, 0.0) if calls is None else best_fit(wanted, calls), most(wanted)


def _greedy_score(wanted: Sequence[Any], calls: Sequence[Any]) -> float:
    """ToolRL's score of unchecked JSON values; raises if a call lacks a name or parameters."""
    if wanted == calls:
        return HIGHEST
    score = _toolrl_overlap([call["name"] for call in wanted], [call["name"] for call in calls])
    unused = list(calls)
    for gold_call in wanted:
        fits = [_toolrl_fit(gold_call, call) for call in unused]
        best = max(fits, default=0.0)
        if best > 0:
            unused.pop(fits.index(best))
            score += best
    highest_score = 1.0 + sum(1.0 + len(gold_call["parameters"]) for gold_call in wanted)
    return LOWEST + (HIGHEST - LOWEST) * score / highest_score


def _toolrl_fit(gold_call: Any, call: Any) -> float:
    if gold_call["name"] != call["name"]:
        return 0.0
    wanted, given = gold_call["parameters"], call["parameters"]
    right = sum(name in given and given[name] == value for name, value in wanted.items())
    return _toolrl_overlap(list(wanted.keys()), list(given.keys())) + right


def _toolrl_overlap(one: list[Any], other: list[Any]) -> float:
    """`overlap`, except that equal or empty lists may contain unhashable items."""
    return float(one == other) if one == other or not one or not other else overlap(one, other)
