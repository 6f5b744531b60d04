"""Whether the right tools are called with the right parameters.

`toolrl_correctness` is what ToolRL's code pays (qiancheng0/ToolRL 8cee13ec); the others are the
recommended form, in ToolRL's range, rescaled, all or nothing, and in parts. Differences between the
two are documented at `correctness`. Every function takes the gold answer's text as its reference.

ToolRL's code has variants behind environment variables, all of them off unless set, that are not
offered: CORRECTMAX1 and the schedules (SCHEDULEREWARD, MAX1STEP30MAX3) only rescale an objective,
which its weight does as well; COARSEREWARD is `exact_match` rescaled and tied to the calls' order;
REFINEDREWARD and INTERMEDIATEREWARD count whole lists of names and whole calls; WITHLENGTH pays for
long thoughts.
"""

from collections.abc import Sequence
from typing import Any

from dvaojax.rewards.tools.blocks import first_block, gold_calls, tool_calls
from dvaojax.rewards.tools.call_matching import Fit, best_fit, most, overlap
from dvaojax.types import Completion

LOWEST, HIGHEST = -3.0, 3.0


def toolrl_correctness(completion: Completion, gold: str, /) -> float | None:
    """The [-3, 3] score of ToolRL's code; None where that code cannot read its own gold answer.

    As qiancheng0/ToolRL 8cee13ec pays it (`rlla.py`), and NVlabs/GDPO b080e63d after it, with no
    environment variable set. The first `<tool_call>` block is read, thoughts included, one JSON
    value a line; whatever goes wrong earns -3. Two equal lists of calls earn 3. Otherwise the
    overlap of the tools' names and the best fits of the gold calls are summed, each gold call in
    its turn taking the best call that is left, and the sum over its maximum is stretched to
    [-3, 3]. Python's `==` compares, so `true` is 1.

    A gold answer without a `<tool_call>` earns 0, whatever the completion. A gold answer whose
    thought names the tag (17 of the 400 in ToolRL's fine-tuning set) makes ToolRL raise; here it
    is None, so that the objective does not apply.

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

    It differs from `toolrl_correctness` in five ways. Only what follows the last `</think>` counts,
    and of its blocks the last, so that a thought may name the tag. Calls are paired with the gold
    calls as it is best for their sum (as in GDPO's paper, arXiv:2601.05242), not greedily. `true`
    is not 1. A call has to have a name and parameters. And a gold answer that responds in words is
    no reason to pay everybody the same: None, the objective does not apply.

    -3 where the calls cannot be read or no tool's name is right; 3 exactly where every gold call
    is made and no other, in any order. An invented further call costs no more than its share of
    the names.

    Args:
        completion: the answer.
        gold: the gold answer's text.

    Raises:
        ValueError: the gold answer's calls cannot be read.
    """
    share = graded(completion, gold)
    return None if share is None else LOWEST + (HIGHEST - LOWEST) * share


def graded(completion: Completion, gold: str, /) -> float | None:
    """`correctness` in [0, 1], the graded reading of DVAO's tool-use accuracy (arXiv:2605.25604).

    Raises:
        ValueError: the gold answer's calls cannot be read.
    """
    fits = _fit_and_most(completion, gold)
    return None if fits is None else sum(fits[0]) / sum(fits[1])


def exact_match(completion: Completion, gold: str, /) -> float | None:
    """1 where every gold call is made and no other, in any order; else 0; None as `correctness`.

    The strict reading of DVAO's tool-use accuracy, which its paper calls binary. 1 exactly where
    `graded` is 1.

    Raises:
        ValueError: the gold answer's calls cannot be read.
    """
    fits = _fit_and_most(completion, gold)
    return None if fits is None else float(fits[0] == fits[1])


def names(completion: Completion, gold: str, /) -> float | None:
    """Overlap of the called tools' names with the gold ones, in [0, 1]; None as `correctness`.

    The first of three parts of `correctness`. A name counts as often as it is called.

    Raises:
        ValueError: the gold answer's calls cannot be read.
    """
    fits = _fit_and_most(completion, gold)
    return None if fits is None else fits[0].names


def parameter_names(completion: Completion, gold: str, /) -> float | None:
    """Overlap of the parameters' names, as a mean over the gold calls, in [0, 1].

    The second part of `correctness`; None where that is.

    Raises:
        ValueError: the gold answer's calls cannot be read.
    """
    fits = _fit_and_most(completion, gold)
    return None if fits is None else fits[0].parameter_names / fits[1].parameter_names


def values(completion: Completion, gold: str, /) -> float | None:
    """The share of the gold parameters whose value is right, in [0, 1].

    The third part of `correctness`; None where that is, and where no gold call has a parameter.

    Raises:
        ValueError: the gold answer's calls cannot be read.
    """
    fits = _fit_and_most(completion, gold)
    if fits is None or not fits[1].values:
        return None
    return fits[0].values / fits[1].values


def _fit_and_most(completion: Completion, gold: str) -> tuple[Fit, Fit] | None:
    """What was met and what there was to meet; None where the gold answer makes no call."""
    wanted = gold_calls(gold)
    if wanted is None:
        return None
    calls = tool_calls(completion.text)
    return Fit(0.0, 0.0, 0.0) if calls is None else best_fit(wanted, calls), most(wanted)


def _greedy_score(wanted: Sequence[Any], calls: Sequence[Any]) -> float:
    """ToolRL's score of unchecked JSON values; raises where a call lacks what is asked of it."""
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
    """`overlap`, which an equal or an empty list keeps from looking at items it cannot count."""
    return float(one == other) if one == other or not one or not other else overlap(one, other)
