"""One decoder on a device: update, rollout and step, their memory and their kernels."""

import dataclasses
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import our_step
from jax.profiler import ProfileData
from our_step import System
from workload import Workload, make_workload

from dvaojax.learning.train_step import TrainState
from dvaojax.models import flops
from dvaojax.models.flops import full_lengths
from dvaojax.models.presets import PRESETS

KERNELS = 10  # listed by time
PROFILED_TOKENS = 32  # of a rollout whose kernels are listed
# The loop over tokens by the host, XLA's default, and as one CUDA graph.
LOOPS = {
    "host": {},
    "graph": {
        "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,"
        "DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"
    },
}


def measure(
    report: Callable[..., None],
    *,
    name: str,
    shape: dict[str, Any],
    changes: dict[str, Any],
    micro_batches: int,
    calls: int,
) -> None:
    """All measurements of one decoder, those that may fail last.

    Args:
        report: receives each measurement.
        name: of a preset.
        shape: arguments of `make_workload`: prompts, group size and lengths.
        changes: of the preset's fields.
        micro_batches: of the update.
        calls: that are timed, after one that is not.
    """
    model = dataclasses.replace(PRESETS[name], **changes)
    workload = make_workload(dataclasses.asdict(model), **shape, steps=1)
    system, state = our_step.begin(model, workload, micro_batches=micro_batches)
    loops = LOOPS if jax.default_backend() == "gpu" else {"host": {}}
    began = perf_counter()
    update, samplers = _compile(system, state, loops)
    report("compilation", seconds=perf_counter() - began, programs=1 + len(samplers))
    system = system._replace(train=update, sample=samplers["host"])

    counts = _counts(workload)
    report("memory", update=_bytes(update), rollout=_bytes(samplers["host"]), state=_state(state))
    seconds = []
    for _ in range(1 + calls):
        state, parts = our_step.train_step_alone(system, state, 0)
        seconds.append(parts["train"])
    report("update", seconds=statistics.median(seconds[1:]), flops=counts["update"])
    _rollout(report, system, state, "host", counts, calls)
    state, parts = our_step.whole_step(system, state, 0)
    report("step", seconds=sum(parts.values()), **parts)
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    report("peak", bytes=peak)
    try:
        state = _kernels(report, system, state)
    except Exception as error:  # a profile needs more of the machine than a run
        report("complaint", complaint=f"no profile: {type(error).__name__}: {error}")
    for loop in loops:
        if loop != "host":
            _rollout(report, system._replace(sample=samplers[loop]), state, loop, counts, calls)


def _compile(
    system: System, state: TrainState, loops: dict[str, dict[str, str]]
) -> tuple[Any, dict[str, Any]]:
    """The compiled update, and the sampler with each kind of loop; all at the same time."""
    experience = our_step.random_experience(system, 0)
    prompts = jnp.asarray(system.prompts[0])
    serials = jnp.arange(len(prompts), dtype=jnp.int32)
    update = system.train.lower(state, experience, None)
    sampler = getattr(system.sample, "lower")(  # noqa: B009, a jitted function
        state.learner.params, prompts, jnp.asarray(system.limits[0]), serials
    )
    with ThreadPoolExecutor() as pool:
        compiled = pool.submit(update.compile)
        samplers = {
            name: pool.submit(sampler.compile, compiler_options=options)
            for name, options in loops.items()
        }
        return compiled.result(), {name: each.result() for name, each in samplers.items()}


def _counts(workload: Workload) -> dict[str, int]:
    """Operations of the update, and bytes and tokens of the rollout, at full length."""
    model = our_step.ModelConfig(**workload.model)
    lengths = full_lengths(
        num_prompts=len(workload.prompts[0]),
        group_size=workload.group_size,
        prompt_length=len(workload.prompts[0][0]),
        completion_length=workload.completion_length,
    )
    return {
        "update": flops.train_flops(model, lengths),
        "rollout": flops.decode_bytes(model, lengths),
        "tokens": int(lengths.completions.sum()),
    }


def _rollout(
    report: Callable[..., None],
    system: System,
    state: TrainState,
    loop: str,
    counts: dict[str, int],
    calls: int,
) -> None:
    """Seconds of every call: the second one of a CUDA graph may differ from the first."""
    seconds = []
    for _ in range(1 + calls):
        _, parts = our_step.sampler_alone(system, state, 0)
        seconds.append(parts["rollout"])
    report(
        "rollout",
        loop=loop,
        seconds=statistics.median(seconds[1:]),
        calls=seconds,
        bytes=counts["rollout"],
        tokens=counts["tokens"],
    )


def _kernels(report: Callable[..., None], system: System, state: TrainState) -> TrainState:
    """Lists the kernels of an update, and of the first tokens of a rollout."""
    for name in ("update", "rollout"):
        with tempfile.TemporaryDirectory() as directory:
            jax.profiler.start_trace(directory)
            if name == "update":
                state, _ = our_step.train_step_alone(system, state, 0)
            else:
                short = system.limits.clip(max=PROFILED_TOKENS)
                our_step.sampler_alone(system._replace(limits=short), state, 0)
            jax.profiler.stop_trace()
            files = sorted(Path(directory).rglob("*.xplane.pb"))
            seconds, number = kernels(_planes(files)) if files else (Counter(), 0)
        longest = [[kernel, each] for kernel, each in seconds.most_common(KERNELS)]
        report("kernels", of=name, seconds=sum(seconds.values()), launches=number, longest=longest)
    return state


def _planes(files: list[Path]) -> Iterable[Any]:
    return ProfileData.from_file(str(files[-1])).planes


def kernels(planes: Iterable[Any]) -> tuple[Counter[str], int]:
    """Seconds of the kernels of a profile by name, and the number of launches.

    On a device these are the events of its streams or, on a TPU, of its line of operations. On a
    CPU they are the events that belong to an operation of XLA.
    """
    seconds, launches = Counter[str](), 0
    planes = list(planes)
    on_device = [plane for plane in planes if plane.name.startswith("/device:")]
    for plane in on_device or planes:
        lines = list(plane.lines)
        operations = [line for line in lines if line.name == "XLA Ops"]
        streams = [line for line in lines if line.name.startswith("Stream")]
        for line in operations if plane.name.startswith("/device:TPU") else streams or lines:
            for event in line.events:
                if on_device or any(key == "hlo_op" for key, _ in event.stats):
                    seconds[event.name] += event.duration_ns / 1e9
                    launches += 1
    return seconds, launches


def _bytes(compiled: Any) -> dict[str, int]:
    memory = compiled.memory_analysis()
    return {
        "arguments": memory.argument_size_in_bytes,
        "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
    }


def _state(state: TrainState) -> int:
    """Bytes of parameters and moments, which stay in memory during the rollout."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state.learner))
