"""Rewards by the Berkeley leaderboard's checker: correct or not, or in four parts.

The reference of every reward is a `FunctionProblem`. `decode` is one of the functions of `parsing`
and depends on how the model writes calls. All rewards are 0 or 1. `leaderboard_match` equals the
leaderboard's own verdict (ShishirPatil/gorilla 6ea57973), `ast_match` is recommended; the four
parts are ours.
"""

from dvaojax.rewards.tools.bfcl.call_check import CallCorrectness, call_correctness, fault
from dvaojax.rewards.tools.bfcl.parsing import CallParser, attempts_call
from dvaojax.rewards.tools.bfcl.problem import FunctionProblem
from dvaojax.types import Completion


def ast_match(completion: Completion, problem: FunctionProblem, /, *, decode: CallParser) -> float:
    """1 if the calls are correct by the leaderboard's checker, else 0. Recommended.

    Like `leaderboard_match`, except in the irrelevance categories: there an answer is correct only
    if it does not try to call anything (`parsing.attempts_call`), so that a call that is cut off,
    broken or written differently than `decode` expects is not rewarded.

    Args:
        completion: the answer.
        problem: with its answers.
        decode: parser of the calls, such as `json_calls`.
    """
    right = leaderboard_match(completion, problem, decode=decode)
    if right and not problem.answers and "irrelevance" in problem.category:
        return float(not attempts_call(completion.text))
    return right


def leaderboard_match(
    completion: Completion, problem: FunctionProblem, /, *, decode: CallParser
) -> float:
    """1 if the calls are correct by the leaderboard's own checker, else 0.

    Equals ShishirPatil/gorilla 6ea57973 for a model whose function names may contain dots
    (`ast_checker.py`, rules at `call_check.fault` and `argument_check.argument_fault`). Note what
    the checker accepts: "x2" for "x**2", and `""` and `[]` for a parameter that should have been
    omitted.

    In the irrelevance categories an answer without any call that can be read is correct regardless
    of its text; in the relevance category any call is. Two problems of the set cannot be solved,
    "live_simple_106-63-0" and "live_simple_112-68-0", which require a parameter without an accepted
    value. Two others list a parameter that the function lacks, "parallel_multiple_12" and
    "parallel_multiple_26": omitting it is correct and passing it is wrong.

    Args:
        completion: the answer.
        problem: with its answers.
        decode: parser of the calls, such as `python_calls`.
    """
    calls = decode(completion.text)
    if not problem.answers:
        return float(bool(calls) != ("irrelevance" in problem.category))
    return float(calls is not None and not fault(calls, problem))


def names(
    completion: Completion, problem: FunctionProblem, /, *, decode: CallParser
) -> float | None:
    """1 if the right functions are called, each as often as required; else 0.

    The first of four parts of `ast_match`, which is 1 if all four are. Like the others, None if the
    category only asks whether anything is called.
    """
    right = _correctness(completion, problem, decode)
    return None if right is None else float(right.name)


def complete(
    completion: Completion, problem: FunctionProblem, /, *, decode: CallParser
) -> float | None:
    """1 if `names` is 1 and no call omits a required parameter; else 0."""
    right = _correctness(completion, problem, decode)
    return None if right is None else float(right.complete)


def types(
    completion: Completion, problem: FunctionProblem, /, *, decode: CallParser
) -> float | None:
    """1 if `names` is 1 and every argument is known and has the right type; else 0."""
    right = _correctness(completion, problem, decode)
    return None if right is None else float(right.types)


def values(
    completion: Completion, problem: FunctionProblem, /, *, decode: CallParser
) -> float | None:
    """1 if `types` is 1 and every argument has an accepted value; else 0."""
    right = _correctness(completion, problem, decode)
    return None if right is None else float(right.values)


def _correctness(
    completion: Completion, problem: FunctionProblem, decode: CallParser
) -> CallCorrectness | None:
    if not problem.answers:
        return None
    return call_correctness(decode(completion.text) or [], problem)
