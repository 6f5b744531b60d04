"""Problems with one final answer, scored on correctness and brevity.

The mathematics task of DVAO (arXiv 2605.25604): `accuracy` is 1 if the boxed answer equals the gold
answer, `length` is 1 if the completion has at most `budget` tokens, unconditionally. GDPO (arXiv
2601.05242) has a version in which `length` requires a correct answer (`brevity`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

from dvaojax.data.records import Message, ProblemRecord
from dvaojax.rewards import mathematics
from dvaojax.rewards.length import conditioned, within_budget
from dvaojax.tasks.prepared import PreparedTask, with_instruction
from dvaojax.types import Completion, RewardFunction

INSTRUCTION = "Reason step by step, and put your final answer within \\boxed{}."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mathematics(PreparedTask):
    """Problems with one final answer; the fields not listed here are `PreparedTask`'s.

    Works with any prepared set whose answers are strings, including your own.

    Attributes:
        budget: tokens allowed for a brief completion, including the stop token.
        brevity: definition of `length`: "always" checks only the budget, as in DVAO; "if_right"
            gives 0 to wrong answers, as in GDPO's conditioned reward.
        instruction: text added after each problem; empty for none.

    Raises:
        ValueError: the budget is below 1.
    """

    train: str = "dapo_math_17k"
    test: tuple[str, ...] = ("math500",)
    budget: int = 4000
    brevity: Literal["always", "if_right"] = "always"
    instruction: str = INSTRUCTION

    name = "mathematics"
    answer_objective = "accuracy"

    def __post_init__(self):
        super().__post_init__()
        if self.budget < 1:
            raise ValueError(f"task.budget={self.budget} must be at least 1")

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """`accuracy` and `length`, each 0 or 1."""
        brief = partial(within_budget, budget=self.budget)
        length = {
            "always": brief,
            "if_right": partial(conditioned, easy=brief, hard=mathematics.accuracy),
        }
        return {"accuracy": mathematics.accuracy, "length": length[self.brevity]}

    def messages(self, record: ProblemRecord) -> Sequence[Message]:
        """The problem followed by the instruction."""
        return with_instruction(record.prompt, self.instruction)

    def answer(self, completion: Completion) -> str | None:
        """The final answer, for a vote over several completions; None if there is none."""
        answer = mathematics.final_answer(completion.text)
        return None if answer is None else mathematics.canonical(answer)
