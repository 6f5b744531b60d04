"""Errors of one clear line, with the nearest valid word."""

import pytest

from dvaojax.errors import UserError, import_extra, nearest


def test_nearest_is_one_of_the_choices():
    keys = ["optimizer.learning_rate", "optimizer.b1", "num_steps"]
    assert nearest("learning_rate", keys) == "optimizer.learning_rate"
    assert nearest("numsteps", keys) == "num_steps"
    assert nearest("zzz", keys) in keys
    assert nearest("x", []) is None


def test_import_extra_names_the_missing_extra():
    assert import_extra("json", extra="none").loads("1") == 1
    with pytest.raises(UserError, match=r"^nowhere is not installed: pip install 'dvaojax\[hf\]'$"):
        import_extra("nowhere", extra="hf")
