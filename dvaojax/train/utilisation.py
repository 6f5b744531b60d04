"""How much of the devices' arithmetic a step's model products took."""

from collections.abc import Sequence
from typing import Any

from dvaojax.config import Config
from dvaojax.models import flops
from dvaojax.models.flops import Lengths

# Dense bfloat16 products, FLOP/s of one JAX device, as their makers state them.
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}


def step_flops(config: Config, lengths: Lengths) -> int:
    """Model FLOPs of a step: its sampling, its passes over the experience, and its reference's."""
    model = config.model
    sampling = flops.prefill_flops(model, lengths) + flops.decode_flops(model, lengths)
    learning = config.learning.epochs * flops.train_flops(model, lengths)
    reference = flops.forward_flops(model, lengths) if config.loss.kl_weight > 0.0 else 0
    return sampling + learning + reference


def peak_flops(devices: Sequence[Any]) -> float | None:
    """FLOP/s of all the devices together; None where the peak of their kind is not known."""
    peaks = [PEAK_FLOPS.get(device.device_kind) for device in devices]
    known = [peak for peak in peaks if peak is not None]
    return sum(known) if known and len(known) == len(peaks) else None
