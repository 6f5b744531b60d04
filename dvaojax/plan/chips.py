"""TPU chips with their peak rates, and slices by name."""

import dataclasses
import math
import re
from collections.abc import Mapping

from dvaojax.devices import PEAKS
from dvaojax.errors import UserError, nearest

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One TPU chip.

    Attributes:
        name: as in names of topologies, "v5e".
        flops: peak floating-point operations per second of bfloat16 matrix products.
        memory_bandwidth: bytes per second read from or written to HBM.
        memory: bytes of HBM available to the compiler, less than the chip has.
        link_bandwidth: bytes per second that all links to other chips send together, one way.
        clock: cycles per second, the unit of the compiler's estimates.
        dimensions: of the torus that slices are parts of.
    """

    name: str
    flops: float
    memory_bandwidth: float
    memory: int
    link_bandwidth: float
    clock: float
    dimensions: int


# Interconnect bandwidth is from cloud.google.com/tpu/docs/v5e, /v5p and /v6e, where it is given in
# bits (1600, 4800 and 3200 Gbit/s). The available memory is the one that libtpu 0.0.42 reports if
# a program does not fit. The clock is the rate at which the matrix units reach the peak: v5e has 4
# of 128 x 128, v5p 8 of 128 x 128 and v6e 4 of 256 x 256, and every element of them makes two
# operations per cycle.
CHIPS: Mapping[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip("v5e", *PEAKS["TPU v5 lite"], int(15.75 * GIB), 200e9, 1.50e9, dimensions=2),
        Chip("v5p", *PEAKS["TPU v5"], int(95.74 * GIB), 600e9, 1.75e9, dimensions=3),
        Chip("v6e", *PEAKS["TPU v6 lite"], int(31.25 * GIB), 400e9, 1.75e9, dimensions=2),
    )
}

_LARGEST = {"v5e": (16, 16), "v5p": (16, 16, 24), "v6e": (16, 16)}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Connected chips of one kind.

    Attributes:
        chip: the kind of chip.
        shape: number of chips along each dimension of the torus.
    """

    chip: Chip
    shape: tuple[int, ...]

    @property
    def num_chips(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"


def parse_slice(text: str) -> Slice:
    """Parses the name of a slice, for example `v5p:4x4x4`.

    Raises:
        UserError: the chip or the slice does not exist; the message lists examples.
    """
    kind, _, sizes = text.partition(":")
    known = "v5e:4x4, v5p:4x4x4, v6e:8x8 and other shapes of these chips"
    if kind not in CHIPS:
        raise UserError(
            f"unknown topology {text!r}: the nearest chip is {nearest(kind, CHIPS)}; "
            f"known are {known}"
        )
    chip = CHIPS[kind]
    form = "x".join("N" * chip.dimensions)
    if not re.fullmatch(r"\d+(x\d+)*", sizes) or sizes.count("x") != chip.dimensions - 1:
        raise UserError(f"topology {text!r} is not {kind}:{form}; known are {known}")
    shape = tuple(map(int, sizes.split("x")))
    largest = _LARGEST[kind]
    fits = all(size <= limit for size, limit in zip(sorted(shape), largest, strict=True))
    if math.prod(shape) == 0 or not fits:
        raise UserError(
            f"topology {text!r} is not a slice of {kind}: the largest is "
            f"{kind}:{'x'.join(map(str, largest))}; known are {known}"
        )
    return Slice(chip, shape)
