"""TPU chips and GPUs with their peak rates, and slices of them by name."""

import dataclasses
import math
import re
from collections.abc import Mapping

from dvaojax.devices import PEAKS
from dvaojax.errors import UserError, nearest

KIB, MIB, GIB = 2**10, 2**20, 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device.

    Attributes:
        name: as in names of topologies, "v5e" or "h100".
        flops: peak floating-point operations per second of bfloat16 matrix products.
        memory_bandwidth: bytes per second read from or written to its memory.
        memory: bytes available to a program, less than the chip has.
        link_bandwidth: bytes per second that all links to other chips of its slice or host send
            together, one way.
    """

    name: str
    flops: float
    memory_bandwidth: float
    memory: int
    link_bandwidth: float


@dataclasses.dataclass(frozen=True)
class Tpu(Chip):
    """One TPU chip.

    Attributes:
        clock: cycles per second, the unit of the compiler's estimates.
        dimensions: of the torus that slices are parts of.
        slices_bandwidth: bytes per second that a chip can send to other slices, one way.
    """

    clock: float
    dimensions: int
    slices_bandwidth: float


@dataclasses.dataclass(frozen=True)
class Gpu(Chip):
    """One NVIDIA GPU, with what XLA needs to know to compile for it without having it.

    Attributes:
        hosts_bandwidth: bytes per second that the network cards of a GPU send to other hosts.
        per_host: GPUs of a host.
        kind: the name that the driver reports.
        capability: compute capability, major and minor.
        cores: number of multiprocessors.
        clock_ghz: boost clock.
        whole_memory: bytes that the driver reports.
        l2_cache: bytes.
        shared_memory: bytes of a multiprocessor; a block may have 1 KiB less.
    """

    hosts_bandwidth: float
    per_host: int
    kind: str
    capability: tuple[int, int]
    cores: int
    clock_ghz: float
    whole_memory: int
    l2_cache: int
    shared_memory: int


# Interconnect bandwidth is from cloud.google.com/tpu/docs/v5e, /v5p and /v6e, where it is given in
# bits (1600, 4800 and 3200 Gbit/s). The available memory is the one that libtpu 0.0.42 reports if
# a program does not fit. The clock is the rate at which the matrix units reach the peak: v5e has 4
# of 128 x 128, v5p 8 of 128 x 128 and v6e 4 of 256 x 256, and every element of them makes two
# operations per cycle. Between slices, the network of the data centre has 25, 50 and 100 Gbit/s per
# chip (of a pod of v5e or v6e with 256 chips: 6.4 and 25.6 Tbit/s).
TPUS: Mapping[str, Tpu] = {
    chip.name: chip
    for chip in (
        Tpu("v5e", *PEAKS["TPU v5 lite"], int(15.75 * GIB), 200e9, 1.50e9, 2, 3.125e9),
        Tpu("v5p", *PEAKS["TPU v5"], int(95.74 * GIB), 600e9, 1.75e9, 3, 6.25e9),
        Tpu("v6e", *PEAKS["TPU v6 lite"], int(31.25 * GIB), 400e9, 1.75e9, 2, 12.5e9),
    )
}

# Of the memory that the driver reports, what JAX reserves with XLA_PYTHON_CLIENT_MEM_FRACTION=0.95;
# the rest is for the driver, NCCL and cuBLAS. By default it reserves 0.75.
GPU_MEMORY_SHARE = 0.95


def _gpu(
    name: str, kind: str, capability: tuple[int, int], *, cores: int, clock_ghz: float, memory: int,
    l2_cache: int, shared_memory: int, link: float, network: float,
) -> Gpu:  # fmt: skip
    return Gpu(
        name,
        *PEAKS[kind],
        memory=int(GPU_MEMORY_SHARE * memory),
        link_bandwidth=link,
        hosts_bandwidth=network,
        per_host=8,
        kind=kind,
        capability=capability,
        cores=cores,
        clock_ghz=clock_ghz,
        whole_memory=memory,
        l2_cache=l2_cache,
        shared_memory=shared_memory,
    )


# From NVIDIA's data sheets and the driver. Links are NVLink one way, of L4 a PCIe 4.0 x16. Between
# hosts, each GPU has a network card of 400 Gbit/s (A100: 200; eight L4 share one of 100).
GPUS: Mapping[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        _gpu(
            "a100", "NVIDIA A100-SXM4-80GB", (8, 0), cores=108, clock_ghz=1.41,
            memory=84_987_740_160, l2_cache=40 * MIB, shared_memory=164 * KIB,
            link=300e9, network=25e9,
        ),
        _gpu(
            "l4", "NVIDIA L4", (8, 9), cores=58, clock_ghz=2.04,
            memory=23_609_475_072, l2_cache=48 * MIB, shared_memory=100 * KIB,
            link=32e9, network=1.5e9,
        ),
        _gpu(
            "h100", "NVIDIA H100", (9, 0), cores=132, clock_ghz=1.98,
            memory=84_929_347_584, l2_cache=50 * MIB, shared_memory=228 * KIB,
            link=450e9, network=50e9,
        ),
        _gpu(
            "h200", "NVIDIA H200", (9, 0), cores=132, clock_ghz=1.98,
            memory=150_110_011_392, l2_cache=50 * MIB, shared_memory=228 * KIB,
            link=450e9, network=50e9,
        ),
        _gpu(
            "b200", "NVIDIA B200", (10, 0), cores=148, clock_ghz=1.96,
            memory=191_504_056_320, l2_cache=126 * MIB, shared_memory=228 * KIB,
            link=900e9, network=50e9,
        ),
    )
}  # fmt: skip

CHIPS: Mapping[str, Tpu | Gpu] = {**TPUS, **GPUS}

_LARGEST = {"v5e": (16, 16), "v5p": (16, 16, 24), "v6e": (16, 16)}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Connected chips of one kind, or several equal slices of TPUs, connected by a slower network.

    Attributes:
        chip: the kind of chip.
        shape: number of TPU chips along each dimension of the torus; hosts, and GPUs of a host.
        count: number of slices; 1 for GPUs.
    """

    chip: Tpu | Gpu
    shape: tuple[int, ...]
    count: int = 1

    @property
    def num_chips(self) -> int:
        """Number of chips of all slices."""
        return self.count * math.prod(self.shape)

    @property
    def name(self) -> str:
        """The name of one slice, as libtpu knows it."""
        is_one_host = isinstance(self.chip, Gpu) and self.shape[0] == 1
        sizes = self.shape[1:] if is_one_host else self.shape
        return f"{self.chip.name}:{'x'.join(map(str, sizes))}"

    def __str__(self) -> str:
        return self.name if self.count == 1 else f"{self.count}x{self.name}"


_KNOWN = (
    "v5e:4x4, v5p:4x4x4, v6e:8x8 and other shapes of these chips, several slices such as "
    "2xv5p:4x4x4, and GPUs such as h100:1, h100:8 "
    f"and h100:2x8 (two hosts): {', '.join(GPUS)}"
)


def parse_slice(text: str) -> Slice:
    """Parses the name of a slice: `v5p:4x4x4`, or `h100:8`, or `h100:2x8` for two hosts of eight.

    `2xv5p:4x4x4` are two slices.

    Raises:
        UserError: the chip or the slice does not exist; the message lists examples.
    """
    several = re.fullmatch(r"([1-9]\d*)x(.*)", text)
    count, name = (int(several.group(1)), several.group(2)) if several else (1, text)
    kind, _, sizes = name.partition(":")
    if kind not in CHIPS:
        raise UserError(
            f"unknown topology {text!r}: the nearest chip is {nearest(kind, CHIPS)}; "
            f"known are {_KNOWN}"
        )
    chip = CHIPS[kind]
    shape = tuple(map(int, sizes.split("x"))) if re.fullmatch(r"\d+(x\d+)*", sizes) else ()
    if isinstance(chip, Tpu):
        return Slice(chip, _tpu_shape(text, chip, shape), count)
    if several:
        raise UserError(f"topology {text!r}: write several hosts of GPUs as {kind}:{count}x{sizes}")
    return Slice(chip, _gpus(text, shape))


def _tpu_shape(text: str, chip: Tpu, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != chip.dimensions:
        form = "x".join("N" * chip.dimensions)
        raise UserError(f"topology {text!r} is not {chip.name}:{form}; known are {_KNOWN}")
    largest = _LARGEST[chip.name]
    fits = all(size <= limit for size, limit in zip(sorted(shape), largest, strict=True))
    if math.prod(shape) == 0 or not fits:
        raise UserError(
            f"topology {text!r} is not a slice of {chip.name}: the largest is "
            f"{chip.name}:{'x'.join(map(str, largest))}; known are {_KNOWN}"
        )
    return shape


def _gpus(text: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Hosts, and GPUs of each."""
    if len(shape) not in (1, 2) or math.prod(shape) == 0:
        kind = text.partition(":")[0]
        raise UserError(
            f"topology {text!r} is neither {kind}:GPUS nor {kind}:HOSTSxGPUS; known are {_KNOWN}"
        )
    hosts, gpus = shape if len(shape) == 2 else (1, shape[0])
    per_host = GPUS[text.partition(":")[0]].per_host
    if gpus > per_host:
        raise UserError(
            f"topology {text!r} has {gpus} GPUs in a host, which has at most {per_host}; "
            f"write {text.partition(':')[0]}:HOSTSx{per_host} for several hosts"
        )
    return hosts, gpus
