"""Bytes and products of one kernel of a program compiled for a GPU.

A kernel reads its operands and writes its result once. Of an operand that is sliced, the slice is
read; of a result that is updated in place, the update is written.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from dvaojax.plan.hlo import (
    Computation,
    HloInstruction,
    HloModule,
    arrays,
    dimensions,
    root,
    size_of,
)


class Work(NamedTuple):
    """The least work of a kernel.

    Attributes:
        moved: bytes read and written.
        products: floating-point operations of matrix products, two per multiply-add.
    """

    moved: float
    products: float


_NO_KERNEL = {
    "parameter", "tuple", "get-tuple-element", "bitcast", "constant", "after-all", "iota",
    "partition-id", "replica-id", "opt-barrier", "optimization-barrier", "domain", "add-dependency",
}  # fmt: skip
_SLICES = ("dynamic-slice", "slice", "gather")
_IN_PLACE = {"dynamic-update-slice": 1, "scatter": 2}  # opcode -> index of the update
_MATRICES = ("__cublas$gemm", "__cublas$lt$matmul")
_FMHA = "__cudnn$fmha"


def is_kernel(instruction: HloInstruction) -> bool:
    """Whether the instruction runs on the device, unlike control flow and views of arrays."""
    opcode = instruction.opcode
    control_flow = ("while", "conditional", "call")
    return opcode not in _NO_KERNEL and opcode not in control_flow and not opcode.endswith("-done")


def work(module: HloModule, here: Computation, instruction: HloInstruction) -> Work:
    """Bytes and products of an instruction that `is_kernel`; of a collective, those it computes."""
    called = module.called(instruction)
    operands = [here[name].shape for name in instruction.operands if name in here]
    if instruction.opcode == "fusion" and called:
        return Work(_fusion_bytes(module.computations[called[0]]), _products(module, called[0]))
    if instruction.opcode.endswith("-start") and called:
        inside = module.computations[called[0]]
        parts = [work(module, inside, each) for each in inside.values() if is_kernel(each)]
        return Work(sum(p.moved for p in parts), sum(p.products for p in parts))
    if instruction.opcode == "dynamic-update-slice":
        return Work(2 * size_of(operands[1]), 0)
    if instruction.opcode in _SLICES:
        return Work(2 * size_of(instruction.shape), 0)
    if instruction.opcode == "custom-call":
        return _custom_call(instruction, operands)
    if instruction.opcode == "copy-start":  # its shape lists the copy, the original and a context
        return Work(2 * size_of(operands[0]) if operands else 0, 0)
    return Work(size_of(instruction.shape) + sum(map(size_of, operands)), 0)


def _custom_call(instruction: HloInstruction, operands: list[str]) -> Work:
    results = arrays(instruction.shape)
    if any(name in instruction.rest for name in _MATRICES) and operands:
        # The second result is a workspace.
        moved = size_of(results[0]) + sum(map(size_of, operands))
        return Work(moved, _contracted(instruction, results[0], operands[0]))
    moved = size_of(instruction.shape) + sum(map(size_of, operands))
    if _FMHA in instruction.rest and len(operands) >= 3:
        return Work(
            sum(map(size_of, operands)) + _without_workspace(results),
            _attention(instruction, operands),
        )
    return Work(moved, 0)


def _without_workspace(results: list[str]) -> int:
    return sum(size_of(shape) for shape in results if not shape.startswith("u8["))


def _contracted(instruction: HloInstruction, result: str, left: str) -> float:
    """Products of a matrix product by cuBLAS."""
    axes = instruction.attribute(r'"lhs_contracting_dimensions":\[([^\]]*)\]') or ""
    sizes = dimensions(left)
    inner = math.prod(sizes[int(axis)] for axis in re.findall(r"\d+", axes))
    return 2.0 * math.prod(dimensions(result)) * inner


def _attention(instruction: HloInstruction, operands: list[str]) -> float:
    """Products of attention by cuDNN: two forward, five backward; a causal one skips half."""
    (batch, queries, heads, width), (_, keys, *_) = map(dimensions, operands[:2])
    products = 5 if f"{_FMHA}SoftmaxBackward" in instruction.rest else 2
    visible = 0.5 if "CAUSAL" in instruction.rest else 1.0
    return products * 2.0 * batch * heads * queries * keys * width * visible


def _products(module: HloModule, name: str) -> float:
    """Products of a computation and of those that it calls."""
    here = module.computations[name]
    total = 0.0
    for each in here.values():
        if each.opcode == "dot":
            axes = each.attribute(r"lhs_contracting_dims=\{([\d,]*)\}") or ""
            left = dimensions(here[each.operands[0]].shape)
            inner = math.prod(left[int(axis)] for axis in axes.split(",") if axis)
            total += 2.0 * math.prod(dimensions(each.shape)) * inner
        elif each.opcode == "fusion":
            total += sum(_products(module, called) for called in module.called(each))
    return total


def _fusion_bytes(body: Computation) -> int:
    users: dict[str, list[HloInstruction]] = defaultdict(list)
    for each in body.values():
        for operand in each.operands:
            users[operand].append(each)
    parameters = [each for each in body.values() if each.opcode == "parameter"]
    last = root(body)
    results = [body[n] for n in last.operands] if last.opcode == "tuple" else [last]
    read = sum(_read(parameter, users) for parameter in parameters)
    return read + sum(_written(body, result) for result in results)


def _read(array: HloInstruction, users: Mapping[str, list[HloInstruction]]) -> int:
    """Bytes of an array that a fusion reads."""
    whole, total = size_of(array.shape), 0
    for user in users[array.name]:
        if user.opcode in _SLICES and user.operands[0] == array.name:
            total += size_of(user.shape)
        elif user.opcode == "bitcast":
            total += _read(user, users)
        elif user.opcode not in _IN_PLACE or user.operands[0] != array.name:
            total += whole
    return min(total, whole)


def _written(body: Computation, result: HloInstruction) -> int:
    """Bytes that a fusion writes of one of its results."""
    while result.opcode == "bitcast" and result.operands[0] in body:
        result = body[result.operands[0]]
    update = _IN_PLACE.get(result.opcode)
    if update is not None and result.operands[update] in body:
        return size_of(body[result.operands[update]].shape)
    return size_of(result.shape)
