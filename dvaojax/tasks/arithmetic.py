"""Multi-digit addition written out column by column, scored on three conflicting objectives.

A prompt is `347+586=`; a good completion works from the last column to the first and ends with one
answer block: `7+6=13;4+8+1=13;3+5+1=9;[933]`.

The demonstrations of the supervised warm start make the objectives conflict:

- **wrong**: in every column the written sum may be wrong, and the error carries into the answer;
- **too long**: some repeat the problem first and then make fewer errors, so `accuracy` and
  `brevity` conflict;
- **badly formatted**: some do not close the block, some continue after it, and some write a second
  block after a wrong first one, which improves `accuracy` at the cost of `format` and `brevity`.

The correct answer is always the most likely one, so a policy becomes correct by becoming confident.
"""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from dvaojax.rewards.answer_block import canonical_answer, exact_answer, single_block_at_end
from dvaojax.rewards.length import within_budget
from dvaojax.tasks.characters import CharacterTokenizer
from dvaojax.types import Completion, Prompt, RewardFunction

OPENING, CLOSING = "[", "]"

RUN_DEFAULTS: Mapping[str, Any] = {
    "max_new_tokens": 48,
    "learning": {"micro_batches": 8},
    "optimizer": {"learning_rate": 1e-3, "schedule": "linear", "final_fraction": 0.1},
    "warm_start": {
        "num_steps": 300,
        "batch_size": 128,
        "micro_batches": 8,
        "learning_rate": 4e-3,
    },
}
"""Settings of runs on this task, with which it is learned within minutes on two cores.

The model is that of every task which recommends none.
"""


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """The built-in task.

    Attributes:
        digits: digits of each operand, at least 2.
        budget: tokens allowed for a brief completion, including the stop token; the longest sum of
            three digits needs 32.
        slip: probability of an error in a column of a short demonstration.
        careful_slip: the same if the problem is repeated first.
        too_long: fraction of demonstrations that repeat the problem.
        misformatted: fraction of demonstrations with an invalid answer block.
        num_train: number of training problems.
        num_test: number of held-out problems, disjoint from the training problems.
        problem_seed: seed of the selection of problems.
        hint_levels: number of hints of a training problem, for runs with `hints.objective`; hint n
            is the first n columns of the written sum, after the `=`.

    Raises:
        ValueError: a number is out of its range, or there are more problems than half of all sums.
    """

    digits: int = 3
    budget: int = 32
    slip: float = 0.2
    careful_slip: float = 0.1
    too_long: float = 0.4
    misformatted: float = 0.4
    num_train: int = 16384
    num_test: int = 512
    problem_seed: int = 0
    hint_levels: int = 0

    name = "arithmetic"
    answer_objective = "accuracy"
    tokenizer = CharacterTokenizer("0123456789+=;[]?")
    run_defaults = RUN_DEFAULTS

    def __post_init__(self):
        if self.digits < 2:
            raise ValueError(f"task.digits={self.digits} must be at least 2")
        for name in ("slip", "careful_slip", "too_long", "misformatted"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"task.{name}={getattr(self, name)} must lie in [0, 1]")
        for name in ("budget", "num_train", "num_test"):
            if getattr(self, name) < 1:
                raise ValueError(f"task.{name}={getattr(self, name)} must be at least 1")
        if not 0 <= self.hint_levels <= self.digits:
            raise ValueError(
                f"task.hint_levels={self.hint_levels} must lie between 0 and task.digits, the "
                f"columns of a sum, {self.digits}"
            )
        sums = (9 * 10 ** (self.digits - 1)) ** 2
        if 2 * (self.num_train + self.num_test) > sums:
            raise ValueError(
                f"task.num_train={self.num_train} and task.num_test={self.num_test} must not "
                f"exceed half of the {sums} sums of {self.digits} digits"
            )

    @property
    def max_prompt_length(self) -> int:
        """Length of two numbers, `+` and `=`, and of the longest hint."""
        return 2 * self.digits + 2 + len("9+9+1=19;") * self.hint_levels

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """`accuracy`, `brevity` and `format`, each 0 or 1."""
        return {
            "accuracy": partial(exact_answer, opening=OPENING, closing=CLOSING),
            "brevity": partial(within_budget, budget=self.budget),
            "format": partial(single_block_at_end, opening=OPENING, closing=CLOSING),
        }

    def prompts(self, split: str) -> Sequence[Prompt]:
        """The problems of the split "train" or "test".

        Raises:
            ValueError: there is no such split.
        """
        if split not in ("train", "test"):
            raise ValueError(f"split {split!r} is neither 'train' nor 'test'")
        is_test = split == "test"
        return self._problems[: self.num_test] if is_test else self._problems[self.num_test :]

    @cached_property
    def _problems(self) -> list[Prompt]:
        generator = random.Random(self.problem_seed)
        pairs: dict[tuple[int, int], None] = {}
        while len(pairs) < self.num_test + self.num_train:
            pairs[self._operand(generator), self._operand(generator)] = None
        return [Prompt(f"{a}+{b}=", str(a + b), index) for index, (a, b) in enumerate(pairs)]

    def _operand(self, generator: random.Random) -> int:
        return generator.randrange(10 ** (self.digits - 1), 10**self.digits)

    def hinted(self, prompt: Prompt, level: int) -> Prompt:
        """The problem followed by the first columns of the written sum, as many as the level."""
        work, _ = self._work(prompt.text, 0.0, random.Random(0))
        columns = work.split(";")[:level]
        return dataclasses.replace(prompt, text=prompt.text + "".join(f"{c};" for c in columns))

    def answer(self, completion: Completion) -> str | None:
        """The sum in the last answer block, without leading zeros; None if there is no block."""
        return canonical_answer(completion, opening=OPENING, closing=CLOSING)

    def demonstration(self, prompt: Prompt, generator: random.Random) -> str:
        """One sampled completion of the prompt, with the faults described above.

        Args:
            prompt: a problem of this task.
            generator: source of randomness; its state advances.
        """
        is_long = generator.random() < self.too_long
        slip = self.careful_slip if is_long else self.slip
        work, answer = self._work(prompt.text, slip, generator)
        repetition = f"{prompt.text};" if is_long else ""
        return repetition + work + self._block(answer, prompt.reference, generator)

    def _work(self, problem: str, slip: float, generator: random.Random) -> tuple[str, str]:
        """The written columns, last digit first, and the resulting answer."""
        first, second = (operand[::-1] for operand in problem.rstrip("=").split("+"))
        work, digits, carry = "", "", 0
        for terms in zip(first, second, strict=True):
            terms = [*terms, *["1"] * carry]
            total = sum(map(int, terms))
            if generator.random() < slip:
                total = generator.choice([t for t in range(20) if t != total])
            work += f"{'+'.join(terms)}={total};"
            digits, carry = digits + str(total % 10), total // 10
        return work, ("1" * carry + digits[::-1]).lstrip("0") or "0"

    def _block(self, answer: str, right: str, generator: random.Random) -> str:
        """The answer block, with one of three faults at the rate `misformatted`."""
        if generator.random() >= self.misformatted:
            return f"[{answer}]"
        return generator.choice([f"[{answer}", f"[{answer}]?", f"[{answer}]?[{right}]"])
