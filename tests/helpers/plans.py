"""Jobs, and plans that were not compiled."""

import dataclasses

from dvaojax.config import Config
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models.presets import PRESETS
from dvaojax.plan.chips import GIB, parse_slice
from dvaojax.plan.estimate import ChipMemory, Roofline
from dvaojax.plan.hlo import Collective
from dvaojax.plan.job import Job
from dvaojax.plan.planning import Phase, Plan
from dvaojax.sharding import MeshConfig


def job(
    model="qwen3-4b", topology="v5p:4x4x4", *, mesh=(1, 64, 1), prompts=128, micro_batches=1, **more
):
    config = Config(
        model=PRESETS[model],
        prompts_per_step=prompts,
        group_size=16,
        max_new_tokens=1024,
        learning=LearningConfig(micro_batches=micro_batches),
        warm_start=WarmStartConfig(num_steps=0),
        mesh=MeshConfig(*mesh),
    )
    return Job(dataclasses.replace(config, **more), 512, parse_slice(topology))


def phase(*, temporaries=3 * GIB, seconds=2.0):
    return Phase(
        memory=ChipMemory(GIB, 2 * GIB, 5 * GIB, 0, temporaries),
        collectives={"all-gather": Collective(36, 4 * GIB)},
        roofline=Roofline(arithmetic=0.5 * seconds, memory=seconds, links=0.25 * seconds),
        compiler_seconds=3 * seconds,
        compilation_seconds=60.0,
    )


def fitting(**changes):
    return Plan(job(**changes), phase(), phase())
