"""One decoder on a device: update, rollout and step, their memory and their kernels."""

import dataclasses
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import our_step
from jax.profiler import ProfileData
from our_step import System
from workload import Workload, make_workload

from dvaojax import sharding
from dvaojax.learning.train_step import TrainState
from dvaojax.models import ModelConfig, flops
from dvaojax.models.flops import full_lengths
from dvaojax.models.presets import PRESETS
from dvaojax.sharding import MeshConfig

KERNELS = 10  # listed by time
PROFILED_TOKENS = 32  # of a rollout whose kernels are listed
# The loop over tokens as one CUDA graph; by default the host runs it.
GRAPH = {
    "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,"
    "DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"
}


class SamplerKind(NamedTuple):
    """One way of running the rollout.

    Attributes:
        attention: `model.decode_attention`.
        options: of the compiler.
    """

    attention: str
    options: dict[str, str]


# By platform, the safest first. Stages would have to be compiled for minutes, so there is one.
SAMPLERS = {
    "cpu": {"einsum, one stage": SamplerKind("einsum", {})},
    "tpu": {
        "einsum, one stage": SamplerKind("einsum", {}),
        "kernel": SamplerKind("pallas", {}),
    },
    "gpu": {
        "einsum, one stage": SamplerKind("einsum", {}),
        "cuDNN": SamplerKind("cudnn", {}),
        "cuDNN, loop in a graph": SamplerKind("cudnn", GRAPH),
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
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    system, state = our_step.begin(model, workload, mesh=mesh, micro_batches=micro_batches)
    kinds = SAMPLERS[jax.default_backend()]
    began = perf_counter()
    update, samplers = _compile(system, state, workload, model, kinds)
    report("compilation", seconds=perf_counter() - began, programs=1 + len(samplers))
    failed = [name for name, sampler in samplers.items() if isinstance(sampler, Exception)]
    for name in failed:
        report("complaint", complaint=f"rollout, {name}: {_line(samplers.pop(name))}")
    safest, *others = samplers.items()
    system = system._replace(train=update, sample=safest[1])

    counts = _counts(workload)
    report("memory", update=_bytes(update), rollout=_bytes(safest[1]), state=_state(state))
    seconds = []
    for _ in range(1 + calls):
        state, parts = our_step.train_step_alone(system, state, 0)
        seconds.append(parts["train"])
    report("update", seconds=statistics.median(seconds[1:]), flops=counts["update"])
    _rollout(report, system, state, safest[0], counts, calls)
    state, parts = our_step.whole_step(system, state, 0)
    report("step", seconds=sum(parts.values()), **parts)
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    report("peak", bytes=peak)
    try:
        state = _kernels(report, system, state)
    except Exception as error:  # a profile needs more of the machine than a run
        report("complaint", complaint=f"no profile: {_line(error)}")
    for kind, sampler in others:
        _rollout(report, system._replace(sample=sampler), state, kind, counts, calls)


def _compile(
    system: System,
    state: TrainState,
    workload: Workload,
    model: ModelConfig,
    kinds: Mapping[str, SamplerKind],
) -> tuple[Any, dict[str, Any]]:
    """The update and every kind of sampler, or its error; all are compiled at the same time."""
    experience = our_step.random_experience(system, 0)
    prompts = jnp.asarray(system.prompts[0])
    serials = jnp.arange(len(prompts), dtype=jnp.int32)
    update = system.train.lower(state, experience, None)

    def compile_sampler(kind: SamplerKind) -> Any:
        attending = dataclasses.replace(model, decode_attention=kind.attention)
        sample = our_step.make_sampler(attending, workload, mesh=system.mesh, max_stages=1)
        lowered = getattr(sample, "lower")(  # noqa: B009, a jitted function
            state.learner.params, prompts, jnp.asarray(system.limits[0]), serials
        )
        return lowered.compile(compiler_options=kind.options)

    with ThreadPoolExecutor() as pool:
        compiled = pool.submit(update.compile)
        samplers = {name: pool.submit(compile_sampler, kind) for name, kind in kinds.items()}
        finished = {name: each.exception() or each.result() for name, each in samplers.items()}
        return compiled.result(), finished


def _line(error: Exception) -> str:
    """The error's type and the first line of its message."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _counts(workload: Workload) -> dict[str, int]:
    """Operations of the update, and bytes and tokens of the rollout, at full length."""
    model = ModelConfig(**workload.model)
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
    kind: str,
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
        kind=kind,
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
