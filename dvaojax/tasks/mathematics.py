"""Problems with one final answer, scored on being right and on being brief.

The mathematics of DVAO (arXiv 2605.25604): `accuracy` is 1 where the boxed answer equals the gold
one, `length` is 1 where the completion has at most `budget` tokens, unconditionally. GDPO (arXiv
2601.05242) also pays `length` to right answers alone (`brevity`).
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
    """Problems with one final answer; the fields not named here are `PreparedTask`'s.

    Any prepared set whose answers are strings will do, one's own among them.

    Attributes:
        budget: tokens a brief completion may have, the stop token included.
        brevity: what `length` pays: "always" the budget alone, as DVAO; "if_right" the budget to
            right answers and 0 to wrong ones, as GDPO's conditioned reward.
        instruction: what is said after each problem; empty for nothing.

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
        """The problem, the instruction after it."""
        return with_instruction(record.prompt, self.instruction)

    def answer(self, completion: Completion) -> str | None:
        """The final answer, for a vote over several completions; None where there is none."""
        found = mathematics.final_answer(completion.text)
        return None if found is None else mathematics.canonical(found)
