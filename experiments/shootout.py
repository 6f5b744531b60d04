"""Eleven aggregators on the built-in task and five harder variants of it.

Claim under test: none of this file; it tests the papers' claims, which were written into `EXPECTED`
before there were any results.

    dvaojax sweep experiments/shootout.py --processes 2     # two cores; resumes after a kill
    dvaojax sweep experiments/shootout.py --report          # the results so far
    dvaojax sweep experiments/shootout.py --smoke           # every code path
    dvaojax train experiments/shootout.py --set aggregator=gdpo task.noise=1 seed=3    # one cell

Methods x accuracy weights 0.1 to 0.9 x seeds, in six situations. On a CPU the task is reduced: sums
of two digits without carries, a narrow decoder, less than a second per run. On an accelerator the
same command runs the full built-in task. All methods of a situation and seed share the warm start,
the order of the problems, the random keys, the learning rate and all other settings.

Shared settings are not neutral. The mean square of the advantages differs between the methods: 1
per group for reward combination, less for DVAO and advantage combination if objectives disagree or
are constant. Adam removes a factor that is constant over the run, and the norm clip a large one;
the remaining difference is the relative weight of the groups of a batch, and of early and late
steps. `grpo` and `reward_combination` differ only by such a factor, so that the difference between
them is chance.

Needs: two CPU cores, half an hour at most.
Result: `experiments/results/shootout/`.
"""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from functools import partial

import jax
import numpy as np

from dvaojax.config import Config, EvaluationConfig
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.rewards import RewardSuite
from dvaojax.rewards.answer_block import exact_answer
from dvaojax.sweep import Sweep
from dvaojax.tasks.arithmetic import CLOSING, OPENING, Arithmetic
from dvaojax.types import Completion, Prompt, RewardFunction, Scorer, Scores

NOISE = 1.0  # standard deviation, twice the maximum of a reward of 0 or 1


@dataclasses.dataclass(frozen=True)
class Strained(Arithmetic):
    """The built-in task with optional difficulties that the papers discuss.

    The held-out problems are scored without noise and in the units of the built-in task, so that
    the evaluation measures the true objectives.

    Attributes:
        largest_digit: of the operands; up to 4, there are no carries.
        noise: standard deviation of normal noise in the reward `format`, in training.
        scale: factor of the reward `brevity`, in training.
        written_out_from: a sum of at least this counts as right only if the problem was repeated
            first, which takes more tokens than the budget: accuracy and brevity exclude each other.
    """

    largest_digit: int = 9
    noise: float = 0.0
    scale: float = 1.0
    written_out_from: float = float("inf")

    name = "strained"
    scored_objectives = ("accuracy", "brevity", "format")

    @property
    def objectives(self) -> Mapping[str, RewardFunction]:
        """Empty, because `scorer` computes all three objectives."""
        return {}

    def _operand(self, generator: random.Random) -> int:
        while max(str(operand := super()._operand(generator))) > str(self.largest_digit):
            pass
        return operand

    def scorer(self) -> Scorer:
        objectives = dict(super().objectives)
        objectives["accuracy"] = partial(written_out_answer, least=self.written_out_from)
        return Strain(self, RewardSuite(objectives))


@dataclasses.dataclass(frozen=True)
class Strain:
    """The task's rewards, with noise and scale on training problems.

    Attributes:
        task: has the noise and the scale.
        suite: computes the unchanged rewards.
    """

    task: Strained
    suite: RewardSuite

    @property
    def objectives(self) -> tuple[str, ...]:
        return self.suite.objectives

    def score(
        self, completions: Sequence[Sequence[Completion]], prompts: Sequence[Prompt], /
    ) -> Scores:
        """The noise depends only on the problem and the position in its group."""
        scores = self.suite.score(completions, prompts)
        rewards = scores.rewards.copy()
        for group, prompt in zip(rewards, prompts, strict=True):
            if prompt.index >= self.task.num_test:
                drawn = np.random.default_rng(prompt.index).standard_normal(len(group))
                group[:, self.objectives.index("brevity")] *= self.task.scale
                group[:, self.objectives.index("format")] += self.task.noise * drawn
        return scores._replace(rewards=rewards)


def written_out_answer(completion: Completion, reference: str, /, *, least: float) -> float:
    """1 if the answer is right and, for large sums, the problem was repeated first.

    Args:
        completion: the answer.
        reference: the sum.
        least: smallest large sum.
    """
    begins_with_problem = completion.text.partition(";")[0].endswith("=")
    if int(reference) >= least and not begins_with_problem:
        return 0.0
    return exact_answer(completion, reference, opening=OPENING, closing=CLOSING)


REDUCED = Strained(digits=2, largest_digit=4, budget=17, num_train=288, num_test=96)

SITUATIONS = {
    "plain": (),
    "noisy": (f"task.noise={NOISE}",),
    "conflict": ("task.written_out_from=55",),
    "scaled": ("task.scale=10",),
    "rare": ("task.misformatted=0.95",),
    "saturated": ("task.budget=27",),
}

EXPECTED = {
    "plain": "no method is far from the others, for every objective can be earned in full; `grpo` "
    "is `reward_combination` but for a factor, so that they differ by chance alone.",
    "noisy": "noise on `format` is spread, and spread buys weight "  # language: quoted
    "wherever rewards are summed in their own units (`reward_combination`, `dr_grpo`, `dvao`, "
    "`dvao_shrunk`), so that these learn "
    "`accuracy` and `brevity` worse than the methods of z-scores (`advantage_combination`, "
    "`gdpo`, `rvpo`), where noise counts as much as any objective; DVAO's paper names this its "
    "weakness, and `dvao_denoised`, which is told the variance, should mend it.",
    "conflict": "on nearly half of the problems accuracy and brevity exclude each other; DVAO, "
    "which follows such groups less far, learns from the others and should cover more than "
    "`reward_combination`, which divides by what is left of a sum that cancels.",
    "scaled": "`brevity` pays ten times as much: z-scores do not notice; sums in their own units "
    "teach brevity first, and DVAO, whose paper scales all rewards to [0, 1], as well.",
    "rare": "one completion in twenty is well formatted at the start: z-scores make much of the "
    "one that is, so that `advantage_combination`, `gdpo` and most of all `dara_symmetric`, made "
    "for sparse rewards, learn `format` sooner than sums, where its small spread counts little.",
    "saturated": "a larger budget, which nearly all keep from the start: z-scores make much of the "
    "one that does not and spend steps on it; DVAO and the sums pass on to the others.",
}

METHODS = {
    name: (f"aggregator={name}",)
    for name in (
        "reward_combination",
        "dr_grpo",
        "advantage_combination",
        "gdpo",
        "dvao",
        "dvao_shrunk",
        "rvpo",
        "augmented_tchebycheff",
        "grpo",
        "dara_symmetric",
    )
} | {
    "dvao_denoised": (
        "aggregator=dvao_denoised",
        f"aggregator.options=noise.format={NOISE**2}",
    )
}

# Methods that are redundant in the other situations: `grpo` shows the effect of chance alone,
# without noise `dvao_denoised` is `dvao`, and without a rare reward `dara_symmetric` nearly `gdpo`.
ONLY = {"grpo": "plain", "dvao_denoised": "noisy", "dara_symmetric": "rare"}


def weights(accuracy: float) -> tuple[str, ...]:
    """Settings of a trade-off; the other objectives share the remaining weight."""
    other = round((1.0 - accuracy) / 2, 2)
    return (
        f"weights.accuracy={accuracy}",
        f"weights.brevity={other}",
        f"weights.format={other}",
    )


def get_sweep() -> Sweep:
    """The sweep: with the reduced task on a CPU, the full built-in task on an accelerator."""
    base = reduced() if jax.default_backend() == "cpu" else full()
    return Sweep(
        name="shootout",
        base=base,
        situations=SITUATIONS,
        methods=METHODS,
        trade_offs={str(accuracy): weights(accuracy) for accuracy in (0.1, 0.3, 0.5, 0.7, 0.9)},
        seeds=range(5),
        against="dvao",
        only=ONLY,
        expected=EXPECTED,
    )


def get_config() -> Config:
    """One cell of the sweep, in the plain situation and with equal weights."""
    return get_sweep().base


def get_smoke_config() -> Config:
    """A miniature for tests: two steps that run every code path."""
    return get_smoke_sweep().base


def full() -> Config:
    """The full built-in task: the defaults of `Config`."""
    evaluation = EvaluationConfig(num_prompts=512, samples=2)
    return Config(name="shootout", task=Strained(), evaluation=evaluation)


def reduced() -> Config:
    """Two digits without carries, a narrow decoder, few steps; 55 is a sum of middle size."""
    config = full()
    model = dataclasses.replace(
        config.model,
        width=32,
        num_heads=2,
        num_kv_heads=2,
        head_width=16,
        ff_width=96,
    )
    return dataclasses.replace(
        config,
        task=REDUCED,
        num_steps=30,
        prompts_per_step=8,
        max_new_tokens=34,
        rollout_stages=1,
        model=model,
        learning=LearningConfig(),
        optimizer=OptimizerConfig(learning_rate=5e-4, schedule="linear", final_fraction=0.1),
        warm_start=WarmStartConfig(num_steps=400, batch_size=64, learning_rate=6e-3),
        evaluation=EvaluationConfig(num_prompts=96, samples=4, prompts_per_batch=96),
    )


def get_smoke_sweep() -> Sweep:
    """A miniature for tests: two situations, methods, trade-offs, seeds and steps."""
    sweep, config = get_sweep(), reduced()
    model = dataclasses.replace(
        config.model, width=16, num_layers=1, num_heads=1, num_kv_heads=1, head_width=8, ff_width=16
    )
    return dataclasses.replace(
        sweep,
        name="shootout-smoke",
        base=dataclasses.replace(
            config,
            task=dataclasses.replace(REDUCED, num_train=64, num_test=8),
            num_steps=2,
            prompts_per_step=8,
            group_size=2,
            model=model,
            warm_start=WarmStartConfig(num_steps=2, batch_size=8),
            evaluation=EvaluationConfig(num_prompts=8),
        ),
        situations={name: SITUATIONS[name] for name in ("noisy", "conflict")},
        methods={name: METHODS[name] for name in ("dvao", "gdpo", "dvao_denoised")},
        trade_offs={label: weights(float(label)) for label in ("0.3", "0.7")},
        seeds=(0, 1),
        only={"dvao_denoised": "noisy"},
        expected={name: EXPECTED[name] for name in ("noisy", "conflict")},
    )
