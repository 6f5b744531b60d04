"""Writing programs, scored on each test apart and on all of them together.

MBPP to train on and HumanEval to evaluate. The tests of one problem are objectives of their own:
what a problem has fewer of is masked, so that problems of one test and of many share a batch. A bug
often fails all tests of a problem at once; K copies of one signal count K times where objectives
are normalised apart.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial

from dvaojax.data.records import Message, ProblemRecord
from dvaojax.rewards import programs
from dvaojax.tasks.prepared import PreparedTask, with_instruction
from dvaojax.types import RewardFunction

INSTRUCTION = "Answer with the whole program in one block of Python code."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Programs(PreparedTask):
    """MBPP and HumanEval; the fields not named here are `PreparedTask`'s.

    Attributes:
        tests: how many tests of a problem are objectives of their own, `test_1` and on; later ones
            count in `passed` alone, which asks for all of them.
        instruction: what is said after each problem; empty for nothing.
        limits: of each test: seconds, memory, processes and files.

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
        """`passed` for all tests, and `test_1` and on for each, 0 or 1."""
        apart = {
            f"test_{number}": partial(programs.one_passed, number=number, limits=self.limits)
            for number in range(1, self.tests + 1)
        }
        return {"passed": partial(programs.all_passed, limits=self.limits), **apart}

    def messages(self, record: ProblemRecord) -> Sequence[Message]:
        """The problem, the instruction after it."""
        return with_instruction(record.prompt, self.instruction)

    def reference(self, record: ProblemRecord) -> programs.Problem:
        """The tests, and what they need."""
        of = record.metadata
        if of["source"] == "humaneval":
            (check,) = record.answer
            prompt = record.prompt[-1]["content"]
            return programs.from_check(check, entry_point=of["entry_point"], prompt=prompt)
        return programs.from_assertions(
            record.answer, imports=of["test_imports"], reference=of["code"]
        )
