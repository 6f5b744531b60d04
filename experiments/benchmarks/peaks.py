"""What accelerators can do by their data sheets: bfloat16 matrix products and memory.

Dense products, without sparsity; per device as JAX counts them. A measured product stays some way
below its peak, so a share of the peak is stricter than one of a measured ceiling.
"""

from ceilings import Ceilings

# The beginning of a device's kind as JAX names it; the first that fits counts.
PEAKS: dict[str, Ceilings] = {
    "NVIDIA H200": Ceilings(989.4e12, 4.8e12),
    "NVIDIA H100 PCIe": Ceilings(756e12, 2.0e12),
    "NVIDIA H100": Ceilings(989.4e12, 3.35e12),
    "NVIDIA B200": Ceilings(2250e12, 8.0e12),
    "NVIDIA A100-SXM4-80GB": Ceilings(312e12, 2.039e12),
    "NVIDIA A100 80GB PCIe": Ceilings(312e12, 1.935e12),
    "NVIDIA A100": Ceilings(312e12, 1.555e12),
    "NVIDIA L40S": Ceilings(362e12, 0.864e12),
    "TPU v4": Ceilings(275e12, 1.228e12),
    "TPU v5 lite": Ceilings(197e12, 0.819e12),
    "TPU v5": Ceilings(459e12, 2.765e12),
    "TPU v6 lite": Ceilings(918e12, 1.64e12),
}


def peak(device_kind: str) -> Ceilings | None:
    """The data sheet's limits, or None for a device that is not in the table."""
    return next((PEAKS[name] for name in PEAKS if device_kind.startswith(name)), None)
