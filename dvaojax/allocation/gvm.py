"""GVM: completions that minimise the variance of the gradient (Yao et al., arXiv 2505.02391)."""

import numpy as np

from dvaojax.allocation.dynamo import fill_unknown_with_largest
from dvaojax.allocation.sizes import allocate
from dvaojax.allocation.statistics import ProblemStatistics, success


def gvm(
    statistics: ProblemStatistics,
    weights: np.ndarray,
    *,
    budget: int,
    floor: int,
    cap: int,
    alpha: float = 1e-3,
    beta: float = 2.0,
) -> np.ndarray:
    r"""Completions by the norm of the gradient and the rarity of success.

    $$ n_i \propto \frac{G_i}{\sqrt{p_i + \alpha / p_i^{\beta - 1}}} $$

    with $p_i$ the share of completions that succeed and $G_i$ the mean gradient norm of the
    log-probability of a successful one; 0 where either is 0. With $\alpha = 0$ it minimises
    $\sum_i G_i^2 / (p_i n_i)$, the variance of a step that learns from successes only, as GVM-RAFT
    does. $\alpha$ reduces the share of problems that are almost never solved: with $\beta = 2$ the
    factor of $G_i$ is largest at $p = \sqrt \alpha$. Defaults as in the official code (RLHFlow/GVM,
    commit d640a754).

    GVM samples extra completions to estimate $p_i$ and $G_i$; here both are estimated from the
    problem's earlier completions. A problem without any gets the largest score of the step.

    In a run, the norm is a proxy that one more forward pass over the completions of a step yields:
    the root of the squared norms of the gradients of the tokens' log-probabilities with respect to
    the logits, summed over the tokens, $\sqrt{\sum_t (1 - 2 \pi_t + \sum_v \pi_v^2)}$. The host
    waits for this pass before it dispatches the step.

    Not to be confused with: `neyman`, which uses the spread of the rewards and no gradients: it
    favours $p = 1/2$, while GVM favours rare successes.

    Args:
        statistics: of the step's problems, `B` rows; with gradients, see `observe_gradients`.
        weights: `[K]`, not negative and not all 0; see `success` for several rewards.
        budget: total number of completions of the step.
        floor: smallest number of completions of a problem.
        cap: largest number of completions of a problem.
        alpha: strength of the reduction for rare successes, not negative; 0 turns it off.
        beta: exponent of that reduction.

    Returns:
        `[B]` int64, which sum to the budget.

    Raises:
        ValueError: the budget lies outside the bounds, or `alpha` is negative.
    """
    if not alpha >= 0:
        raise ValueError(f"{alpha=} must not be negative")
    rate = success(statistics.mean, weights)
    positive_rate = np.where(rate > 0, rate, 1)
    norm = statistics.gradient / positive_rate
    scores = norm / np.sqrt(positive_rate + alpha / positive_rate ** (beta - 1))
    scores = np.where(rate > 0, scores, 0.0)
    return allocate(
        fill_unknown_with_largest(scores, statistics.measured > 0), budget, floor=floor, cap=cap
    )
