r"""VPO on the built-in task with three answers per completion, rewarded for the best of the set.

Claim under test (arXiv 2605.22817, in miniature): trained on the value of the set under random
trade-offs for every group, a policy writes sets whose best answer is right and brief more often,
and whose answers stay diverse; training on the mean of the answers' rewards makes them equal.

    dvaojax train experiments/vpo_arithmetic.py                              # VPO
    dvaojax train experiments/vpo_arithmetic.py --name mean \
        --set aggregator=grpo aggregator.options=                            # the mean instead
    dvaojax evaluate runs/vpo-arithmetic --samples 10 --pass-at 1            # best@30
    dvaojax train experiments/vpo_arithmetic.py --smoke                      # every code path

The paper's results are for language models and are not repeated here; the aggregator's defaults are
those of the official code, the task and all other settings are chosen here.

Needs: two CPU cores, a few minutes per run.
Result: `best/accuracy`, `best/brevity`, `answers` and `diversity` in `metrics.jsonl` of every step;
`accuracy/best@3` and `diversity` before and after in `summary.json`.
"""

import dataclasses

from dvaojax.config import AggregatorConfig, Config, EvaluationConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.tasks.arithmetic_sets import ArithmeticSets

TASK = ArithmeticSets(slip=0.3, careful_slip=0.15, misformatted=0.2)


def get_config() -> Config:
    """Sums of two digits, three answers, the official defaults of VPO."""
    config = Config()
    return dataclasses.replace(
        config,
        name="vpo-arithmetic",
        task=TASK,
        weights=dict.fromkeys(TASK.objectives, 1.0),
        aggregator=AggregatorConfig("vpo", options=(f"answers={TASK.num_answers}",)),
        num_steps=60,
        max_new_tokens=112,
        model=dataclasses.replace(config.model, vocab_size=19),
    )


def get_smoke_config() -> Config:
    """A miniature for tests: two steps that run every code path."""
    config = get_config()
    model = dataclasses.replace(
        config.model,
        width=16,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_width=8,
        ff_width=16,
    )
    return dataclasses.replace(
        config,
        name=f"{config.name}-smoke",
        task=dataclasses.replace(TASK, num_train=64, num_test=8),
        num_steps=2,
        prompts_per_step=8,
        group_size=2,
        model=model,
        learning=LearningConfig(),
        warm_start=WarmStartConfig(num_steps=2, batch_size=8),
        evaluation=EvaluationConfig(num_prompts=8),
    )
