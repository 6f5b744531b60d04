"""Programs compiled for accelerators that this machine does not have, and what their text shows."""

import importlib.util
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest

from dvaojax.plan.chips import parse_slice
from dvaojax.plan.described import slice_devices

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: pip install '.[plan]'",
)
needs_cuda_compiler = pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None,
    reason="JAX's CUDA plugin is not installed: pip install '.[plan-cuda]'",
)


def devices(topology: str) -> Sequence[Any]:
    """Devices such as those of "v5p:2x2x1" or "h100:1", as targets of compilation."""
    return slice_devices(parse_slice(topology))


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


def copies(program: Program, name: str, *, size: int) -> list[Instruction]:
    """The copies and transpositions of `size` elements, or a multiple, in a computation.

    Those in the computations that it calls count too. Reading an array into a
    TPU's fast memory, `S(1)`, is no copy.
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
                copied += copies(program, inner, size=size)
    return [i for i in copied if _largest(i.shape) and _largest(i.shape) % size == 0]


def _attributes(instruction: Instruction, *names: str) -> list[str]:
    """The computations that an instruction calls under these names of attributes."""
    pattern = rf"\b(?:{'|'.join(names)})=%?([\w.\-]+)"
    return re.findall(pattern, instruction.rest)


def _largest(shape: str) -> int:
    listed = re.findall(r"\[([\d,]+)\]", shape)
    return max((math.prod(map(int, sizes.split(","))) for sizes in listed), default=0)
