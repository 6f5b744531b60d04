"""Peak FLOP/s and memory bandwidth of accelerators, from their data sheets."""

from collections.abc import Mapping
from typing import NamedTuple


class Peak(NamedTuple):
    """Peak rates of one device, as JAX counts devices.

    Measured matrix products and copies reach somewhat less, so a fraction of the peak is a stricter
    figure than a fraction of a measured maximum.

    Attributes:
        flops_per_second: dense matrix products in bfloat16, two operations per multiply-add.
            Not to be confused with the figure for sparse matrices, which is twice as high.
        bytes_per_second: memory bandwidth, reads and writes together.
    """

    flops_per_second: float
    bytes_per_second: float


# Prefix of JAX's `device_kind` -> peak. The first matching prefix is used, so a longer name must
# come before a shorter one that it begins with.
PEAKS: Mapping[str, Peak] = {
    "NVIDIA H200": Peak(989.4e12, 4.8e12),
    "NVIDIA H100 PCIe": Peak(756e12, 2.0e12),
    "NVIDIA H100": Peak(989.4e12, 3.35e12),
    "NVIDIA B200": Peak(2250e12, 8.0e12),
    "NVIDIA A100-SXM4-80GB": Peak(312e12, 2.039e12),
    "NVIDIA A100 80GB PCIe": Peak(312e12, 1.935e12),
    "NVIDIA A100": Peak(312e12, 1.555e12),
    "NVIDIA L40S": Peak(362e12, 0.864e12),
    "NVIDIA L4": Peak(121e12, 0.3e12),
    "TPU v4": Peak(275e12, 1.228e12),
    "TPU v5 lite": Peak(197e12, 0.819e12),
    "TPU v5": Peak(459e12, 2.765e12),
    "TPU v6 lite": Peak(918e12, 1.6e12),
}


def peak_of(device_kind: str) -> Peak | None:
    """The peak rates of a kind of device; None if it is not in the table."""
    return next((PEAKS[name] for name in PEAKS if device_kind.startswith(name)), None)
