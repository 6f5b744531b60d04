"""A sweep of two situations, three methods, two trade-offs and two seeds over a tiny run."""

import dataclasses

from dvaojax.config import Config, EvaluationConfig
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models import ModelConfig
from dvaojax.sweep import Sweep
from dvaojax.tasks.arithmetic import Arithmetic

BASE = Config(
    name="little",
    task=Arithmetic(digits=2, budget=22, num_train=32, num_test=8),
    num_steps=2,
    prompts_per_step=8,
    group_size=4,
    max_new_tokens=36,
    rollout_stages=1,
    model=ModelConfig(
        vocab_size=18,
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
    situations={"brief": (), "long": ("task.budget=30",)},
    methods={
        "dvao": ("aggregator=dvao",),
        "gdpo": ("aggregator=gdpo",),
        "annealed": ("aggregator=rvpo_annealed", "aggregator_options=num_steps=2"),
    },
    trade_offs={
        "even": (),
        "accuracy": ("weights.accuracy=0.8", "weights.brevity=0.1", "weights.format=0.1"),
    },
    seeds=(0, 1),
    against="dvao",
    only={"annealed": "long"},
    expected={"brief": "nothing."},
)


def changed(**changes) -> Sweep:
    """The sweep with some of its parts replaced."""
    return dataclasses.replace(SWEEP, **changes)


def get_sweep() -> Sweep:
    return SWEEP
