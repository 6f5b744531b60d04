"""Model FLOPs utilisation: the model FLOPs of a step, and the peak of the devices."""

from collections.abc import Sequence
from typing import Any

from dvaojax import aggregators
from dvaojax.config import Config
from dvaojax.devices import peak_of
from dvaojax.models import flops
from dvaojax.models.flops import Lengths


def step_flops(config: Config, lengths: Lengths) -> int:
    """Model FLOPs of a step: sampling, training, and extra forward passes over the experience.

    An extra forward pass computes the log-probabilities of the reference policy, for importance
    weights those of the policy before the update, or the gradient norms that the aggregator or the
    allocation needs, each by a pass of its own.
    """
    model = config.model
    sampling = flops.prefill_flops(model, lengths) + flops.decode_flops(model, lengths)
    learning = config.learning.epochs * flops.train_flops(model, lengths)
    needs = aggregators.needs_of(aggregators.find(config.aggregator.name))
    needs_norms = not set(needs).isdisjoint(aggregators.NORMS)
    extra_passes = sum(
        (
            config.loss.needs_reference,
            config.loss.importance_cap > 0.0,
            needs_norms,
            config.allocation.measures_gradients,
        )
    )
    return sampling + learning + extra_passes * flops.forward_flops(model, lengths)


def peak_flops(devices: Sequence[Any]) -> float | None:
    """Total peak FLOP/s of the devices; None where the peak of a device kind is not known."""
    peaks = [peak_of(device.device_kind) for device in devices]
    known = [peak.flops_per_second for peak in peaks if peak is not None]
    return sum(known) if known and len(known) == len(peaks) else None
