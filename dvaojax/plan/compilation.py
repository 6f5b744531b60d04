"""Compiles a job's rollout and train step for its slice, with libtpu and without a TPU."""

import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from dvaojax.config import make_aggregator, validate
from dvaojax.errors import UserError, import_extra
from dvaojax.plan import hlo
from dvaojax.plan.chips import GIB, Slice
from dvaojax.plan.job import Job
from dvaojax.train.program import Program, make_program
from dvaojax.types import Experience

# libtpu would ask the cloud which machine this is, write logs, and keep every other process out;
# here it only compiles, and no chip is touched.
_ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


# How hard the compiler tries, as XLA's `exec_time_optimization_effort` takes it. QUICK takes a
# sixth of the time or less; memory comes out some ten per cent higher, sums that could wait for the
# end of a loop are sent at every turn, and cycles mean nothing.
THOROUGH, QUICK = 0.0, -1.0


class Compiled(NamedTuple):
    """What the compiler says of one function, on one chip.

    Attributes:
        arguments: bytes of what it takes.
        results: bytes of what it returns beside donated arguments.
        temporaries: bytes it needs while it runs, its code included.
        profile: its collectives and cycles.
        seconds: the compilation took.
    """

    arguments: int
    results: int
    temporaries: int
    profile: hlo.Profile
    seconds: float


class TooLarge(NamedTuple):
    """The compiler gave up: one chip's memory does not hold the function.

    Attributes:
        needed: bytes it would take; 0 where the compiler does not say.
        seconds: the compilation took.
    """

    needed: int
    seconds: float


def stand_alone() -> None:
    """To be called before anything of JAX: where it looks for devices it tries libtpu first."""
    for name, value in _ALONE.items():
        os.environ.setdefault(name, value)


def describe(slice: Slice) -> Sequence[Any]:
    """The slice's devices, which can be compiled for and nothing else.

    Raises:
        UserError: libtpu is not installed, in use by another process, or knows no such slice.
    """
    import_extra("libtpu", extra="plan")
    stand_alone()
    hosts = {} if slice.num_chips > 1 else {"chips_per_host_bounds": (1, 1, 1)}
    try:
        return topologies.get_topology_desc(
            platform="tpu", topology_name=str(slice), **hosts
        ).devices
    except jax.errors.JaxRuntimeError as error:
        if "lockfile" in str(error):
            raise UserError(
                "another process holds libtpu, and only one at a time can: wait until it ends "
                "(its lock is /tmp/libtpu_lockfile; a process that was killed leaves it behind)"
            ) from error
        reason = " ".join(str(error).split()).removeprefix("INVALID_ARGUMENT: ")
        raise UserError(f"topology {slice} is unknown to libtpu: {reason}") from error


def program_of(job: Job, devices: Sequence[Any]) -> Program:
    """The very program that training would run, on these devices.

    Raises:
        UserError: the configuration or its mesh do not fit.
    """
    validate(job.config)
    return make_program(job.config, make_aggregator(job.config), devices=devices)


def compile_training(job: Job, program: Program, *, effort: float) -> Compiled | TooLarge:
    """The train step."""
    reference = program.state_shapes.learner.params if job.config.loss.kl_weight > 0.0 else None
    experience = _experience(job, program)
    return _compile(effort, program.step, program.state_shapes, experience, reference)


def compile_rollout(job: Job, program: Program, *, effort: float) -> Compiled | TooLarge:
    """The sampler."""
    experience = _experience(job, program)
    whole = NamedSharding(program.mesh, PartitionSpec())
    key = jax.eval_shape(lambda: jax.random.key(0))
    return _compile(
        effort,
        program.sample,
        program.state_shapes.learner.params,
        experience.prompt_tokens,
        experience.prompt_lengths,
        jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=whole),
        experience.prompt_lengths,  # serials and sizes have their shape
        experience.prompt_lengths,
    )


def _experience(job: Job, program: Program) -> Experience:
    """A step's experience as shapes with shardings."""
    config = job.config
    prompts, group, length = config.prompts_per_step, config.largest_group, config.max_new_tokens

    def of(shape: tuple[int, ...], dtype: Any) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=program.by_group)

    tokens, rewards = (prompts, group, length), (prompts, group, len(config.objectives))
    return Experience(
        prompt_tokens=of((prompts, job.prompt_length), jnp.int32),
        prompt_lengths=of((prompts,), jnp.int32),
        completion_tokens=of(tokens, jnp.int32),
        completion_mask=of(tokens, bool),
        logprobs=of(tokens, jnp.float32),
        rewards=of(rewards, jnp.float32),
        reward_mask=of(rewards, bool),
    )


def _compile(effort: float, function: Callable, *arguments: Any) -> Compiled | TooLarge:
    started = time.perf_counter()
    lowered = getattr(function, "lower")(*arguments)  # noqa: B009, a jitted function's
    try:
        compiled = lowered.compile(compiler_options={"exec_time_optimization_effort": effort})
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return TooLarge(_needed(str(error)), time.perf_counter() - started)
    memory = compiled.memory_analysis()
    return Compiled(
        arguments=memory.argument_size_in_bytes,
        results=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes + memory.generated_code_size_in_bytes,
        profile=hlo.profile(compiled.as_text()),
        seconds=time.perf_counter() - started,
    )


def _needed(message: str) -> int:
    """Bytes of memory that the compiler's complaint names."""
    found = re.search(r"(?:Used |temporaries \()([\d.]+)([MG])", message)
    if found is None:
        return 0
    return round(float(found.group(1)) * {"M": 2**20, "G": GIB}[found.group(2)])
