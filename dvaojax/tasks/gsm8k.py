"""Grade-school problems with integer answers, scored on three objectives.

The objectives of GDPO's demonstration (NVlabs/GDPO b080e63d): the answer is correct, it is an
integer, and it is in its tags after the thoughts.

Not to be confused with: `mathematics` on the set `gsm8k`, where the answer is in a box.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

from dvaojax.data.records import Message, ProblemRecord
from dvaojax.rewards.mathematics import gsm8k
from dvaojax.tasks.prepared import PreparedTask
from dvaojax.types import RewardFunction

INSTRUCTION = """\
Solve the problem step by step, and give the result as an integer. Write your reasoning between \
<think> and </think>, then on the next line nothing but the result between <answer> and </answer>:
<think>your reasoning</think>
<answer>the integer</answer>"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GSM8K(PreparedTask):
    """GSM8K with GDPO's three objectives; the fields not listed here are `PreparedTask`'s.

    Attributes:
        paid: "recommended", or "reference" for GDPO's own code, which compares character by
            character, so that a gold answer such as 1,080 can never be both right and an integer.
    """

    train: str = "gsm8k"
    test: tuple[str, ...] = ("gsm8k",)
    max_prompt_length: int = 512
    paid: Literal["recommended", "reference"] = "recommended"

    name = "gsm8k"

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """`correctness`, `integer` and `format`, in the version given by `paid`."""
        if self.paid == "reference":
            return {
                "correctness": gsm8k.tagged_correct_gdpo,
                "integer": gsm8k.tagged_integer_gdpo,
                "format": partial(gsm8k.tagged_format_gdpo, opened=self.opened),
            }
        return {
            "correctness": gsm8k.tagged_correct,
            "integer": gsm8k.tagged_integer,
            "format": partial(gsm8k.tagged_format, opened=self.opened),
        }

    def messages(self, record: ProblemRecord) -> Sequence[Message]:
        """The instruction as system message, then the problem."""
        return ({"role": "system", "content": INSTRUCTION}, *record.prompt)
