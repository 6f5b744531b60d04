"""The table of allocation rules: each property is measured on problems that differ in one way."""

import numpy as np
import pytest

from dvaojax import allocation
from dvaojax.allocation import ROWS, ProblemStatistics

SUCCESS = np.linspace(0.02, 0.98, 25)
WEIGHTS = np.ones(1)


@pytest.fixture(params=list(ROWS))
def name(request):
    return request.param


def statistics_of(success=SUCCESS, spread=1.0, norm=1.0, alignment=0.0):
    """Statistics of 1000 completions of each problem, by default with rewards of 0 and 1."""
    count = np.full(len(SUCCESS), 1000.0)
    success = np.broadcast_to(success, count.shape)
    squares = count * success * (1 - success) * spread
    arrays = (count[:, None], success[:, None], squares[:, None], count, success * norm)
    aligned = [np.broadcast_to(alignment, count.shape)] * 2 + [np.ones_like(count)]
    return ProblemStatistics(*(np.asarray(array, np.float32) for array in (*arrays, *aligned)))


def completions(name, statistics):
    rule = getattr(allocation, name)
    return rule(statistics, WEIGHTS, budget=10_000, floor=1, cap=10_000)


def test_problems_with_most_completions(name):
    numbers = completions(name, statistics_of())
    most = SUCCESS[np.argmax(numbers)]
    measured = "half" if 0.4 < most < 0.6 else "rarely" if most < 0.1 else ""
    if ROWS[name].looks_at == "alignment":
        numbers = completions(name, statistics_of(alignment=np.sin(np.arange(25))))
        measured = "aligned" if np.argmax(numbers) == np.argmax(np.sin(np.arange(25))) else ""
    assert ROWS[name].most == ("none" if np.ptp(numbers) == 0 else measured)


def test_statistic_that_a_rule_depends_on(name):
    equal = statistics_of(0.5)
    others = {
        "spread": statistics_of(0.5, spread=np.linspace(0.5, 1, 25)),
        "success": statistics_of()._replace(squares=equal.squares, gradient=equal.gradient),
        "gradients": statistics_of(0.5, norm=np.linspace(0.5, 1, 25)),
        "alignment": statistics_of(0.5, alignment=np.linspace(-1, 1, 25)),
    }
    before = completions(name, equal)
    changes = [what for what, after in others.items() if (completions(name, after) != before).any()]
    assert ROWS[name].looks_at == (changes or ["nothing"])[-1]


def test_names_are_exported_and_a_run_selects_every_rule():
    assert set(ROWS) == set(allocation.BY_NAME)
    assert all(callable(getattr(allocation, name)) for name in ROWS)
