"""One clear line, with the nearest right word."""

import pytest

from dvaojax.errors import UserError, import_extra, nearest


def test_the_nearest_word_is_always_one_of_the_choices():
    keys = ["optimizer.learning_rate", "optimizer.b1", "num_steps"]
    assert nearest("learning_rate", keys) == "optimizer.learning_rate"
    assert nearest("numsteps", keys) == "num_steps"
    assert nearest("zzz", keys) in keys
    assert nearest("x", []) is None


def test_a_missing_extra_is_named():
    assert import_extra("json", extra="none").loads("1") == 1
    with pytest.raises(UserError, match=r"^nowhere is not installed: pip install 'dvaojax\[hf\]'$"):
        import_extra("nowhere", extra="hf")
