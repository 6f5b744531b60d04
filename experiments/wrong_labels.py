"""GradAlign on sums of which a third have wrong labels: how many of those does it train on?

Claim under test (GradAlign, arXiv 2602.21492): problems whose policy gradients agree with those of
a few trusted problems are more often rightly labelled than others, so that training on them is
better than training on all. The rates of success and the norms of the gradients, which need no
trusted problems, should not tell right labels from wrong ones here.

    dvaojax sweep experiments/wrong_labels.py       # four minutes of one core
    dvaojax sweep experiments/wrong_labels.py --report
    dvaojax train experiments/wrong_labels.py       # one run; `reward/right_label` in its rows

Task: sums of two numbers with tens from 1 to 4 and ones from 5 to 9, so that there always is a
carry, written out as in the built-in task. The policy is warmed up on demonstrations that forget
the carry half of the time. A third of the training problems, drawn at random, have the sum without
the carry as their label, which the policy gives as often as the right one: no wrong label is out of
reach, and at first none differs by its rate of success. Held-out and trusted problems have right
labels. `right_label` is an objective of weight 0: it is 1 where the label of a training problem is
right, so that its mean over the training completions is the share of right labels among the
problems trained on.

Sweep: every method from the same warm starts, with the same order of problems. `all` trains on the
problems as they come; the others are modes of `allocation.name=gradalign` that choose 16 of 64
problems every 10 steps, with 16 trusted problems.

Needs: a CPU core for four minutes.
Result: `experiments/results/wrong_labels/`, with a table in `experiments/README.md`.
"""

import dataclasses
import random
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from dvaojax.allocation import AllocationConfig, SelectionConfig
from dvaojax.config import AggregatorConfig, Config, EvaluationConfig
from dvaojax.evaluation.intervals import Interval, bootstrap_mean
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models import ModelConfig
from dvaojax.rewards.answer_block import exact_answer
from dvaojax.sweep import Sweep
from dvaojax.sweep.grid import CellKey
from dvaojax.tasks.arithmetic import CLOSING, OPENING, Arithmetic
from dvaojax.types import Completion, Prompt, RewardFunction

WRONG = " wrong"  # end of the reference of a wrongly labelled problem

METHODS = {
    "all": ("allocation.name=uniform",),
    **{
        mode: ("allocation.name=gradalign", f"allocation.options=mode={mode}")
        for mode in ("sim", "simacc", "dot", "align", "norm", "accgreedy", "rand")
    },
}


def accuracy(completion: Completion, reference: str, /) -> float:
    """1 if the answer equals the label, right or wrong."""
    label = reference.removesuffix(WRONG)
    return exact_answer(completion, label, opening=OPENING, closing=CLOSING)


def right_label(completion: Completion, reference: str, /) -> float:
    """1 if the label of the problem is right, for any completion."""
    del completion
    return float(not reference.endswith(WRONG))


@dataclasses.dataclass(frozen=True)
class WrongLabels(Arithmetic):
    """Sums with a carry, some of them labelled without it.

    Attributes:
        wrong: share of the training problems with a wrong label.
    """

    digits: int = 2
    slip: float = 0.5
    too_long: float = 0.0
    misformatted: float = 0.0
    num_train: int = 256
    num_test: int = 112
    wrong: float = 1 / 3

    name = "wrong_labels"

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        return {"accuracy": accuracy, "right_label": right_label}

    @cached_property
    def _problems(self) -> list[Prompt]:
        generator, count = random.Random(self.problem_seed), self.num_test + self.num_train
        pairs: dict[tuple[int, int], None] = {}
        while len(pairs) < count:
            pairs[self._operand(generator), self._operand(generator)] = None
        wrong = set(
            generator.sample(range(self.num_test, count), round(self.wrong * self.num_train))
        )
        return [
            Prompt(f"{a}+{b}=", f"{a + b - 10}{WRONG}" if i in wrong else str(a + b), i)
            for i, (a, b) in enumerate(pairs)
        ]

    def _operand(self, generator: random.Random) -> int:
        return 10 * generator.randrange(1, 5) + generator.randrange(5, 10)

    def _work(self, problem: str, slip: float, generator: random.Random) -> tuple[str, str]:
        """The written columns, the carry forgotten at the rate `slip`, and the answer."""
        first, second = problem.rstrip("=").split("+")
        ones, tens = int(first[1]) + int(second[1]), int(first[0]) + int(second[0])
        is_carried = generator.random() >= slip
        carry, tens = "+1" * is_carried, tens + is_carried
        work = f"{first[1]}+{second[1]}={ones};{first[0]}+{second[0]}{carry}={tens};"
        return work, f"{tens}{ones % 10}"


def get_config() -> Config:
    """A run that chooses its problems by trusted ones."""
    task = WrongLabels()
    model: dict[str, Any] = {
        "width": 32,
        "num_layers": 2,
        "num_heads": 2,
        "num_kv_heads": 2,
        "head_width": 16,
        "ff_width": 96,
        "rope_theta": 10_000.0,
    }
    return Config(
        name="wrong-labels",
        task=task,
        weights={"accuracy": 1.0, "right_label": 0.0},
        aggregator=AggregatorConfig("grpo"),
        num_steps=40,
        prompts_per_step=8,
        group_size=8,
        allocation=AllocationConfig(
            "gradalign",
            memory=0.0,
            selection=SelectionConfig(
                candidates=64, chosen=16, every=10, trusted=16, dimension=1024, groups_at_once=8
            ),
        ),
        max_new_tokens=24,
        rollout_stages=1,
        model=ModelConfig(vocab_size=task.tokenizer.vocab_size, **model),
        learning=LearningConfig(),
        optimizer=OptimizerConfig(learning_rate=5e-4, schedule="linear", final_fraction=0.1),
        warm_start=WarmStartConfig(num_steps=400, batch_size=64, learning_rate=6e-3),
        evaluation=EvaluationConfig(num_prompts=96, samples=4, prompts_per_batch=96),
    )


def get_sweep() -> Sweep:
    """Every mode from the same warm starts, with ten seeds."""
    return Sweep(
        name="wrong-labels",
        base=get_config(),
        situations={"third_wrong": ()},
        methods=METHODS,
        trade_offs={"accuracy": ()},
        seeds=range(6),
        against="all",
        expected={
            "third_wrong": "the modes of gradients (`sim`, `simacc`, `dot`, and `align`, as most "
            "labels are right) train on fewer wrong labels than a third and end more accurate; "
            "`norm`, `accgreedy` and `rand` train on a third, as `all` does."
        },
    )


def get_smoke_sweep() -> Sweep:
    """A miniature for tests: two methods, seeds and steps."""
    sweep = get_sweep()
    return dataclasses.replace(
        sweep,
        name="wrong-labels-smoke",
        base=get_smoke_config(),
        methods={name: METHODS[name] for name in ("all", "sim")},
        seeds=(0, 1),
    )


def get_smoke_config() -> Config:
    """A miniature for tests: two steps that run every code path."""
    config = get_config()
    selection = dataclasses.replace(config.allocation.selection, candidates=16, chosen=8, every=1)
    model = dataclasses.replace(
        config.model, width=16, num_layers=1, num_heads=1, num_kv_heads=1, head_width=8, ff_width=16
    )
    return dataclasses.replace(
        config,
        num_steps=2,
        group_size=2,
        model=model,
        allocation=dataclasses.replace(config.allocation, selection=selection),
        warm_start=WarmStartConfig(num_steps=2, batch_size=8),
        evaluation=EvaluationConfig(num_prompts=8),
    )


def results(rows: Mapping[CellKey, Mapping[str, Any]]) -> dict[str, tuple[Interval, Interval]]:
    """Method -> share of wrong labels trained on, and accuracy at the end, over the seeds.

    Args:
        rows: of a finished sweep.
    """

    def over_seeds(method: str, when: str, objective: str) -> np.ndarray:
        values = [row[when][objective] for key, row in rows.items() if key.method == method]
        return np.array(values)

    return {
        method: (
            bootstrap_mean(1 - over_seeds(method, "during", "right_label")),
            bootstrap_mean(over_seeds(method, "after", "accuracy")),
        )
        for method in METHODS
    }


def table(measured: Mapping[str, tuple[Interval, Interval]]) -> str:
    """The table of the README, in percent with 95 % intervals over the seeds."""
    lines = ["| problems | wrong labels trained on | held-out accuracy |", "|---|---|---|"]
    for method, intervals in measured.items():
        cells = [f"{100 * i.mean:.1f} [{100 * i.low:.1f}, {100 * i.high:.1f}]" for i in intervals]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return "\n".join(lines)
