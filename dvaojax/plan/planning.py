"""From a job to a plan: compiled, and laid out otherwise where it does not fit."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from dvaojax.errors import UserError
from dvaojax.plan import compilation, estimate, search
from dvaojax.plan.compilation import Compiled, TooLarge
from dvaojax.plan.estimate import Memory, Seconds
from dvaojax.plan.hlo import Collective
from dvaojax.plan.job import Job, shard_numbers
from dvaojax.train.program import Program


class Half(NamedTuple):
    """One half of a step, the rollout or the train step, on one chip.

    Attributes:
        memory: bytes by part, while it runs.
        collectives: by kind.
        roofline: least seconds, by what bounds it.
        compiler_seconds: the compiler's own estimate of its cycles, which leaves out collectives;
            None from a quick compilation, whose cycles mean nothing.
        compilation_seconds: compiling it took.
    """

    memory: Memory
    collectives: Mapping[str, Collective]
    roofline: Seconds
    compiler_seconds: float | None
    compilation_seconds: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """A job as it was compiled.

    Attributes:
        job: what was compiled.
        rollout: the first half, or how much too large it is; None where the other does not fit.
        training: the second half, or how much too large it is.
    """

    job: Job
    rollout: Half | TooLarge | None
    training: Half | TooLarge

    @property
    def halves(self) -> tuple[Half, Half] | None:
        """Rollout and train step, where both were compiled."""
        if isinstance(self.rollout, Half) and isinstance(self.training, Half):
            return self.rollout, self.training
        return None

    @property
    def needed(self) -> int:
        """Bytes of the half that needs more; 0 where the compiler does not say."""
        return max(
            half.memory.total if isinstance(half, Half) else half.needed
            for half in (self.rollout, self.training)
            if half is not None
        )

    @property
    def fits(self) -> bool:
        """Whether every chip holds both halves, each with what stays beside it."""
        return self.halves is not None and self.needed <= self.job.slice.chip.memory


def choose(job: Job, *, mesh_is_free: bool, micro_batches_are_free: bool) -> Job:
    """The job in the most promising layout of those that are left open.

    Raises:
        UserError: none of them divides.
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
            f"width {model.width} divide over no mesh of the {job.slice.num_chips} chips of "
            f"{job.slice}, with learning.micro_batches={learning.micro_batches}"
        )
    return search.ranked(candidates)[0]


def compile_plan(
    job: Job, devices: Sequence[Any], tell: Callable[[str], None], *, effort: float
) -> Plan:
    """Compiles the train step and, where that fits, the rollout.

    Args:
        job: with a mesh whose sizes are all given.
        devices: from `compilation.describe`.
        tell: takes a line on what goes on.
        effort: how hard the compiler tries, `compilation.THOROUGH` or `QUICK`.
    """
    program = compilation.program_of(job, devices)
    tell(f"compiling the train step with {job.layout}")
    training = _training(
        job, program, compilation.compile_training(job, program, effort=effort), effort
    )
    too_large = isinstance(training, TooLarge) or training.memory.total > job.slice.chip.memory
    if too_large:
        return Plan(job, None, training)
    tell(f"compiling the rollout with {job.layout}")
    rollout = _rollout(
        job, program, compilation.compile_rollout(job, program, effort=effort), effort
    )
    return Plan(job, rollout, training)


def find_fitting(
    job: Job, devices: Sequence[Any], tell: Callable[[str], None], *, tries: int
) -> Plan | None:
    """The first plan that fits among the most promising layouts, compiled quickly.

    Args:
        job: whose own layout does not fit.
        devices: as above.
        tell: as above.
        tries: layouts to compile at most.
    """
    others = [each for each in search.layouts(job) if each != job]
    for other in search.ranked(others)[:tries]:
        plan = compile_plan(other, devices, tell, effort=compilation.QUICK)
        if plan.fits:
            return plan
    return None


def _training(
    job: Job, program: Program, compiled: Compiled | TooLarge, effort: float
) -> Half | TooLarge:
    if isinstance(compiled, TooLarge):
        return compiled
    parameters, optimizer = _state_bytes(program)
    rest = compiled.arguments - parameters - optimizer + compiled.results + compiled.temporaries
    activations = min(estimate.activation_bytes(job), rest)
    memory = Memory(parameters, optimizer, 0, activations, rest - activations)
    roofline = estimate.training_seconds(job, sent=_sent(compiled, effort))
    return _half(job, memory, roofline, compiled, effort)


def _rollout(
    job: Job, program: Program, compiled: Compiled | TooLarge, effort: float
) -> Half | TooLarge:
    if isinstance(compiled, TooLarge):
        return compiled
    parameters, optimizer = _state_bytes(program)
    rest = compiled.arguments - parameters + compiled.results + compiled.temporaries
    cache = min(estimate.cache_bytes(job), rest)
    memory = Memory(parameters, optimizer, cache, 0, rest - cache)
    roofline = estimate.rollout_seconds(job, sent=_sent(compiled, effort))
    return _half(job, memory, roofline, compiled, effort)


def _sent(compiled: Compiled, effort: float) -> float | None:
    """What a thorough compilation sends; a quick one's traffic is left to the estimate."""
    return None if effort == compilation.QUICK else compiled.profile.sent


def _half(job: Job, memory: Memory, roofline: Seconds, compiled: Compiled, effort: float) -> Half:
    seconds = compiled.profile.cycles / job.slice.chip.clock
    return Half(
        memory=memory,
        collectives=compiled.profile.collectives,
        roofline=roofline,
        compiler_seconds=None if effort == compilation.QUICK else seconds,
        compilation_seconds=compiled.seconds,
    )


def _state_bytes(program: Program) -> tuple[int, int]:
    """Bytes of parameters and of the optimiser's state on one chip."""
    learner = program.state_shapes.learner
    return _shard_bytes(learner.params), _shard_bytes(learner.optimizer_state)


def _shard_bytes(shapes: Any) -> int:
    return sum(
        shape.dtype.itemsize * shard_numbers(shape, shape.sharding)
        for shape in jax.tree.leaves(shapes)
    )
