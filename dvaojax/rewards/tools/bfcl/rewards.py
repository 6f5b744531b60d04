"""Function calls as the Berkeley leaderboard judges them: right or wrong, or in four parts.

The reference of every reward is a `FunctionProblem`; `decode` says how the model writes calls, and
is one of `decoding`'s functions. All pay 0 or 1. `ast_match` is the leaderboard's own verdict
(ShishirPatil/gorilla 6ea57973); that it is paid in four parts is ours.
"""

from dvaojax.rewards.tools.bfcl.call_check import Rightness, fault, rightness
from dvaojax.rewards.tools.bfcl.parsing import CallParser
from dvaojax.rewards.tools.bfcl.problem import FunctionProblem
from dvaojax.types import Completion


def ast_match(completion: Completion, problem: FunctionProblem, /, *, decode: CallParser) -> float:
    """1 where the calls are right by the leaderboard's own checker, else 0.

    As ShishirPatil/gorilla 6ea57973 judges a model whose function names may hold dots
    (`ast_checker.py`, rules at `matching.fault` and `checking.argument_fault`). Nothing is
    recommended otherwise, so that there is one form; what the checker lets pass is worth knowing:
    "x2" for "x**2", `""` and `[]` for a parameter that was to be left out.

    Irrelevance pays for an answer that calls nothing, whatever else it says, and relevance for one
    that calls anything. Two problems of the set cannot be solved, "live_simple_106-63-0" and
    "live_simple_112-68-0", which require a parameter without an accepted value; and two list a
    parameter that the function lacks, "parallel_multiple_12" and "parallel_multiple_26", so that
    leaving it out is right and giving it is wrong.

    Args:
        completion: the answer.
        problem: with its answers.
        decode: how calls are read.
    """
    calls = decode(completion.text)
    if not problem.answers:
        return float(bool(calls) != ("irrelevance" in problem.category))
    return float(calls is not None and not fault(calls, problem))


def names(
    completion: Completion, problem: FunctionProblem, /, *, decode: CallParser
) -> float | None:
    """1 where the right functions are called, each as often as it should be; else 0.

    The first of four parts of `ast_match`, which pays where all four do; None, as the others,
    where the category asks only whether anything is called.
    """
    right = _rightness(completion, problem, decode)
    return None if right is None else float(right.name)


def complete(
    completion: Completion, problem: FunctionProblem, /, *, decode: CallParser
) -> float | None:
    """1 where `names` pays and no call misses a parameter that may not be left out; else 0."""
    right = _rightness(completion, problem, decode)
    return None if right is None else float(right.complete)


def types(
    completion: Completion, problem: FunctionProblem, /, *, decode: CallParser
) -> float | None:
    """1 where `names` pays and every argument is known and of its type; else 0."""
    right = _rightness(completion, problem, decode)
    return None if right is None else float(right.types)


def values(
    completion: Completion, problem: FunctionProblem, /, *, decode: CallParser
) -> float | None:
    """1 where `types` pays and every argument has an accepted value; else 0."""
    right = _rightness(completion, problem, decode)
    return None if right is None else float(right.values)


def _rightness(
    completion: Completion, problem: FunctionProblem, decode: CallParser
) -> Rightness | None:
    if not problem.answers:
        return None
    return rightness(decode(completion.text) or [], problem)
