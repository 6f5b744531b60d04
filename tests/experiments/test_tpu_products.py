"""Shares of the peak rate that the compiler for TPUs estimates for single products."""

import pytest
import tpu_products
from compiled_text import needs_libtpu

from dvaojax.errors import UserError


@needs_libtpu
@pytest.mark.slow
def test_shares_are_those_of_time_at_the_peak():
    once, twice = (
        tpu_products.share_of_peak("v5p:2x2x1", (rows, 4096, 4096)) for rows in (8192, 16_384)
    )
    assert 0.7 < once <= 1.0
    assert twice == pytest.approx(once, rel=0.1)


def test_a_missing_compiler_is_one_line(monkeypatch, capsys):
    def missing(topology):
        raise UserError("libtpu is not installed: pip install '.[plan]'")

    monkeypatch.setattr(tpu_products, "slice_devices", missing)
    assert tpu_products.main() == 2
    captured = capsys.readouterr()
    assert captured.err == "tpu_products.py: libtpu is not installed: pip install '.[plan]'\n"
    assert captured.out == ""
