"""How much of the devices' arithmetic a step's model products took."""

from collections.abc import Sequence
from typing import Any

from dvaojax.config import Config
from dvaojax.devices import peak_of
from dvaojax.models import flops
from dvaojax.models.flops import Lengths


def step_flops(config: Config, lengths: Lengths) -> int:
    """Model FLOPs of a step: sampling, passes over the experience, and a reference's look at it."""
    model = config.model
    sampling = flops.prefill_flops(model, lengths) + flops.decode_flops(model, lengths)
    learning = config.learning.epochs * flops.train_flops(model, lengths)
    looks = sum((config.loss.kl_weight > 0.0, config.loss.importance_cap > 0.0))
    return sampling + learning + looks * flops.forward_flops(model, lengths)


def peak_flops(devices: Sequence[Any]) -> float | None:
    """FLOP/s of all the devices together; None where the peak of their kind is not known."""
    peaks = [peak_of(device.device_kind) for device in devices]
    known = [peak.flops_per_second for peak in peaks if peak is not None]
    return sum(known) if known and len(known) == len(peaks) else None
