"""GradAlign: problems whose gradients agree with those of trusted ones (arXiv 2602.21492)."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from dvaojax.allocation.sizes import require_budget
from dvaojax.allocation.statistics import ProblemStatistics, success
from dvaojax.errors import suggest

Evidence = Literal["trusted", "gradients", "rewards", "nothing"]

MODES: Mapping[str, Evidence] = {
    "sim": "trusted",
    "dot": "trusted",
    "simacc": "trusted",
    "negsim": "trusted",
    "align": "gradients",
    "norm": "gradients",
    "accgreedy": "rewards",
    "acc": "rewards",
    "rand": "nothing",
}
"""The modes, and what each is about: the gradients of trusted problems and of the candidates,
those of the candidates alone, or the candidates' rewards."""


def gradalign(
    statistics: ProblemStatistics,
    weights: np.ndarray,
    *,
    budget: int,
    floor: int,
    cap: int,
    mode: str = "sim",
    low: float = 0.2,
    high: float = 0.8,
) -> np.ndarray:
    r"""As many completions as possible for the problems of the highest scores.

    $$ s_j = \cos(g_j, g_V)
           = \frac{\langle g_j, g_V \rangle}{\lVert g_j \rVert \lVert g_V \rVert} $$

    with $g_j$ the policy gradient of candidate $j$ and $g_V$ that of the trusted problems. The
    modes of the official code (StigLidu/GradAlign, commit 7e25218), with $a$ the rate of success:

    - `sim`: $s_j$; `negsim`: its opposite; `dot`: $\lVert g_j \rVert s_j$; `simacc`:
      $4 a (1 - a) s_j$;
    - `align`: $\cos(g_j, \sum_i g_i)$ over the candidates themselves, after LearnAlign, and `norm`:
      $\lVert g_j \rVert$; both without trusted problems;
    - `accgreedy`: rates nearest to 1/2; `acc`: a random choice among rates from `low` to `high`,
      where the code has 0.2 to 0.8; `rand`: a random choice. Candidates of equal scores are taken
      in their order, which is random in a run.

    In a run the rule is applied to the candidates of a round with a floor of 0 and the group size
    as the cap, so that it chooses the problems of the following steps: see
    `allocation.selection`. All groups of a step then have equal sizes. Where the pool of `acc` is
    too small, other candidates fill it; the code takes fewer.

    Not to be confused with: `vip` and `gvm`, which ask how much a problem's gradient varies; this
    asks whether it points where trusted problems point, and can thus avoid wrong labels.

    Args:
        statistics: of the candidates, `B` rows; without alignment all cosines count as 0.
        weights: `[K]`, not negative and not all 0; see `success` for several rewards.
        budget: total number of completions.
        floor: smallest number of completions of a problem.
        cap: largest number of completions of a problem.
        mode: sim, dot, simacc, negsim, align, norm, accgreedy, acc or rand.
        low: lowest rate of success of the mode `acc`.
        high: highest rate of success of the mode `acc`.

    Returns:
        `[B]` int64, which sum to the budget.

    Raises:
        ValueError: the budget lies outside the bounds, there is no such mode, or `low` and `high`
            are not ascending in [0, 1].
    """
    if mode not in MODES:
        raise ValueError(f"mode: unknown {suggest(mode, MODES)}")
    if not 0 <= low <= high <= 1:
        raise ValueError(f"{low=} and {high=} must be ascending in [0, 1]")
    count = len(statistics.count)
    require_budget(budget, count=count, floor=floor, cap=cap)
    scores = _scores(statistics, weights, mode, low=low, high=high)
    by_rank = np.argsort(-scores, kind="stable")
    sizes = np.empty(count, np.int64)
    rest = budget - count * floor - (cap - floor) * np.arange(count)
    sizes[by_rank] = floor + np.clip(rest, 0, cap - floor)
    return sizes


def _scores(
    statistics: ProblemStatistics, weights: np.ndarray, mode: str, *, low: float, high: float
) -> np.ndarray:
    """`[B]`, the scores of a mode."""
    rate = success(statistics.mean.astype(np.float64), weights)
    nothing = np.zeros(len(rate))
    trusted, own, norm = (
        nothing if table is None else table.astype(np.float64)
        for table in (statistics.alignment, statistics.own_alignment, statistics.gradient_norm)
    )
    return {
        "sim": trusted,
        "dot": norm * trusted,
        "simacc": 4 * rate * (1 - rate) * trusted,
        "negsim": -trusted,
        "align": own,
        "norm": norm,
        "accgreedy": -np.abs(rate - 0.5),
        "acc": ((low <= rate) & (rate <= high)).astype(np.float64),
        "rand": nothing,
    }[mode]


def cosines(projections: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Cosines between gradients and a direction.

    Args:
        projections: `[B, D]`, of the gradients.
        direction: `[D]`, in the same projection.

    Returns:
        `[B]` float64 in [-1, 1]; 0 where a vector is 0.
    """
    vectors, other = projections.astype(np.float64), direction.astype(np.float64)
    scale = np.linalg.norm(vectors, axis=1) * np.linalg.norm(other)
    products = vectors @ other
    return np.clip(np.divide(products, scale, out=np.zeros(len(scale)), where=scale > 0), -1, 1)
