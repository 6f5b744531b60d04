"""Writing programs, scored on single tests and on all tests together.

MBPP for training and HumanEval for evaluation. The tests of a problem are separate objectives.
Missing tests are masked, so that problems with different numbers of tests share a batch. A bug
often fails all tests of a problem at once; if objectives are normalised separately, K copies of one
signal count K times.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from dvaojax.data.records import Message, ProblemRecord
from dvaojax.rewards import programs
from dvaojax.tasks.prepared import PreparedTask, with_instruction
from dvaojax.types import RewardFunction

INSTRUCTION = "Answer with the whole program in one block of Python code."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Programs(PreparedTask):
    """MBPP and HumanEval; the fields not listed here are `PreparedTask`'s.

    Attributes:
        tests: number of tests that are separate objectives, `test_1` and so on; later ones only
            count in `passed`, which requires all of them.
        instruction: text added after each problem; empty for none.
        limits: time and memory limits of a program and its tests.

    Raises:
        ValueError: the number of tests is negative.
    """

    train: str = "mbpp"
    test: tuple[str, ...] = ("humaneval",)
    tests: int = 3
    instruction: str = INSTRUCTION
    limits: programs.Limits = programs.Limits()

    name = "programs"

    def __post_init__(self):
        super().__post_init__()
        if self.tests < 0:
            raise ValueError(f"task.tests={self.tests} must not be negative")

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """Empty, since programs are tested a batch at a time."""
        return {}

    @property
    def scored_objectives(self) -> tuple[str, ...]:
        """`passed` for all tests, and `test_1` and so on for each, 0 or 1."""
        return self.scorer().objectives

    def scorer(self) -> programs.ProgramScorer:
        """Tests the programs of a batch in parallel; a run executes them by `rewards.programs`."""
        return programs.ProgramScorer(programs.objectives_of_tests(self.tests), self.limits)

    def messages(self, record: ProblemRecord) -> Sequence[Message]:
        """The problem followed by the instruction."""
        return with_instruction(record.prompt, self.instruction)

    def reference(self, record: ProblemRecord) -> programs.Problem:
        """The tests and their context."""
        metadata = record.metadata
        if metadata["source"] == "humaneval":
            (check,) = record.answer
            prompt = record.prompt[-1]["content"]
            return programs.from_check(check, entry_point=metadata["entry_point"], prompt=prompt)
        return programs.from_assertions(
            record.answer, imports=metadata["test_imports"], reference=metadata["code"]
        )
