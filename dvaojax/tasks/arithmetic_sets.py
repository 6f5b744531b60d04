"""The embedded task with several answers in one completion, for vector policy optimisation.

A prompt is `47+86=`; a completion is several answers of `tasks.arithmetic`, such as
`7+6=13;4+8+1=13;[133]|47+86=;7+6=13;4+8+1=13;[133]`. Each is scored by itself: whether it is
right, and whether it is brief. What is not well formed earns nothing, as in the tasks of VPO
(arXiv 2605.22817). A set is good if some answer of it is right and brief; where the policy is not
sure, a brief one and a careful one serve more trade-offs than the same one twice.
"""

import dataclasses
import random
from collections.abc import Mapping
from functools import partial

from dvaojax.rewards.answer_block import canonical_answer, exact_answer, single_block_at_end
from dvaojax.rewards.answer_sets import for_each_answer, split_answers
from dvaojax.rewards.length import conditioned, within_budget
from dvaojax.tasks.arithmetic import CLOSING, OPENING, Arithmetic
from dvaojax.tasks.characters import CharacterTokenizer
from dvaojax.types import Completion, Prompt, RewardFunction

SEPARATOR = "|"


@dataclasses.dataclass(frozen=True)
class ArithmeticSets(Arithmetic):
    """Several answers a completion; the fields not named here are `Arithmetic`'s.

    Attributes:
        budget: tokens a brief answer may have; 21 is what the longest sum of two digits needs.
        num_answers: that are scored, and that a demonstration has.

    Raises:
        ValueError: a number is out of its range.
    """

    digits: int = 2
    budget: int = 21
    num_train: int = 2048
    num_answers: int = 3

    name = "arithmetic_sets"
    answer_objective = "accuracy/1"
    tokenizer = CharacterTokenizer(Arithmetic.tokenizer.alphabet + SEPARATOR)

    def __post_init__(self):
        super().__post_init__()
        if self.num_answers < 1:
            raise ValueError(f"task.num_answers={self.num_answers} must be at least 1")

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """`accuracy` and `brevity` of each answer, 0 where it is badly formatted."""
        well_formed = partial(single_block_at_end, opening=OPENING, closing=CLOSING)
        right = partial(exact_answer, opening=OPENING, closing=CLOSING)
        brief = partial(within_budget, budget=self.budget)
        return for_each_answer(
            {
                "accuracy": partial(conditioned, easy=right, hard=well_formed),
                "brevity": partial(conditioned, easy=brief, hard=well_formed),
            },
            num_answers=self.num_answers,
            separator=self._separator,
            decode=self.tokenizer.decode,
        )

    def answer(self, completion: Completion) -> str | None:
        """The sum in the first answer's last block; None without one."""
        first = split_answers(completion, separator=self._separator, decode=self.tokenizer.decode)[
            0
        ]
        return canonical_answer(first, opening=OPENING, closing=CLOSING)

    def demonstration(self, prompt: Prompt, generator: random.Random) -> str:
        """As many answers as are scored, each with faults of its own."""
        single = super().demonstration
        return SEPARATOR.join(single(prompt, generator) for _ in range(self.num_answers))

    @property
    def _separator(self) -> int:
        return self.tokenizer.encode(SEPARATOR)[0]
