"""The possible layouts of a job, and the order in which to try them."""

import dataclasses
import math
from collections.abc import Sequence

from dvaojax.models.config import REMAT
from dvaojax.plan import estimate
from dvaojax.plan.job import Job
from dvaojax.sharding import MeshConfig

# Estimated share of a chip's memory up to which a layout is expected to fit. The compiler leaves
# gaps between its buffers: a program estimated at 0.92 ran out of memory, one at 0.74 did not.
MAX_MEMORY_SHARE = 0.85


def layouts(job: Job) -> list[Job]:
    """All layouts in which the job divides: mesh shape, remat policy and micro-batches."""
    prompts = job.config.prompts_per_step
    divisors = [count for count in range(1, prompts + 1) if prompts % count == 0]
    candidates = [
        job.with_layout(mesh, micro_batches=micro_batches, remat=remat)
        for mesh in meshes(job)
        for micro_batches in divisors
        for remat in REMAT
    ]
    return [candidate for candidate in candidates if candidate.divides]


def meshes(job: Job) -> list[MeshConfig]:
    """All factorisations of a slice into data, fsdp and tensor, with one replica per slice."""
    chips = job.slice.num_chips // job.slice.count
    divisors = [count for count in range(1, chips + 1) if chips % count == 0]
    return [
        dataclasses.replace(
            job.config.mesh,
            replica=job.slice.count,
            data=chips // (fsdp * tensor),
            fsdp=fsdp,
            tensor=tensor,
        )
        for tensor in divisors
        for fsdp in divisors
        if chips % (fsdp * tensor) == 0
    ]


def ranked(candidates: Sequence[Job]) -> list[Job]:
    """The candidates in order, the most promising first.

    First those that fit by the estimate, sorted by time (to about 10 %) and then by memory; after
    them those that do not fit, sorted by memory.
    """

    def rank(job: Job) -> tuple[bool, float, int]:
        needed = estimate.peak(job)
        fits = needed <= MAX_MEMORY_SHARE * job.slice.chip.memory
        return not fits, round(math.log(_seconds(job)), 1) if fits else needed, needed

    return sorted(candidates, key=rank)


def _seconds(job: Job) -> float:
    """Sum of all bounds, as if nothing overlapped: it ranks layouts of equal roofline."""
    return sum(estimate.training_seconds(job)) + sum(estimate.rollout_seconds(job))
