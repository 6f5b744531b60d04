"""Smoke tests of experiments: the same code paths, in seconds on a laptop."""

import dataclasses

from dvaojax.allocation import AllocationConfig
from dvaojax.config import Config, EvaluationConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.sharding import MeshConfig

_MAX_WORKERS = 2


def miniature(config: Config) -> Config:
    """A small version of a configuration with all of its parts.

    The task, its rewards and prompts, the method, the loss and the architecture are kept; the
    decoder has one narrow layer with random weights, and there are two steps of eight groups.
    Completions have at most 16 tokens, unless demonstrations must fit.

    Args:
        config: the experiment.
    """
    model = dataclasses.replace(
        config.model,
        width=16,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_width=8,
        ff_width=16,
        param_dtype="float32",
        compute_dtype="float32",
    )
    return dataclasses.replace(
        config,
        name=f"{config.name}-smoke",
        pretrained="",
        model=model,
        num_steps=2,
        prompts_per_step=8,
        group_size=2,
        allocation=_small_allocation(config.allocation),
        max_new_tokens=config.max_new_tokens if config.warm_start.num_steps else 16,
        rollout_stages=1,
        learning=LearningConfig(),
        warm_start=dataclasses.replace(
            config.warm_start,
            num_steps=min(config.warm_start.num_steps, 2),
            batch_size=8,
            micro_batches=1,
        ),
        rewards=dataclasses.replace(
            config.rewards, workers=min(config.rewards.workers, _MAX_WORKERS)
        ),
        evaluation=EvaluationConfig(num_prompts=8, every=min(config.evaluation.every, 1)),
        mesh=MeshConfig(),
    )


def _small_allocation(allocation: AllocationConfig) -> AllocationConfig:
    """An allocation for steps of eight groups of two."""
    selection = dataclasses.replace(
        allocation.selection, candidates=8, chosen=4, every=1, trusted=8, dimension=64
    )
    return dataclasses.replace(
        allocation, floor=min(allocation.floor, 1), cap=0, selection=selection
    )
