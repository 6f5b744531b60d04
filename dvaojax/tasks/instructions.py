"""Following instructions that a program can check, each an objective of its own: IFEval.

A prompt has one to three instructions; where it has fewer than three, the others do not apply.
IFEval is an evaluation, and a set to train on is a person's own, with the same fields.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial

from dvaojax.data.records import ProblemRecord
from dvaojax.rewards import instructions
from dvaojax.tasks.prepared import PreparedTask
from dvaojax.types import RewardFunction

MOST = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instructions(PreparedTask):
    """IFEval's prompts; the fields not named here are `PreparedTask`'s.

    The objectives are `followed`, 1 where all instructions are, and `instruction_1` to
    `instruction_3`; all are read strictly, and the answer is what follows the thought.
    """

    train: str = ""
    test: tuple[str, ...] = ("ifeval",)

    name = "instructions"

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """`followed` for all instructions, and `instruction_1` and on for each."""
        rule = instructions.strictly
        apart = {
            f"instruction_{number}": partial(instructions.followed, number=number - 1, rule=rule)
            for number in range(1, MOST + 1)
        }
        return {"followed": partial(instructions.all_followed, rule=rule), **apart}

    def reference(self, record: ProblemRecord) -> tuple[instructions.Instruction, ...]:
        """The prompt's instructions with their arguments."""
        of = record.metadata
        return instructions.instructions(of["instruction_id_list"], of["kwargs"])
