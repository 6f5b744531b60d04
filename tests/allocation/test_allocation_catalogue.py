"""The catalogue is true: each property is measured, on problems that differ in one thing."""

import numpy as np
import pytest

from dvaojax import allocation
from dvaojax.allocation import Statistics
from dvaojax.allocation.catalogue import CATALOGUE

SUCCESS = np.linspace(0.02, 0.98, 25)
WEIGHTS = np.ones(1)


@pytest.fixture(params=list(CATALOGUE))
def name(request):
    return request.param


def seen(success=SUCCESS, spread=1.0, norm=1.0):
    """A thousand completions of each problem, with rewards of 0 and 1 where nothing is said."""
    count = np.full(len(SUCCESS), 1000.0)
    success = np.broadcast_to(success, count.shape)
    squares = count * success * (1 - success) * spread
    arrays = (count[:, None], success[:, None], squares[:, None], count, success * norm)
    return Statistics(*(np.asarray(array, np.float32) for array in arrays))


def completions(name, statistics):
    rule = getattr(allocation, name)
    return rule(statistics, WEIGHTS, budget=10_000, floor=1, cap=10_000)


def test_which_problems_get_the_most(name):
    most = SUCCESS[np.argmax(completions(name, seen()))]
    assert CATALOGUE[name].most == ("half" if 0.4 < most < 0.6 else "rarely" if most < 0.1 else "")


def test_what_it_looks_at(name):
    alike = seen(0.5)
    others = {
        "spread": seen(0.5, spread=np.linspace(0.5, 1, 25)),
        "success": seen()._replace(squares=alike.squares, gradient=alike.gradient),
        "gradients": seen(0.5, norm=np.linspace(0.5, 1, 25)),
    }
    before = completions(name, alike)
    changes = [what for what, after in others.items() if (completions(name, after) != before).any()]
    assert CATALOGUE[name].looks_at == changes[-1]


def test_every_rule_that_a_run_can_name_has_a_row_but_the_one_without_a_paper():
    assert set(allocation.BY_NAME) - set(CATALOGUE) == {"uniform"}
    assert all(callable(getattr(allocation, name)) for name in CATALOGUE)
