"""Pareto fronts and hypervolumes against their definitions."""

import itertools

import numpy as np
import pytest

from dvaojax.evaluation import hypervolume, non_dominated


def dominated_by_definition(points):
    def beats(a, b):
        return all(x >= y for x, y in zip(a, b, strict=True)) and any(
            x > y for x, y in zip(a, b, strict=True)
        )

    return [any(beats(a, b) for a in points) for b in points]


def volume_by_cells(points, reference):
    """Sum over the cells of the grid of all coordinates that are covered by a point."""
    axes = [sorted({r, *(p[k] for p in points if p[k] > r)}) for k, r in enumerate(reference)]
    total = 0.0
    for corner in itertools.product(*(range(len(axis) - 1) for axis in axes)):
        upper = [axis[i + 1] for axis, i in zip(axes, corner, strict=True)]
        if any(all(x >= u for x, u in zip(p, upper, strict=True)) for p in points):
            total += np.prod([a[i + 1] - a[i] for a, i in zip(axes, corner, strict=True)])
    return total


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 4])
def test_front_and_hypervolume_match_their_definitions(num_objectives):
    rng = np.random.default_rng(num_objectives)
    for case in range(40):
        # Few distinct values, so that ties and duplicates are common.
        points = rng.integers(-3, 4, size=(rng.integers(1, 9), num_objectives)) / 2.0
        front = non_dominated(points)
        assert front.tolist() == [not dominated for dominated in dominated_by_definition(points)], (
            case
        )
        reference = np.full(num_objectives, -1.0)
        expected = volume_by_cells(points.tolist(), reference.tolist())
        np.testing.assert_allclose(hypervolume(points, reference), expected, atol=1e-12)
        np.testing.assert_allclose(hypervolume(points[front], reference), expected, atol=1e-12)


def test_larger_is_better():
    assert non_dominated(np.array([[0.9, 0.9], [0.1, 0.1]])).tolist() == [True, False]
    assert hypervolume(np.array([[0.5, 0.25]]), np.zeros(2)) == 0.125
    assert hypervolume(np.array([[-0.5, 9.0]]), np.zeros(2)) == 0.0


def test_empty_set_and_nan():
    assert non_dominated(np.zeros((0, 2))).shape == (0,)
    assert hypervolume(np.zeros((0, 2)), np.zeros(2)) == 0.0
    with pytest.raises(ValueError, match="finite"):
        non_dominated(np.array([[0.0, np.nan]]))
