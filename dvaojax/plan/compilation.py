"""Compiles a job's rollout and train step for a slice, with libtpu but without a TPU."""

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

# By default libtpu queries the cloud's metadata server, writes logs, and excludes other processes.
# None of that is needed to compile without a chip.
_LIBTPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


# Values of XLA's `exec_time_optimization_effort`. QUICK takes a sixth of the time or less, but
# overestimates memory by about ten per cent, repeats all-reduces in each iteration of a loop that
# could be done once after it, and gives no meaningful number of cycles.
THOROUGH, QUICK = 0.0, -1.0


class CompiledFunction(NamedTuple):
    """Size and cost of one compiled function, on one chip.

    Attributes:
        arguments: bytes of the arguments.
        results: bytes of the results that do not reuse donated arguments.
        temporaries: bytes needed while it runs, including its code.
        profile: collectives and cycles.
        seconds: duration of the compilation.
    """

    arguments: int
    results: int
    temporaries: int
    profile: hlo.Profile
    seconds: float


class MemoryExceeded(NamedTuple):
    """Result of a compilation that failed because a chip has too little memory.

    Attributes:
        needed: bytes that the function needs; 0 if the compiler does not report them.
        seconds: duration of the compilation.
    """

    needed: int
    seconds: float


def set_libtpu_environment() -> None:
    """Configures libtpu to compile only; must run before JAX looks for devices and loads libtpu."""
    for name, value in _LIBTPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def slice_devices(slice: Slice) -> Sequence[Any]:
    """Devices of the slice as compilation targets; nothing can run on them.

    Raises:
        UserError: libtpu is not installed, is used by another process, or does not know the slice.
    """
    import_extra("libtpu", extra="plan")
    set_libtpu_environment()
    hosts = {} if slice.num_chips > 1 else {"chips_per_host_bounds": (1, 1, 1)}
    try:
        return topologies.get_topology_desc(
            platform="tpu", topology_name=str(slice), **hosts
        ).devices
    except jax.errors.JaxRuntimeError as error:
        if "lockfile" in str(error):
            raise UserError(
                "libtpu is in use by another process: wait until that ends, or delete the lock "
                "/tmp/libtpu_lockfile if a killed process left it"
            ) from error
        reason = " ".join(str(error).split()).removeprefix("INVALID_ARGUMENT: ")
        raise UserError(f"topology {slice} is unknown to libtpu: {reason}") from error


def training_program(job: Job, devices: Sequence[Any]) -> Program:
    """The program that training would run on these devices.

    Raises:
        UserError: the configuration is invalid, or its mesh does not divide.
    """
    validate(job.config)
    return make_program(job.config, make_aggregator(job.config), devices=devices)


def compile_training(
    job: Job, program: Program, *, effort: float
) -> CompiledFunction | MemoryExceeded:
    """Compiles the train step."""
    reference = program.state_shapes.learner.params if job.config.loss.kl_weight > 0.0 else None
    experience = _experience(job, program)
    return _compile(effort, program.step, program.state_shapes, experience, reference)


def compile_rollout(
    job: Job, program: Program, *, effort: float
) -> CompiledFunction | MemoryExceeded:
    """Compiles the sampler."""
    experience = _experience(job, program)
    replicated = NamedSharding(program.mesh, PartitionSpec())
    key = jax.eval_shape(lambda: jax.random.key(0))
    return _compile(
        effort,
        program.sample,
        program.state_shapes.learner.params,
        experience.prompt_tokens,
        experience.prompt_lengths,
        jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=replicated),
        experience.prompt_lengths,  # serials and group sizes have the same shape
        experience.prompt_lengths,
    )


def _experience(job: Job, program: Program) -> Experience:
    """Shapes and shardings of one step's experience."""
    config = job.config
    prompts, group, length = config.prompts_per_step, config.largest_group, config.max_new_tokens

    def sharded(shape: tuple[int, ...], dtype: Any) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=program.by_group)

    tokens, rewards = (prompts, group, length), (prompts, group, len(config.objectives))
    return Experience(
        prompt_tokens=sharded((prompts, job.prompt_length), jnp.int32),
        prompt_lengths=sharded((prompts,), jnp.int32),
        completion_tokens=sharded(tokens, jnp.int32),
        completion_mask=sharded(tokens, bool),
        logprobs=sharded(tokens, jnp.float32),
        rewards=sharded(rewards, jnp.float32),
        reward_mask=sharded(rewards, bool),
    )


def _compile(
    effort: float, function: Callable, *arguments: Any
) -> CompiledFunction | MemoryExceeded:
    started = time.perf_counter()
    lowered = getattr(function, "lower")(*arguments)  # noqa: B009, a jitted function
    try:
        compiled = lowered.compile(compiler_options={"exec_time_optimization_effort": effort})
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return MemoryExceeded(_needed(str(error)), time.perf_counter() - started)
    memory = compiled.memory_analysis()
    return CompiledFunction(
        arguments=memory.argument_size_in_bytes,
        results=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes + memory.generated_code_size_in_bytes,
        profile=hlo.profile(compiled.as_text()),
        seconds=time.perf_counter() - started,
    )


def _needed(message: str) -> int:
    """Bytes of memory named in the compiler's error message."""
    match = re.search(r"(?:Used |temporaries \()([\d.]+)([MG])", message)
    if match is None:
        return 0
    return round(float(match.group(1)) * {"M": 2**20, "G": GIB}[match.group(2)])
