"""Checks the calls of an answer against the correct calls of a problem."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from dvaojax.rewards.tools.bfcl.argument_check import argument_fault
from dvaojax.rewards.tools.bfcl.parsing import FunctionCall
from dvaojax.rewards.tools.bfcl.problem import FunctionProblem, WantedCall


class CallCorrectness(NamedTuple):
    """Which parts of a call, or of all calls together, are correct; none if the name is wrong.

    Attributes:
        name: the function's name.
        complete: no parameter is missing that must not be omitted.
        types: every argument is known and has the right type.
        values: every argument has the right type and an accepted value.
    """

    name: bool
    complete: bool
    types: bool
    values: bool


def fault(calls: Sequence[FunctionCall], problem: FunctionProblem) -> str:
    """The first fault under the leaderboard's name, such as "type_error:nested"; empty if none.

    Problems of the "parallel" categories require as many calls as there are answers, in any order;
    each answer in turn takes the first remaining correct call, so an ambiguous answer can take
    another's call. The other categories require as many calls too, but only the first is compared.
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


def call_correctness(calls: Sequence[FunctionCall], problem: FunctionProblem) -> CallCorrectness:
    """Which parts are correct in all calls; none if there are too many or too few calls.

    Calls in any order are paired with the answers to maximise the number of correct parts. If
    `fault` is empty, everything is correct.
    """
    wanted = problem.wanted
    if len(calls) != len(wanted):
        return CallCorrectness(False, False, False, False)
    if not problem.in_any_order:
        return _correctness_of_call(calls[0], wanted[0])
    table = [[_correctness_of_call(call, each) for call in calls] for each in wanted]
    worth = np.array([[sum(right) for right in row] for row in table])
    pairs = zip(*linear_sum_assignment(worth, maximize=True), strict=True)
    chosen = [table[row][column] for row, column in pairs]
    return CallCorrectness(*map(all, zip(*chosen, strict=True)))


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


def _correctness_of_call(call: FunctionCall, wanted: WantedCall) -> CallCorrectness:
    if call.name != wanted.name:
        return CallCorrectness(False, False, False, False)
    faults = [_faults_of_argument(*argument, wanted) for argument in call.arguments.items()]
    return CallCorrectness(
        name=True,
        complete=not _misses_required(call, wanted) and not _misses_option(call, wanted),
        types=not any(type_fault for type_fault, _ in faults),
        values=not any(value_fault for _, value_fault in faults),
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
