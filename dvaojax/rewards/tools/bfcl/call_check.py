"""Calls against the right calls of a problem: what is wrong with them, and what is right."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from dvaojax.rewards.tools.bfcl.argument_check import argument_fault
from dvaojax.rewards.tools.bfcl.parsing import FunctionCall
from dvaojax.rewards.tools.bfcl.problem import FunctionProblem, WantedCall


class Rightness(NamedTuple):
    """What is right of a call, or of all calls together. Nothing is where the name is wrong.

    Attributes:
        name: the function's.
        complete: no parameter is missing that may not be left out.
        types: every argument is known and of its type.
        values: every argument is of its type and has an accepted value.
    """

    name: bool
    complete: bool
    types: bool
    values: bool


def fault(calls: Sequence[FunctionCall], problem: FunctionProblem) -> str:
    """What is wrong, in the leaderboard's own words, such as "type_error:nested"; empty if nothing.

    "Parallel" problems want as many calls as there are answers, in any order; each answer in its
    turn takes the first call left that is right, so that an ambiguous one can take another's.
    All others want as many calls too, and of them the first is compared.
    """
    wanted = problem.wanted
    if not problem.in_any_order:
        kind = "multiple" if "multiple" in problem.category else "simple"
        if len(calls) != len(wanted):
            return f"{kind}_function_checker:wrong_count"
        return _fault_of_call(calls[0], wanted[0])
    if len(calls) != len(wanted):
        return "parallel_function_checker_no_order:wrong_count"
    left = list(calls)
    for each in wanted:
        right = next((i for i, call in enumerate(left) if not _fault_of_call(call, each)), None)
        if right is None:
            return "parallel_function_checker_no_order:cannot_find_match"
        left.pop(right)
    return ""


def rightness(calls: Sequence[FunctionCall], problem: FunctionProblem) -> Rightness:
    """What is right of all calls; nothing where there are too many or too few.

    Calls in any order are paired with the answers as it is best for their sum. Where nothing is
    wrong by `fault`, everything is right.
    """
    wanted = problem.wanted
    if len(calls) != len(wanted):
        return Rightness(False, False, False, False)
    if not problem.in_any_order:
        return _rightness_of_call(calls[0], wanted[0])
    table = [[_rightness_of_call(call, each) for call in calls] for each in wanted]
    worth = np.array([[sum(right) for right in row] for row in table])
    pairs = zip(*linear_sum_assignment(worth, maximize=True), strict=True)
    chosen = [table[row][column] for row, column in pairs]
    return Rightness(*map(all, zip(*chosen, strict=True)))


def _fault_of_call(call: FunctionCall, wanted: WantedCall) -> str:
    if call.name != wanted.name:
        return "simple_function_checker:wrong_func_name"
    if _misses_required(call, wanted):
        return "simple_function_checker:missing_required"
    for parameter, value in call.arguments.items():
        _, wrong = _faults_of_argument(parameter, value, wanted)
        if wrong:
            return wrong
    return "simple_function_checker:missing_optional" if _misses_option(call, wanted) else ""


def _rightness_of_call(call: FunctionCall, wanted: WantedCall) -> Rightness:
    if call.name != wanted.name:
        return Rightness(False, False, False, False)
    faults = [_faults_of_argument(*argument, wanted) for argument in call.arguments.items()]
    return Rightness(
        name=True,
        complete=not _misses_required(call, wanted) and not _misses_option(call, wanted),
        types=not any(of_type for of_type, _ in faults),
        values=not any(of_value for _, of_value in faults),
    )


def _misses_required(call: FunctionCall, wanted: WantedCall) -> bool:
    return any(parameter not in call.arguments for parameter in wanted.required)


def _misses_option(call: FunctionCall, wanted: WantedCall) -> bool:
    return any(
        parameter not in call.arguments and "" not in options
        for parameter, options in wanted.options.items()
    )


def _faults_of_argument(parameter: Any, value: Any, wanted: WantedCall) -> tuple[str, str]:
    if parameter not in wanted.properties or parameter not in wanted.options:
        unknown = "simple_function_checker:unexpected_param"
        return unknown, unknown
    return argument_fault(value, wanted.properties[parameter], wanted.options[parameter])
