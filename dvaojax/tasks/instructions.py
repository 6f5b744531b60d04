"""Following verifiable instructions, each a separate objective: IFEval.

A prompt has one to three instructions; if it has fewer than three, the other objectives do not
apply. IFEval is an evaluation set; to train, provide your own set with the same fields.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial

from dvaojax.data.records import ProblemRecord
from dvaojax.rewards import instructions
from dvaojax.tasks.prepared import PreparedTask
from dvaojax.types import RewardFunction

MAX_INSTRUCTIONS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Instructions(PreparedTask):
    """IFEval's prompts; the fields not listed here are `PreparedTask`'s.

    The objectives are `followed`, 1 if all instructions are followed, and `instruction_1` to
    `instruction_3`. All are checked strictly, on the text after the thought.
    """

    train: str = ""
    test: tuple[str, ...] = ("ifeval",)

    name = "instructions"

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """`followed` for all instructions, and `instruction_1` and so on for each."""
        rule = instructions.strictly
        single = {
            f"instruction_{number}": partial(instructions.followed, number=number - 1, rule=rule)
            for number in range(1, MAX_INSTRUCTIONS + 1)
        }
        return {"followed": partial(instructions.all_followed, rule=rule), **single}

    def reference(self, record: ProblemRecord) -> tuple[instructions.Instruction, ...]:
        """The prompt's instructions with their arguments."""
        kinds, arguments = record.metadata["instruction_id_list"], record.metadata["kwargs"]
        return instructions.instructions(kinds, arguments)
