"""Pareto fronts and hypervolumes, computed by moocore.

Larger is better on every objective; negate costs.
"""

import moocore
import numpy as np

from dvaojax import numerics


def non_dominated(points: np.ndarray) -> np.ndarray:
    """The Pareto front of a set of points.

    A point is dominated by another that is at least as good on every objective and better on one.
    Equal points do not dominate each other: either all of them are on the front or none.

    Args:
        points: `[N, K]` one row per policy, larger is better.

    Returns:
        `[N]` bool, true on the front.

    Raises:
        ValueError: a value is not finite.
        AssertionError: the points do not have two axes.
    """
    points = _checked(points)
    if not len(points):
        return np.zeros(0, bool)
    return np.asarray(moocore.is_nondominated(points, maximise=True, keep_weakly=True), bool)


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """Volume of the region dominated by the points, above a reference (Zitzler and Thiele, 1999).

    It grows with every point added to the front. It depends on the units of the objectives and on
    the reference, so only values with the same reference are comparable.

    Args:
        points: `[N, K]` one row per policy, larger is better. A point that is not better than the
            reference on every objective contributes nothing.
        reference: `[K]` a lower bound for each objective.

    Returns:
        The volume, in the product of the objectives' units.

    Raises:
        ValueError: a value is not finite.
        AssertionError: the shapes do not fit.
    """
    points, reference = _checked(points), np.asarray(reference, np.float64)
    numerics.require_shape("reference", reference, points.shape[1:], axes="[K]", like="points")
    inside = points[(points > reference).all(axis=1)]
    if not len(inside):
        return 0.0
    return float(moocore.hypervolume(inside, ref=reference, maximise=True))


def _checked(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, np.float64)
    numerics.require_axes("points", points, (2,), axes="[N, K]")
    if not np.isfinite(points).all():
        raise ValueError("a Pareto front needs finite values")
    return points
