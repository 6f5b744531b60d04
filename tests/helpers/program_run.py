"""A run on problems that are answered with programs, as a user would add one."""

import dataclasses
from typing import ClassVar

import digits_run

from dvaojax.config import Config
from dvaojax.rewards.programs import ProgramScorer, from_assertions, objectives_of_tests
from dvaojax.tasks.characters import CharacterTokenizer
from dvaojax.types import Prompt


@dataclasses.dataclass(frozen=True)
class Doubling:
    """Write a function that doubles a number."""

    name = "doubling"
    tokenizer = CharacterTokenizer("0123456789+=[]")
    max_prompt_length = 4
    objectives: ClassVar = {}
    scored_objectives = ("passed", "test_1")

    def scorer(self):
        return ProgramScorer(objectives_of_tests(1))

    def prompts(self, split):
        problem = from_assertions(["assert f(1) == 2"])
        return [Prompt(str(n), problem, n) for n in (range(5) if split == "train" else range(5, 9))]

    def demonstration(self, prompt, generator):
        return "1"


def get_config() -> Config:
    weights = dict.fromkeys(Doubling.scored_objectives, 1.0)
    return dataclasses.replace(digits_run.CONFIG, name="doubling", task=Doubling(), weights=weights)
