"""Significance of paired differences, corrected for the number of comparisons."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from dvaojax import numerics


def paired_p_value(differences: np.ndarray) -> float:
    r"""Two-sided p-value of Student's t-test that the mean of paired differences is 0.

    $$ t = \frac{\bar d}{s / \sqrt{n}}, \qquad s^2 = \frac{1}{n - 1} \sum_i (d_i - \bar d)^2 $$

    Args:
        differences: `[N]` one number per pair, such as the results of two methods with one seed.

    Returns:
        A number in [0, 1]; 1 for fewer than two pairs, and where all differences are 0.

    Raises:
        ValueError: a difference is not finite.
        AssertionError: the differences have more than one axis.
    """
    values = np.asarray(differences, np.float64)
    numerics.require_axes("differences", values, (1,), axes="[N]")
    if not np.isfinite(values).all():
        raise ValueError(f"a comparison needs finite differences, got {values}")
    if values.size < 2 or not values.any():
        return 1.0
    error = values.std(ddof=1) / np.sqrt(values.size)
    if error == 0:
        return 0.0
    return float(2 * stats.t.sf(abs(values.mean()) / error, values.size - 1))


def holm(p_values: ArrayLike) -> np.ndarray:
    r"""P-values adjusted for their number by Holm's step-down method (Holm, 1979).

    $$ \tilde p_{(i)} = \max_{j \le i} \min\bigl(1, (m - j + 1)\, p_{(j)}\bigr) $$

    for the m values in ascending order. If the hypotheses whose adjusted value is below a level are
    rejected, the probability of rejecting at least one that is true is at most that level, for any
    dependence between the tests.

    Args:
        p_values: `[m]`.

    Returns:
        `[m]`, in the order of the arguments.
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    factors = values.size - np.arange(values.size)
    adjusted = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
    result = np.empty_like(values)
    result[order] = adjusted
    return result
