"""Confidence intervals of means over problems."""

from typing import NamedTuple

import numpy as np

from dvaojax import numerics

_DRAWS_AT_ONCE = 1 << 20


class Interval(NamedTuple):
    """A mean with a confidence interval.

    Attributes:
        mean: of the values.
        low: lower end.
        high: upper end.
    """

    mean: float
    low: float
    high: float


def bootstrap_mean(
    values: np.ndarray, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean with its percentile bootstrap interval (Efron, 1979).

    It quantifies the variation over *problems*.

    Not to be confused with: the variation over training seeds, which cannot be estimated by
    resampling one run.

    Args:
        values: `[N]` one number per problem; average several completions of one problem first,
            because they are not independent.
        confidence: share of resampled means inside the interval, in (0, 1).
        resamples: number of bootstrap samples of size `N`.
        seed: of the resampling; the same seed gives the same interval.

    Raises:
        ValueError: there are no values, or a value is not finite.
        AssertionError: the values have more than one axis.
    """
    values = np.asarray(values, np.float64)
    numerics.require_axes("values", values, (1,), axes="[N]")
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f"a mean needs finite values, got {values}")
    rng = np.random.default_rng(seed)
    # In chunks, to bound the memory for large datasets.
    rows = max(1, _DRAWS_AT_ONCE // values.size)
    sizes = [min(rows, resamples - done) for done in range(0, resamples, rows)]
    drawn = [rng.choice(values, (size, values.size)).mean(axis=1) for size in sizes]
    means = np.concatenate(drawn)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(values.mean()), float(low), float(high))
