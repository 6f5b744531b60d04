"""Programs compiled for accelerators that this machine does not have, and what their text shows."""

import importlib.util
import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from jax.experimental import topologies

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: pip install '.[plan]'",
)
needs_cuda_compiler = pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None,
    reason="JAX's CUDA plugin is not installed: pip install jax-cuda13-plugin jax-cuda13-pjrt",
)

# An H100, as XLA describes it.
_H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 12 }
runtime_version { major: 13 }
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  registers_per_block_limit: 65536 registers_per_core_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  device_memory_size: 84929347584 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0"
}
"""


def tpus(topology: str) -> Sequence[Any]:
    """The chips of a TPU slice, such as "v5p:2x2x1", as targets of compilation."""
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # do not look for a real slice
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices


def h100s(number: int) -> Sequence[Any]:
    """The H100 GPUs of one machine, as targets of compilation."""
    return topologies.get_topology_desc(
        platform="cuda", topology_name="h100", topology=f"1x1x{number}", target_config=_H100
    ).devices


class Instruction(NamedTuple):
    """One instruction of a compiled program.

    Attributes:
        shape: of the result, such as `bf16[2,8]{1,0}` or a tuple of these.
        opcode: such as `copy`.
        rest: operands and attributes.
    """

    shape: str
    opcode: str
    rest: str


Program = dict[str, list[Instruction]]


def parse(text: str) -> Program:
    """The instructions of each computation of a compiled program, by name."""
    program, body = {}, []
    for line in text.splitlines():
        if head := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            body = program[head[1]] = []
        elif parts := re.match(
            r"\s+(?:ROOT )?%?[\w.\-]+ = (\(.*?\)|\S+) ([a-z][\w\-]*)\((.*)", line
        ):
            body.append(Instruction(*parts.groups()))
    return program


def dimensions(shape: str, *, rank: int) -> Iterator[tuple[int, ...]]:
    """The dimensions of each array of this rank in a shape."""
    for listed in re.findall(r"[a-z]+\d+\[([\d,]+)\]", shape):
        sizes = tuple(int(size) for size in listed.split(","))
        if len(sizes) == rank:
            yield sizes


def loops_with(program: Program, sizes: Sequence[int]) -> Iterator[str]:
    """The bodies of the loops that carry an array with these dimensions, in any order."""
    for instruction in (i for body in program.values() for i in body if i.opcode == "while"):
        carried = dimensions(instruction.shape, rank=len(sizes))
        if any(sorted(array) == sorted(sizes) for array in carried):
            yield _attributes(instruction, "body")[0]


def copies(program: Program, name: str, *, least: int) -> list[Instruction]:
    """The copies and transpositions of at least `least` elements in a computation, and below it.

    Reading an array into a TPU's fast memory, `S(1)`, is no copy.
    """
    copied = []
    for instruction in program[name]:
        if instruction.opcode in ("copy", "copy-start", "transpose"):
            if not re.match(r"\(?[a-z]+\d+\[[\d,]*\]\{[^}]*S\(1\)", instruction.shape):
                copied.append(instruction)
        elif instruction.opcode == "fusion":
            called = program[_attributes(instruction, "calls")[0]]
            if {i.opcode for i in called} <= {"parameter", "bitcast", "copy", "transpose"}:
                copied.append(instruction)
        else:
            for inner in _attributes(instruction, "body", "to_apply", "calls"):
                copied += copies(program, inner, least=least)
    return [i for i in copied if _largest(i.shape) >= least]


def _attributes(instruction: Instruction, *names: str) -> list[str]:
    """The computations that an instruction calls under these names of attributes."""
    pattern = rf"\b(?:{'|'.join(names)})=%?([\w.\-]+)"
    return re.findall(pattern, instruction.rest)


def _largest(shape: str) -> int:
    listed = re.findall(r"\[([\d,]+)\]", shape)
    return max((math.prod(map(int, sizes.split(","))) for sizes in listed), default=0)
