"""Scores a batch of completions that contain programs."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from dvaojax.rewards.calls import RewardError, most_frequent
from dvaojax.rewards.programs.extraction import extract_program
from dvaojax.rewards.programs.limits import DEFAULT_LIMITS, Limits
from dvaojax.rewards.programs.settings import DEFAULT_SETTINGS, ProgramsConfig
from dvaojax.rewards.programs.trials import (
    Outcome,
    Untested,
    Verdict,
    make_trial,
    require,
    run_trials,
)
from dvaojax.types import Completion, Prompt, Scores

ProgramObjective = Callable[[Sequence[bool]], float | None]
"""Reward of a program from the results of its tests; None if the objective does not apply."""


def _all(passed: Sequence[bool]) -> float:
    return float(all(passed))


def _one(passed: Sequence[bool], *, number: int) -> float | None:
    return float(passed[number - 1]) if number <= len(passed) else None


def objectives_of_tests(tests: int) -> Mapping[str, ProgramObjective]:
    """`passed` for all tests of a problem, and `test_1` and so on for each of the first ones.

    Args:
        tests: number of tests that are separate objectives.
    """
    single = {f"test_{n}": partial(_one, number=n) for n in range(1, tests + 1)}
    return {"passed": _all, **single}


@dataclasses.dataclass(frozen=True)
class ProgramScorer:
    """Scores the programs in completions by tests; each prompt's reference is a `Problem`.

    Programs are tried in parallel. A completion without a program passes no test. If a program
    could not be tested, for example because its server failed or the time of the step was over, its
    rewards are masked and counted as failures.

    Attributes:
        tested: objectives by name, in the order of the columns.
        limits: of a program and its tests.
        settings: where programs run. In a run they are those of `rewards.programs`.

    Raises:
        ValueError: there is no objective.
    """

    tested: Mapping[str, ProgramObjective]
    limits: Limits = DEFAULT_LIMITS
    settings: ProgramsConfig = DEFAULT_SETTINGS

    def __post_init__(self):
        if not self.tested:
            raise ValueError("a scorer of programs needs at least one objective")

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the objectives in the order of the columns."""
        return tuple(self.tested)

    def with_settings(self, settings: ProgramsConfig) -> "ProgramScorer":
        """This scorer with other settings, after a trivial program has been run with them.

        Raises:
            SandboxError: programs cannot be run; the line names the reason and the remedy.
        """
        require(settings)
        return dataclasses.replace(self, settings=settings)

    def score(
        self, completions: Sequence[Sequence[Completion]], prompts: Sequence[Prompt], /
    ) -> Scores:
        """Scores every completion on every objective.

        Raises:
            SandboxError: programs cannot be run on this machine.
            RewardError: no program of the batch could be tested.
        """
        start = time.monotonic()
        trials = {
            (b, g): make_trial(program, prompts[b].reference)
            for b, group in enumerate(completions)
            for g, completion in enumerate(group)
            if (program := extract_program(completion.text)) is not None
        }
        outcomes = run_trials(list(trials.values()), limits=self.limits, settings=self.settings)
        reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Untested)]
        messages = []
        if reasons:
            shown = most_frequent(reasons)
            if len(reasons) == len(outcomes):
                raise RewardError(f"none of {len(reasons)} programs was tested: {shown}")
            line = f"programs: {len(reasons)} of {len(outcomes)} were not tested: {shown}"
            messages.append(line)
        measures = {
            "programs/tried": len(outcomes),
            "programs/untested": len(reasons),
            "programs/seconds": time.monotonic() - start,
        }
        by_position = dict(zip(trials, outcomes, strict=True))
        scores = self._rewards(by_position, prompts, group_size=len(completions[0]))
        return scores._replace(messages=messages, measures=measures)

    def _rewards(
        self,
        outcomes: Mapping[tuple[int, int], Outcome],
        prompts: Sequence[Prompt],
        *,
        group_size: int,
    ) -> Scores:
        """The rewards of all completions; those at positions without an outcome pass no test."""
        shape = (len(prompts), group_size, len(self.tested))
        rewards, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
        failures = dict.fromkeys(self.tested, 0)
        for b, g in np.ndindex(shape[:2]):
            failed = (Verdict(False),) * len(prompts[b].reference.tests)
            outcome = outcomes.get((b, g), failed)
            is_tested = not isinstance(outcome, Untested)
            passed = [verdict.passed for verdict in outcome] if is_tested else [False] * len(failed)
            for k, (name, objective) in enumerate(self.tested.items()):
                reward = objective(passed)
                if reward is None:
                    continue
                failures[name] += not is_tested
                if is_tested:
                    rewards[b, g, k], mask[b, g, k] = reward, True
        return Scores(rewards, mask, failures, [])
