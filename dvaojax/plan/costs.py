"""The time of one instruction: by the TPU compiler's cycles, or by the peak rates of a GPU."""

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dvaojax.plan import kernels
from dvaojax.plan.collectives import Links
from dvaojax.plan.hlo import Computation, HloInstruction, HloModule, dimensions, size_of

Filled = Callable[[str], float]  # name of an operand -> share of it that is read


class Cost(NamedTuple):
    """Least cost of one execution of an instruction, without what it sends to other devices.

    Attributes:
        seconds: as the model of the device estimates them.
        kernels: launches.
    """

    seconds: float
    kernels: int


_UNKNOWN_CYCLES = 2**63 - 1  # written by the compiler if it has no estimate

# Matrix products per query and key in the kernels of splash attention.
_SPLASH_PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}
_FUSED = r"use_fused_bwd_kernel\": true"  # dkv computes dq as well
SPLASH_SHARE = 0.5  # of the peak rate, that the kernels are assumed to reach


class TpuCost(NamedTuple):
    """Cost on a TPU: the compiler's cycles, and for Pallas kernels, which have none, their bytes.

    Attributes:
        links: between the chips.
        clock: cycles per second.
        memory_bandwidth: bytes per second.
        flops: products per second at the peak.
        pairs: of a query and a visible key in one row of training attention, for splash attention,
            which is counted by its products at half of the peak rate.
    """

    links: Links
    clock: float
    memory_bandwidth: float
    flops: float
    pairs: float

    def cost(
        self, module: HloModule, here: Computation, instruction: HloInstruction, filled: Filled
    ) -> Cost:
        """The cost of an instruction other than control flow.

        Args:
            module: the program.
            here: the computation with the instruction.
            instruction: in it.
            filled: of an operand of a kernel that reads a cache as far as it is filled.
        """
        seconds = _cycles(module, instruction) / self.clock
        if 'custom_call_target="tpu_custom_call"' in instruction.rest:
            operands = [name for name in instruction.operands if name in here]
            read = sum(filled(name) * size_of(here[name].shape) for name in operands)
            moved = read + size_of(instruction.shape)
            shapes = (dimensions(here[name].shape) for name in operands)
            queries = max(shapes, key=lambda shape: (len(shape), math.prod(shape)), default=())
            arithmetic = self._splash_products(instruction, queries) / (SPLASH_SHARE * self.flops)
            seconds = max(moved / self.memory_bandwidth, arithmetic)
        return Cost(seconds, int(seconds > 0))

    def _splash_products(self, instruction: HloInstruction, queries: Sequence[int]) -> float:
        kernel = re.search(r"splash_m[hq]a_(fwd|dq|dkv)", instruction.rest)
        if kernel is None or len(queries) < 3:
            return 0.0
        *rows, _, width = queries  # [..., H, row, C]
        products = _SPLASH_PRODUCTS[kernel.group(1)]
        if kernel.group(1) == "dkv" and _FUSED in instruction.rest:
            products += 1
        return products * 2.0 * self.pairs * math.prod(rows) * width


class GpuCost(NamedTuple):
    """Cost on a GPU: the larger of a kernel's bytes and its products at the peak rates.

    Attributes:
        links: between the GPUs.
        memory_bandwidth: bytes per second.
        flops: products per second.
    """

    links: Links
    memory_bandwidth: float
    flops: float

    def cost(
        self, module: HloModule, here: Computation, instruction: HloInstruction, filled: Filled
    ) -> Cost:
        """The same as `TpuCost.cost`."""
        if not kernels.is_kernel(instruction):
            return Cost(0.0, 0)
        work = kernels.work(module, here, instruction)
        moved = work.moved
        if instruction.opcode == "custom-call":
            operands = [name for name in instruction.operands if name in here]
            moved -= sum((1.0 - filled(name)) * size_of(here[name].shape) for name in operands)
        return Cost(max(moved / self.memory_bandwidth, work.products / self.flops), 1)


CostModel = TpuCost | GpuCost


def _cycles(module: HloModule, instruction: HloInstruction) -> int:
    """The TPU compiler's estimate for one execution of an instruction; 0 if there is none.

    What starts in the background has none itself, but those inside of its computation have.
    """
    estimated = int(instruction.attribute(r'estimated_cycles":"(\d+)"') or 0)
    if estimated in (0, _UNKNOWN_CYCLES) and instruction.opcode in ("fusion", "async-start"):
        inside = (module.computations[name].values() for name in module.called(instruction))
        return sum(_cycles(module, each) for part in inside for each in part)
    return 0 if estimated == _UNKNOWN_CYCLES else estimated
