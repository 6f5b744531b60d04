"""A sweep of two situations, three methods, two trade-offs and two seeds, with tiny runs."""

import dataclasses

from dvaojax.config import Config, EvaluationConfig
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models import ModelConfig
from dvaojax.sweep import Sweep
from dvaojax.tasks.characters import CharacterTokenizer
from dvaojax.types import Prompt


@dataclasses.dataclass(frozen=True)
class Signs:
    """A task whose objectives are the shares of digits and pluses, and brevity.

    Attributes:
        long: number of tokens with a brevity of 0.
    """

    long: int = 8

    name = "signs"
    tokenizer = CharacterTokenizer("012+=[]")
    max_prompt_length = 2

    @property
    def objectives(self):
        return {
            "digits": lambda completion, _: share_of(completion.text, "012"),
            "pluses": lambda completion, _: share_of(completion.text, "+"),
            "brevity": lambda completion, _: 1.0 - completion.length / self.long,
        }

    def prompts(self, split):
        first = 0 if split == "test" else 8
        return [Prompt(f"{i % 3}=", "", i) for i in range(first, first + 8)]

    def demonstration(self, prompt, generator):
        return prompt.text[0] * generator.randrange(1, 4)


def share_of(text, characters):
    return sum(c in characters for c in text) / max(len(text), 1)


BASE = Config(
    name="little",
    task=Signs(),
    weights={"digits": 1.0, "pluses": 1.0, "brevity": 1.0},
    num_steps=2,
    prompts_per_step=8,
    group_size=4,
    max_new_tokens=8,
    rollout_stages=1,
    model=ModelConfig(
        vocab_size=9,
        width=16,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_width=8,
        ff_width=16,
    ),
    learning=LearningConfig(),
    optimizer=OptimizerConfig(learning_rate=0.05),
    warm_start=WarmStartConfig(num_steps=2, batch_size=8),
    evaluation=EvaluationConfig(num_prompts=8, samples=2, prompts_per_batch=8),
)

SWEEP = Sweep(
    name="little",
    base=BASE,
    situations={"short": (), "long": ("task.long=16",)},
    methods={
        "dvao": ("aggregator=dvao",),
        "gdpo": ("aggregator=gdpo",),
        "annealed": ("aggregator=rvpo_annealed", "aggregator.options=num_steps=2"),
    },
    trade_offs={
        "even": (),
        "digits": ("weights.digits=0.8", "weights.pluses=0.1", "weights.brevity=0.1"),
    },
    seeds=(0, 1),
    against="dvao",
    only={"annealed": "long"},
    expected={"short": "nothing."},
)


def changed(**changes) -> Sweep:
    """The sweep with some fields replaced."""
    return dataclasses.replace(SWEEP, **changes)


def get_sweep() -> Sweep:
    return SWEEP
