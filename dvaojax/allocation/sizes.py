"""Integers in proportion to scores, between a floor and a cap, with an exact sum."""

import itertools

import numpy as np


def require_budget(budget: int, *, count: int, floor: int, cap: int) -> None:
    """Raises ValueError if a budget cannot be divided into `count` sizes from `floor` to `cap`."""
    if not 0 <= floor <= cap or not count * floor <= budget <= count * cap:
        raise ValueError(
            f"a budget of {budget} cannot be divided into {count} groups of {floor} to {cap}"
        )


def allocate(scores: np.ndarray, budget: int, *, floor: int, cap: int) -> np.ndarray:
    r"""The budget divided in proportion to the scores, subject to floor and cap.

    The shares are $\operatorname{clip}(\lambda s_i, floor, cap)$ with the $\lambda$ for which they
    sum to the budget. For $s_i = \sigma_i$ they minimise $\sum_i \sigma_i^2 / n_i$ under the same
    bounds: between them the marginal gain $\sigma_i^2 / n_i^2$ is equal. They are then rounded by
    the largest-remainder method: every share is rounded down, and the rest is given, one each,
    to the largest fractions, the first of equal ones first.

    Not to be confused with: giving the floor to every prompt and dividing the *rest* in proportion,
    as `dynamo` does, which gives less to a prompt with a large score.

    Args:
        scores: `[B]`, finite and not negative. A prompt with score 0 gets the floor, and more only
            if every other prompt has the cap. If all are 0, they count as equal.
        budget: sum of the sizes.
        floor: the smallest size.
        cap: the largest size.

    Returns:
        `[B]` int64.

    Raises:
        ValueError: a score is negative or not finite, the scores are not one axis, or the budget
            lies outside the bounds.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1:
        raise ValueError(f"scores has shape {list(scores.shape)}; it should be [B]")
    count = len(scores)
    if not (np.isfinite(scores).all() and (scores >= 0).all()):
        raise ValueError(f"scores must be finite and not negative: {scores}")
    require_budget(budget, count=count, floor=floor, cap=cap)
    has_score = scores > 0
    num_scores = int(has_score.sum())
    for_scores = min(budget - floor * (count - num_scores), cap * num_scores)
    sizes = np.empty(count, np.int64)
    sizes[has_score] = _in_proportion(scores[has_score], for_scores, floor, cap)
    equal = np.ones(count - num_scores)
    sizes[~has_score] = _in_proportion(equal, budget - for_scores, floor, cap)
    return sizes


def _in_proportion(scores: np.ndarray, budget: int, floor: int, cap: int) -> np.ndarray:
    """`allocate` for positive scores."""
    if not len(scores):
        return np.zeros(0, np.int64)
    scores = np.maximum(scores / scores.max(), np.finfo(np.float64).tiny ** 0.5)
    breakpoints = np.sort(np.concatenate([floor / scores, cap / scores]))
    totals = np.array([np.clip(point * scores, floor, cap).sum() for point in breakpoints])
    # The total is piecewise linear between the points where shares reach a bound.
    shares = np.clip(np.interp(budget, totals, breakpoints) * scores, floor, cap)
    return largest_remainder(shares, budget, cap=cap)


def largest_remainder(shares: np.ndarray, budget: int, *, cap: int) -> np.ndarray:
    """Shares that sum to the budget up to rounding, as integers that do so exactly.

    Args:
        shares: `[B]`, each at most `cap`.
        budget: sum of the integers.
        cap: upper bound of each integer.

    Returns:
        `[B]` int64, each its share rounded down or up.
    """
    sizes = np.floor(shares).astype(np.int64)
    by_fraction = np.argsort(sizes - shares, kind="stable")
    below_cap = [i for i in by_fraction if sizes[i] < cap]
    sizes[list(itertools.islice(below_cap, max(budget - int(sizes.sum()), 0)))] += 1
    return sizes
