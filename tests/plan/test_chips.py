"""Names of slices: valid ones, and error messages for invalid ones."""

import pytest

from dvaojax.errors import UserError
from dvaojax.plan.chips import CHIPS, parse_slice


@pytest.mark.parametrize(
    ("text", "chips"), [("v5p:4x4x4", 64), ("v5e:2x4", 8), ("v6e:16x16", 256), ("v5p:2x2x1", 4)]
)
def test_slice_name_round_trip(text, chips):
    slice = parse_slice(text)
    assert slice.num_chips == chips
    assert str(slice) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v5:4x4", "unknown topology 'v5:4x4': the nearest chip is v5"),
        ("h100", "unknown topology 'h100'"),
        ("v5p:4x4", "is not v5p:NxNxN"),
        ("v5e:4x4x4", "is not v5e:NxN"),
        ("v6e", "is not v6e:NxN"),
        ("v6e:8x", "is not v6e:NxN"),
        ("v6e:0x4", "the largest is v6e:16x16"),
        ("v5e:16x32", "the largest is v5e:16x16"),
    ],
)
def test_rejects_unknown_slices_and_lists_examples(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_slice(text)
    assert "v5p:4x4x4" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_clock_times_matrix_units_is_peak_rate():
    """Two operations per element of each unit and cycle, within the rounding of both."""
    elements = {"v5e": 4 * 128**2, "v5p": 8 * 128**2, "v6e": 4 * 256**2}
    for name, chip in CHIPS.items():
        assert 2 * elements[name] * chip.clock == pytest.approx(chip.flops, rel=0.01)
