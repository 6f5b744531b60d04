"""Rewards for the tests that a program passes: a single test, all of them, or a fraction.

Programs and tests run in separate sandboxes, see `bubblewrap`. Exiting early, printing, or
returning objects that claim to equal everything gives no reward: only returned values count. The
problems are those of MBPP (arXiv 2108.07732) and HumanEval (arXiv 2107.03374), or your own.

`ProgramScorer` computes the same rewards for a whole batch, with programs tried in parallel.
"""

import functools

from dvaojax.rewards.programs.bubblewrap import SandboxError
from dvaojax.rewards.programs.extraction import extract_program
from dvaojax.rewards.programs.limits import DEFAULT_LIMITS, Limits
from dvaojax.rewards.programs.problems import Problem
from dvaojax.rewards.programs.settings import DEFAULT_SETTINGS, ProgramsConfig
from dvaojax.rewards.programs.trials import Trial, Untested, Verdict, make_trial, run_trials
from dvaojax.types import Completion


def one_passed(
    completion: Completion,
    reference: Problem,
    /,
    *,
    number: int,
    limits: Limits = DEFAULT_LIMITS,
    settings: ProgramsConfig = DEFAULT_SETTINGS,
) -> float | None:
    """1 if the completion's program passes one test of the problem, else 0.

    None if the problem has fewer tests, so that problems with different numbers of tests share one
    vector of rewards. A completion without a program passes no test.

    Args:
        completion: the answer, whose last block of Python is run.
        reference: the problem.
        number: of the test, from 1.
        limits: of the program and its tests.
        settings: where it runs.

    Raises:
        ValueError: the number is below 1.
        SandboxError: it cannot be run.
    """
    if number < 1:
        raise ValueError(f"number={number}: tests are counted from 1")
    if number > len(reference.tests):
        return None
    results = verdicts(completion.text, reference, limits=limits, settings=settings)
    return float(results[number - 1].passed)


def share_passed(
    completion: Completion,
    reference: Problem,
    /,
    *,
    limits: Limits = DEFAULT_LIMITS,
    settings: ProgramsConfig = DEFAULT_SETTINGS,
) -> float:
    """Fraction of the problem's tests that the completion's program passes.

    R_pass of GDPO (arXiv:2601.05242).

    Raises:
        SandboxError: the program cannot be run.
    """
    results = verdicts(completion.text, reference, limits=limits, settings=settings)
    return sum(result.passed for result in results) / len(results)


def all_passed(
    completion: Completion,
    reference: Problem,
    /,
    *,
    limits: Limits = DEFAULT_LIMITS,
    settings: ProgramsConfig = DEFAULT_SETTINGS,
) -> float:
    """1 if the completion's program passes every test of the problem, else 0.

    The criterion of pass@k for HumanEval (arXiv:2107.03374) and MBPP (arXiv:2108.07732).

    Raises:
        SandboxError: the program cannot be run.
    """
    results = verdicts(completion.text, reference, limits=limits, settings=settings)
    return float(all(result.passed for result in results))


def verdicts(
    text: str,
    problem: Problem,
    *,
    limits: Limits = DEFAULT_LIMITS,
    settings: ProgramsConfig = DEFAULT_SETTINGS,
) -> tuple[Verdict, ...]:
    """The result of every test; cached, since several rewards may need it.

    Args:
        text: a completion.
        problem: the problem that it answers.
        limits: of the program and its tests.
        settings: where it runs.

    Raises:
        SandboxError: the program cannot be run.
    """
    program = extract_program(text)
    if program is None:
        return (Verdict(False, "no program"),) * len(problem.tests)
    return _verdicts(make_trial(program, problem), limits, settings)


@functools.lru_cache(maxsize=1024)
def _verdicts(trial: Trial, limits: Limits, settings: ProgramsConfig) -> tuple[Verdict, ...]:
    (outcome,) = run_trials([trial], limits=limits, settings=settings)
    if isinstance(outcome, Untested):
        raise SandboxError(outcome.reason)
    return outcome
