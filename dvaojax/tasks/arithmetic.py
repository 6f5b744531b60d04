"""Multi-digit addition written out column by column, scored on three objectives that pull apart.

A prompt is `347+586=`; a good completion works from the last column to the first and closes with
one answer block: `7+6=13;4+8+1=13;3+5+1=9;[933]`.

The demonstrations of the warm start are what makes the task a multi-reward one:

- **wrong**: at any column the written sum may slip, and the slip is carried into the answer;
- **too long**: some write the problem out again first, and these slip less often, so `accuracy`
  and `brevity` pull apart;
- **badly formatted**: some leave the block open, some talk on after it, and some put a second
  block after a wrong first one, which earns `accuracy` at the cost of `format` and `brevity`.

The right answer is the most likely one everywhere, so a policy can become right by becoming sure.
"""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from functools import cached_property, partial

from dvaojax.rewards.answer_block import canonical_answer, exact_answer, single_block_at_end
from dvaojax.rewards.length import within_budget
from dvaojax.tasks.characters import CharacterTokenizer
from dvaojax.types import Completion, Prompt, RewardFunction

OPENING, CLOSING = "[", "]"


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """The embedded task.

    Attributes:
        digits: digits of each operand, at least 2.
        budget: tokens a brief completion may have, the stop token included; 32 is what the longest
            sum of three digits needs.
        slip: how often a column of a short demonstration goes wrong.
        careful_slip: the same where the problem is written out again first.
        too_long: share of demonstrations that write the problem out again.
        misformatted: share of demonstrations with a faulty answer block.
        num_train: training problems.
        num_test: held-out problems; no training problem is among them.
        problem_seed: which problems these are.

    Raises:
        ValueError: a number is out of its range, or the problems are more than half of all sums.
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

    name = "arithmetic"
    answer_objective = "accuracy"
    tokenizer = CharacterTokenizer("0123456789+=;[]?")

    def __post_init__(self):
        if self.digits < 2:
            raise ValueError(f"task.digits={self.digits} must be at least 2")
        for name in ("slip", "careful_slip", "too_long", "misformatted"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"task.{name}={getattr(self, name)} must lie in [0, 1]")
        for name in ("budget", "num_train", "num_test"):
            if getattr(self, name) < 1:
                raise ValueError(f"task.{name}={getattr(self, name)} must be at least 1")
        sums = (9 * 10 ** (self.digits - 1)) ** 2
        if 2 * (self.num_train + self.num_test) > sums:
            raise ValueError(
                f"task.num_train={self.num_train} and task.num_test={self.num_test} must not "
                f"exceed half of the {sums} sums of {self.digits} digits"
            )

    @property
    def max_prompt_length(self) -> int:
        """Two numbers, `+` and `=`."""
        return 2 * self.digits + 2

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """`accuracy`, `brevity` and `format`, each 0 or 1."""
        return {
            "accuracy": partial(exact_answer, opening=OPENING, closing=CLOSING),
            "brevity": partial(within_budget, budget=self.budget),
            "format": partial(single_block_at_end, opening=OPENING, closing=CLOSING),
        }

    def prompts(self, split: str) -> Sequence[Prompt]:
        """The problems of "train" or "test".

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

    def answer(self, completion: Completion) -> str | None:
        """The sum in the last answer block, without leading zeros; None without a block."""
        return canonical_answer(completion, opening=OPENING, closing=CLOSING)

    def demonstration(self, prompt: Prompt, generator: random.Random) -> str:
        """One completion of the prompt, with the faults described above.

        Args:
            prompt: a problem of this task.
            generator: where the faults come from; its state advances.
        """
        is_long = generator.random() < self.too_long
        slip = self.careful_slip if is_long else self.slip
        work, answer = self._work(prompt.text, slip, generator)
        again = f"{prompt.text};" if is_long else ""
        return again + work + self._block(answer, prompt.reference, generator)

    def _work(self, problem: str, slip: float, generator: random.Random) -> tuple[str, str]:
        """The written columns, last digit first, and the answer they lead to."""
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
        """The answer block, faulty in one of three ways as often as `misformatted` says."""
        if generator.random() >= self.misformatted:
            return f"[{answer}]"
        return generator.choice([f"[{answer}", f"[{answer}]?", f"[{answer}]?[{right}]"])
