"""Rewards for a program: the tests it passes, one by one, together, or as a share.

Each test runs in processes of its own, see `sandbox`. Nothing is paid for ending early, for
printing or for objects that claim to be equal to everything: only values that come back count. The
problems are those of MBPP (arXiv 2108.07732) and HumanEval (arXiv 2107.03374), or one's own.
"""

import functools

from dvaojax.rewards.programs.extraction import extract_program
from dvaojax.rewards.programs.problems import Problem
from dvaojax.rewards.programs.sandbox import DEFAULT_LIMITS, Limits, Verdict, run_test
from dvaojax.types import Completion


def one_passed(
    completion: Completion, reference: Problem, /, *, number: int, limits: Limits = DEFAULT_LIMITS
) -> float | None:
    """1 where the completion's program passes one test of the problem, else 0.

    None where the problem has fewer tests, so that problems of three tests and of seven fit one
    vector of rewards. No program passes nothing.

    Args:
        completion: the answer, whose last block of Python is run.
        reference: the problem.
        number: of the test, from 1.
        limits: of the test.

    Raises:
        ValueError: there is no test of that number in any problem.
        SandboxError: there is nothing to run it in.
    """
    if number < 1:
        raise ValueError(f"number={number}: tests are counted from 1")
    if number > len(reference.tests):
        return None
    return float(verdict(completion.text, reference, number - 1, limits=limits).passed)


def share_passed(
    completion: Completion, reference: Problem, /, *, limits: Limits = DEFAULT_LIMITS
) -> float:
    """The share of the problem's tests that the completion's program passes.

    R_pass of GDPO (arXiv:2601.05242).

    Raises:
        SandboxError: there is nothing to run them in.
    """
    tests = range(len(reference.tests))
    passed = [verdict(completion.text, reference, i, limits=limits).passed for i in tests]
    return sum(passed) / len(passed)


def all_passed(
    completion: Completion, reference: Problem, /, *, limits: Limits = DEFAULT_LIMITS
) -> float:
    """1 where the completion's program passes every test of the problem, else 0.

    What pass@k of HumanEval (arXiv:2107.03374) and MBPP (arXiv:2108.07732) counts.

    Raises:
        SandboxError: there is nothing to run them in.
    """
    tests = range(len(reference.tests))
    return float(all(verdict(completion.text, reference, i, limits=limits).passed for i in tests))


def verdict(text: str, problem: Problem, place: int, *, limits: Limits = DEFAULT_LIMITS) -> Verdict:
    """What came of one test, and why; remembered, for several rewards may ask for it.

    Args:
        text: a completion.
        problem: that it answers.
        place: of the test, from 0.
        limits: of the test.

    Raises:
        SandboxError: there is nothing to run it in.
    """
    program = extract_program(text)
    if program is None:
        return Verdict(False, "no program")
    functions = tuple(problem.functions.items())
    return _verdict(program, problem.tests[place], functions, problem.context, limits)


@functools.lru_cache(maxsize=4096)
def _verdict(
    program: str, test: str, functions: tuple[tuple[str, str], ...], context: str, limits: Limits
) -> Verdict:
    continues = program.lstrip("\n")[:1] in (" ", "\t")  # the body of a function the prompt began
    sources = [f"{context}\n{program}"] if continues else [context, program]
    return run_test(sources, test, names=dict(functions), context=context, limits=limits)
