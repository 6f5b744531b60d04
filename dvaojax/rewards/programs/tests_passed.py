"""Rewards for the tests that a program passes: a single test, all of them, or a fraction.

Each test runs in separate processes, see `sandbox`. Exiting early, printing, or returning objects
that claim to equal everything gives no reward: only returned values count. The problems are those
of MBPP (arXiv 2108.07732) and HumanEval (arXiv 2107.03374), or your own.
"""

import functools

from dvaojax.rewards.programs.extraction import extract_program
from dvaojax.rewards.programs.problems import Problem
from dvaojax.rewards.programs.sandbox import DEFAULT_LIMITS, Limits, Verdict, run_test
from dvaojax.types import Completion


def one_passed(
    completion: Completion, reference: Problem, /, *, number: int, limits: Limits = DEFAULT_LIMITS
) -> float | None:
    """1 if the completion's program passes one test of the problem, else 0.

    None if the problem has fewer tests, so that problems with different numbers of tests share one
    vector of rewards. A completion without a program passes no test.

    Args:
        completion: the answer, whose last block of Python is run.
        reference: the problem.
        number: of the test, from 1.
        limits: of the test.

    Raises:
        ValueError: the number is below 1.
        SandboxError: the sandbox process cannot run it.
    """
    if number < 1:
        raise ValueError(f"number={number}: tests are counted from 1")
    if number > len(reference.tests):
        return None
    return float(verdict(completion.text, reference, number - 1, limits=limits).passed)


def share_passed(
    completion: Completion, reference: Problem, /, *, limits: Limits = DEFAULT_LIMITS
) -> float:
    """Fraction of the problem's tests that the completion's program passes.

    R_pass of GDPO (arXiv:2601.05242).

    Raises:
        SandboxError: the sandbox process cannot run them.
    """
    tests = range(len(reference.tests))
    passed = [verdict(completion.text, reference, i, limits=limits).passed for i in tests]
    return sum(passed) / len(passed)


def all_passed(
    completion: Completion, reference: Problem, /, *, limits: Limits = DEFAULT_LIMITS
) -> float:
    """1 if the completion's program passes every test of the problem, else 0.

    The criterion of pass@k for HumanEval (arXiv:2107.03374) and MBPP (arXiv:2108.07732).

    Raises:
        SandboxError: the sandbox process cannot run them.
    """
    tests = range(len(reference.tests))
    return float(all(verdict(completion.text, reference, i, limits=limits).passed for i in tests))


def verdict(text: str, problem: Problem, index: int, *, limits: Limits = DEFAULT_LIMITS) -> Verdict:
    """The result of one test; cached, since several rewards may need it.

    Args:
        text: a completion.
        problem: the problem that it answers.
        index: of the test, from 0.
        limits: of the test.

    Raises:
        SandboxError: the sandbox process cannot run it.
    """
    program = extract_program(text)
    if program is None:
        return Verdict(False, "no program")
    functions = tuple(problem.functions.items())
    return _verdict(program, problem.tests[index], functions, problem.context, limits)


@functools.lru_cache(maxsize=4096)
def _verdict(
    program: str, test: str, functions: tuple[tuple[str, str], ...], context: str, limits: Limits
) -> Verdict:
    # Indented code is the body of a function whose head is in the prompt.
    continues = program.lstrip("\n")[:1] in (" ", "\t")
    sources = [f"{context}\n{program}"] if continues else [context, program]
    return run_test(sources, test, names=dict(functions), context=context, limits=limits)
