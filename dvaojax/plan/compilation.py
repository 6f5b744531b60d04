"""Compiles a job's rollout and train step for described chips, which nothing can run on."""

import re
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from dvaojax.config import make_aggregator, validate
from dvaojax.plan.chips import GIB, Gpu
from dvaojax.plan.collectives import Links
from dvaojax.plan.costs import CostModel, GpuCost, TpuCost
from dvaojax.plan.job import Job
from dvaojax.plan.profile import Profile, profile
from dvaojax.train.program import Program, make_program
from dvaojax.types import Experience

# Values of XLA's `exec_time_optimization_effort`. QUICK takes a sixth of the time or less, but
# overestimates memory by about ten per cent, repeats all-reduces in each iteration of a loop that
# could be done once after it, and gives no meaningful number of cycles.
THOROUGH, QUICK = 0.0, -1.0
_QUICK_LEVEL = "O1"  # where XLA has levels instead, from JAX 0.11 on


class CompiledFunction(NamedTuple):
    """Size and cost of one compiled function, on one chip.

    Attributes:
        arguments: bytes of the arguments.
        results: bytes of the results that do not reuse donated arguments.
        temporaries: bytes needed while it runs, including its code.
        profile: time, collectives and operations.
        text: the compiled program.
        seconds: duration of the compilation.
    """

    arguments: int
    results: int
    temporaries: int
    profile: Profile
    text: str
    seconds: float


class MemoryExceeded(NamedTuple):
    """Result of a compilation that failed because a chip has too little memory.

    Attributes:
        needed: bytes that the function needs; 0 if the compiler does not report them.
        seconds: duration of the compilation.
    """

    needed: int
    seconds: float


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
    reference = program.state_shapes.learner.params if job.config.loss.needs_reference else None
    experience = _experience(job, program)
    return _compile(job, effort, program.step, program.state_shapes, experience, reference)


def compile_rollout(
    job: Job, program: Program, *, effort: float
) -> CompiledFunction | MemoryExceeded:
    """Compiles the sampler."""
    experience = _experience(job, program)
    replicated = NamedSharding(program.mesh, PartitionSpec())
    key = jax.eval_shape(lambda: jax.random.key(0))
    return _compile(
        job,
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

    repeats = config.rewards.repeats
    tokens, rewards = (prompts, group, length), (prompts, group, len(config.objectives))
    return Experience(
        prompt_tokens=sharded((prompts, job.prompt_length), jnp.int32),
        prompt_lengths=sharded((prompts,), jnp.int32),
        completion_tokens=sharded(tokens, jnp.int32),
        completion_mask=sharded(tokens, bool),
        logprobs=sharded(tokens, jnp.float32),
        rewards=sharded(rewards, jnp.float32),
        reward_mask=sharded(rewards, bool),
        repeated=sharded((*rewards, repeats), jnp.float32) if repeats > 1 else None,
    )


def compiler_options(effort: float) -> dict[str, Any]:
    """XLA's options for `THOROUGH`, which is its default, or `QUICK`."""
    if effort == THOROUGH:
        return {}
    if hasattr(jax.config, "jax_exec_time_optimization_effort"):
        return {"exec_time_optimization_effort": effort}
    return {"optimization_level": _QUICK_LEVEL}


def cost_model(job: Job) -> CostModel:
    """The cost of instructions on a job's chips."""
    chip = job.slice.chip
    if isinstance(chip, Gpu):
        links = Links(chip.link_bandwidth, chip.hosts_bandwidth, job.slice.shape[-1])
        return GpuCost(links, chip.memory_bandwidth, chip.flops)
    links = Links(chip.link_bandwidth, chip.slices_bandwidth)
    return TpuCost(links, chip.clock, chip.memory_bandwidth, chip.flops, job.row_pairs)


def _compile(
    job: Job, effort: float, function: Callable, *arguments: Any
) -> CompiledFunction | MemoryExceeded:
    started = time.perf_counter()
    lowered = getattr(function, "lower")(*arguments)  # noqa: B009, a jitted function
    try:
        with warnings.catch_warnings():
            # JAX's cache keeps programs for GPUs, but cannot load them where there is none.
            warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry")
            compiled = lowered.compile(compiler_options=compiler_options(effort))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return MemoryExceeded(_needed(str(error)), time.perf_counter() - started)
    memory, text = compiled.memory_analysis(), compiled.as_text()
    return CompiledFunction(
        arguments=memory.argument_size_in_bytes,
        results=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes + memory.generated_code_size_in_bytes,
        profile=profile(text, cost_model(job)),
        text=text,
        seconds=time.perf_counter() - started,
    )


def _needed(message: str) -> int:
    """Bytes of memory named in the compiler's error message."""
    match = re.search(r"(?:Used |temporaries \()([\d.]+)([MG])", message)
    if match is None:
        return 0
    return round(float(match.group(1)) * {"M": 2**20, "G": GIB}[match.group(2)])
