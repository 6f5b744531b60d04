"""Jobs, and plans that were not compiled."""

import dataclasses

from dvaojax.config import Config
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models.presets import PRESETS
from dvaojax.plan.chips import GIB, parse_slice
from dvaojax.plan.collectives import Collective
from dvaojax.plan.estimate import ChipMemory, Roofline
from dvaojax.plan.job import Job
from dvaojax.plan.planning import Phase, Plan
from dvaojax.plan.profile import DecodeLoop, Operation, Profile
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


def profile(*, seconds=6.0, recomputed=0):
    """The cost of a program with one collective, one decode loop and two operations."""
    return Profile(
        seconds=seconds,
        kernels=5000,
        collectives={"all-gather": Collective(36, 4 * GIB, 0.5)},
        decode_loops=(DecodeLoop(1023, 730, 0.005),),
        operations=(
            Operation(0.75 * seconds, 36, "fusion", "bf16[4,8]", "layers.py:12", "dot_general"),
            Operation(0.25 * seconds, 9, "splash", "bf16[2]", "", ""),
        ),
        recomputed=recomputed,
        recomputed_seconds=0.1 * seconds if recomputed else 0.0,
    )


def phase(*, temporaries=3 * GIB, seconds=2.0, **more):
    return Phase(
        memory=ChipMemory(GIB, 2 * GIB, 5 * GIB, 0, temporaries),
        collectives={"all-gather": Collective(36, 4 * GIB)},
        roofline=Roofline(arithmetic=0.5 * seconds, memory=seconds, links=0.25 * seconds),
        compiled=profile(seconds=3 * seconds, **more),
        compilation_seconds=60.0,
    )


def fitting(**changes):
    return Plan(job(**changes), phase(), phase())
