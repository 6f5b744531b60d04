"""Peak rates are looked up by the longest matching prefix of the device kind."""

import pytest

from dvaojax.devices import PEAKS, peak_of


@pytest.mark.parametrize(
    ("kind", "flops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v6 lite", 918e12),
    ],
)
def test_a_device_has_the_peak_of_its_kind(kind, flops):
    peak = peak_of(kind)
    assert peak is not None
    assert peak.flops_per_second == flops


def test_a_name_is_not_matched_by_a_shorter_one():
    for kind, peak in PEAKS.items():
        assert peak_of(kind) is peak


def test_an_unknown_device_has_no_peak():
    assert peak_of("cpu") is None
