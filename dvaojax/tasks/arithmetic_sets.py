"""The built-in task with several answers per completion, for vector policy optimisation.

A prompt is `47+86=`; a completion consists of several answers of `tasks.arithmetic`, such as
`7+6=13;4+8+1=13;[133]|47+86=;7+6=13;4+8+1=13;[133]`. Each answer is scored separately for being
correct and for being brief; badly formatted answers get 0, as in the tasks of VPO
(arXiv 2605.22817). A set is good if one of its answers is correct and brief. If the policy is
uncertain, a brief and a careful answer cover more trade-offs than the same answer twice.
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
    """Several answers per completion; the fields not listed here are `Arithmetic`'s.

    Attributes:
        budget: tokens allowed for a brief answer; the longest sum of two digits needs 21.
        num_answers: number of answers that are scored, and that a demonstration has.

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
        """`accuracy` and `brevity` of each answer; 0 if it is badly formatted."""
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
        """The sum in the first answer's last block; None if there is no block."""
        answers = split_answers(completion, separator=self._separator, decode=self.tokenizer.decode)
        return canonical_answer(answers[0], opening=OPENING, closing=CLOSING)

    def demonstration(self, prompt: Prompt, generator: random.Random) -> str:
        """As many answers as are scored, each with its own faults."""
        single = super().demonstration
        return SEPARATOR.join(single(prompt, generator) for _ in range(self.num_answers))

    @property
    def _separator(self) -> int:
        return self.tokenizer.encode(SEPARATOR)[0]
