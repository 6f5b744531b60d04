"""Names of slices: valid ones, and error messages for invalid ones."""

import pytest

from dvaojax.devices import peak_of
from dvaojax.errors import UserError
from dvaojax.plan.chips import GPUS, TPUS, parse_slice


@pytest.mark.parametrize(
    ("text", "chips"),
    [
        *(
            ("v5p:4x4x4", 64),
            ("v5e:2x4", 8),
            ("v6e:16x16", 256),
            ("v5p:2x2x1", 4),
            ("2xv5e:4x4", 32),
        ),
        *(("h100:1", 1), ("h200:8", 8), ("h100:2x8", 16), ("l4:4", 4), ("b200:16x8", 128)),
    ],
)
def test_slice_name_round_trip(text, chips):
    slice = parse_slice(text)
    assert slice.num_chips == chips
    assert str(slice) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v5:4x4", "unknown topology 'v5:4x4': the nearest chip is v5"),
        ("h10", "unknown topology 'h10': the nearest chip is h100"),
        ("h100", "is neither h100:GPUS nor h100:HOSTSxGPUS"),
        ("h100:1x1x8", "is neither h100:GPUS nor h100:HOSTSxGPUS"),
        ("a100:0", "is neither a100:GPUS nor"),
        ("h100:16", "has 16 GPUs in a host, which has at most 8; write h100:HOSTSx8"),
        ("v5p:4x4", "is not v5p:NxNxN"),
        ("v5e:4x4x4", "is not v5e:NxN"),
        ("v6e", "is not v6e:NxN"),
        ("v6e:8x", "is not v6e:NxN"),
        ("v6e:0x4", "the largest is v6e:16x16"),
        ("v5e:16x32", "the largest is v5e:16x16"),
        ("2xv5e:16x32", "the largest is v5e:16x16"),
        ("0xv5e:4x4", "unknown topology '0xv5e:4x4'"),
        ("2xh100:8", "write several hosts of GPUs as h100:2x8"),
    ],
)
def test_rejects_unknown_slices_and_lists_examples(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_slice(text)
    assert "v5p:4x4x4" in str(caught.value) or "h100:" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_clock_times_matrix_units_is_peak_rate():
    """Two operations per element of each unit and cycle, within the rounding of both."""
    elements = {"v5e": 4 * 128**2, "v5p": 8 * 128**2, "v6e": 4 * 256**2}
    for name, chip in TPUS.items():
        assert 2 * elements[name] * chip.clock == pytest.approx(chip.flops, rel=0.01)


def test_gpus_have_the_peaks_and_the_memory_of_their_data_sheets():
    sizes = {"a100": 80, "l4": 24, "h100": 80, "h200": 141, "b200": 180}
    assert set(sizes) == set(GPUS)
    for name, gpu in GPUS.items():
        assert gpu.memory < gpu.whole_memory < 1.1 * sizes[name] * 1e9
        assert gpu.whole_memory > 0.95 * sizes[name] * 1e9
        assert peak_of(gpu.kind) == (gpu.flops, gpu.memory_bandwidth)
