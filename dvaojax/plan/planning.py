"""Compiles a job to a plan, and searches another layout if the job does not fit."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from dvaojax.errors import UserError
from dvaojax.plan import compilation, estimate, search
from dvaojax.plan.collectives import Collective
from dvaojax.plan.compilation import CompiledFunction, MemoryExceeded
from dvaojax.plan.estimate import ChipMemory, Roofline
from dvaojax.plan.job import Job, shard_size
from dvaojax.plan.profile import Profile
from dvaojax.train.program import Program


class Phase(NamedTuple):
    """One phase of a step on one chip: the rollout or the train step.

    Attributes:
        memory: bytes by part, while it runs.
        collectives: by kind.
        roofline: lower bounds on its seconds.
        compiled: the program's own cost; None after a quick compilation, whose times have no
            meaning.
        compilation_seconds: duration of the compilation.
    """

    memory: ChipMemory
    collectives: Mapping[str, Collective]
    roofline: Roofline
    compiled: Profile | None
    compilation_seconds: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """Result of compiling a job.

    Attributes:
        job: the compiled job.
        rollout: the rollout, or the memory it would need; None if the train step does not fit.
        training: the train step, or the memory it would need.
    """

    job: Job
    rollout: Phase | MemoryExceeded | None
    training: Phase | MemoryExceeded

    @property
    def phases(self) -> tuple[Phase, Phase] | None:
        """Rollout and train step, if both could be compiled."""
        if isinstance(self.rollout, Phase) and isinstance(self.training, Phase):
            return self.rollout, self.training
        return None

    @property
    def needed(self) -> int:
        """Bytes of the phase that needs more; 0 if the compiler does not report them."""
        return max(
            phase.memory.total if isinstance(phase, Phase) else phase.needed
            for phase in (self.rollout, self.training)
            if phase is not None
        )

    @property
    def fits(self) -> bool:
        """Whether every chip has enough memory for both phases, including the resident state."""
        return self.phases is not None and self.needed <= self.job.slice.chip.memory


def choose(job: Job, *, mesh_is_free: bool, micro_batches_are_free: bool) -> Job:
    """The job in the most promising layout.

    Args:
        job: the job as configured.
        mesh_is_free: whether the mesh may be changed.
        micro_batches_are_free: whether the number of micro-batches may be changed.

    Raises:
        UserError: no layout divides.
    """
    learning, model = job.config.learning, job.config.model
    candidates = [
        each
        for each in search.layouts(job)
        if (mesh_is_free or each.config.mesh == job.config.mesh)
        and (micro_batches_are_free or each.config.learning == learning)
        and each.config.model == model
    ]
    if not candidates:
        raise UserError(
            f"{job.config.prompts_per_step} prompts, {model.num_kv_heads} key/value heads and "
            f"width {model.width} do not divide over any mesh of the {job.slice.num_chips} chips "
            f"of {job.slice}, with learning.micro_batches={learning.micro_batches}"
        )
    return search.ranked(candidates)[0]


Keep = Callable[[str, str], None]  # receives "update" or "rollout", and the compiled text


def _forget(name: str, text: str) -> None:
    """Keeps nothing."""


def compile_plan(
    job: Job,
    devices: Sequence[Any],
    notify: Callable[[str], None],
    *,
    effort: float,
    keep: Keep = _forget,
) -> Plan:
    """Compiles the train step and, if that fits, the rollout.

    Args:
        job: the run; every axis of its mesh has a size.
        devices: from `compilation.slice_devices`.
        notify: receives lines about the progress.
        effort: of the compiler, `compilation.THOROUGH` or `QUICK`.
        keep: receives "update" and "rollout", each with its compiled text.
    """
    program = compilation.training_program(job, devices)
    notify(f"compiling the train step with {job.layout}")
    update = compilation.compile_training(job, program, effort=effort)
    training = _training(job, program, update, effort)
    _keep(keep, "update", update)
    too_large = (
        isinstance(training, MemoryExceeded) or training.memory.total > job.slice.chip.memory
    )
    if too_large:
        return Plan(job, None, training)
    notify(f"compiling the rollout with {job.layout}")
    sampler = compilation.compile_rollout(job, program, effort=effort)
    _keep(keep, "rollout", sampler)
    return Plan(job, _rollout(job, program, sampler, effort), training)


def _keep(keep: Keep, name: str, compiled: CompiledFunction | MemoryExceeded) -> None:
    if isinstance(compiled, CompiledFunction):
        keep(name, compiled.text)


def find_fitting(
    job: Job, devices: Sequence[Any], notify: Callable[[str], None], *, tries: int
) -> Plan | None:
    """The first of the most promising layouts that fits, compiled quickly; None if none fits.

    Args:
        job: the run, whose own layout does not fit.
        devices: as above.
        notify: as above.
        tries: maximum number of layouts to compile.
    """
    others = [each for each in search.layouts(job) if each != job]
    for other in search.ranked(others)[:tries]:
        plan = compile_plan(other, devices, notify, effort=compilation.QUICK)
        if plan.fits:
            return plan
    return None


def _training(
    job: Job, program: Program, compiled: CompiledFunction | MemoryExceeded, effort: float
) -> Phase | MemoryExceeded:
    if isinstance(compiled, MemoryExceeded):
        return compiled
    parameters, optimizer = _state_bytes(program)
    rest = compiled.arguments - parameters - optimizer + compiled.results + compiled.temporaries
    activations = min(estimate.activation_bytes(job), rest)
    memory = ChipMemory(parameters, optimizer, 0, activations, rest - activations)
    roofline = estimate.training_seconds(job, links=_links(compiled, effort))
    return _phase(memory, roofline, compiled, effort)


def _rollout(
    job: Job, program: Program, compiled: CompiledFunction | MemoryExceeded, effort: float
) -> Phase | MemoryExceeded:
    if isinstance(compiled, MemoryExceeded):
        return compiled
    parameters, optimizer = _state_bytes(program)
    rest = compiled.arguments - parameters + compiled.results + compiled.temporaries
    cache = min(estimate.cache_bytes(job), rest)
    memory = ChipMemory(parameters, optimizer, cache, 0, rest - cache)
    roofline = estimate.rollout_seconds(job, links=_links(compiled, effort))
    return _phase(memory, roofline, compiled, effort)


def _links(compiled: CompiledFunction, effort: float) -> float | None:
    """Seconds of the links; None after a quick compilation, which overestimates them."""
    return None if effort == compilation.QUICK else compiled.profile.link_seconds


def _phase(
    memory: ChipMemory, roofline: Roofline, compiled: CompiledFunction, effort: float
) -> Phase:
    return Phase(
        memory=memory,
        collectives=compiled.profile.collectives,
        roofline=roofline,
        compiled=None if effort == compilation.QUICK else compiled.profile,
        compilation_seconds=compiled.seconds,
    )


def _state_bytes(program: Program) -> tuple[int, int]:
    """Bytes of parameters and of the optimiser's state on one chip."""
    learner = program.state_shapes.learner
    return _shard_bytes(learner.params), _shard_bytes(learner.optimizer_state)


def _shard_bytes(shapes: Any) -> int:
    return sum(
        shape.dtype.itemsize * shard_size(shape, shape.sharding)
        for shape in jax.tree.leaves(shapes)
    )
