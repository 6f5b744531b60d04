"""Estimators from several completions of one problem: pass@k, best@k, maj@n."""

import math
from collections.abc import Sequence

import numpy as np


def pass_at_k(num_samples: int, num_passed: int, *, k: int) -> float:
    """Probability that at least one of `k` completions passes, estimated from `num_samples`.

    `1 - C(n-c, k) / C(n, k)`, the unbiased estimator of Chen et al. (2021, arXiv 2107.03374),
    computed as a product of at most `c` factors, without overflow. It is the share of subsets of
    `k` completions with at least one that passes.

    Not to be confused with: `1 - (1 - c/n)**k`, which is biased.

    Args:
        num_samples: `n`, completions of the problem.
        num_passed: `c`, completions that passed.
        k: at most `n`.

    Raises:
        ValueError: `k` or `num_passed` is out of range.
    """
    if not 1 <= k <= num_samples or not 0 <= num_passed <= num_samples:
        raise ValueError(f"pass@{k} is not defined for {num_passed} passed of {num_samples}")
    if num_samples - num_passed < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(num_samples - num_passed + 1, num_samples + 1)))


def best_at_k(rewards: np.ndarray, *, k: int) -> float:
    """Mean over all subsets of `k` rewards of the largest reward in the subset.

    With the rewards in ascending order this is `sum_i C(i-1, k-1) / C(n, k) r_i`; for rewards of 0
    and 1 it equals `pass_at_k`. best@1 is the mean, best@n the maximum.

    Args:
        rewards: `[n]`, all scored.
        k: at most `n`.

    Raises:
        ValueError: `k` is out of range.
    """
    count = len(rewards)
    if not 1 <= k <= count:
        raise ValueError(f"best@{k} is not defined for {count} rewards")
    ranked = np.sort(np.asarray(rewards, np.float64))
    # Probability that the i-th smallest is the largest of the subset: the others are below it.
    shares = [math.comb(i, k - 1) / math.comb(count, k) for i in range(count)]
    return float(np.dot(shares, ranked))


def majority(answers: Sequence[str | None], passed: Sequence[bool]) -> float:
    """Share of passing completions among those with the most frequent answer (maj@n).

    This is 1 or 0 if equal answers always get the same verdict. Tied answers count in equal shares,
    the expectation of drawing one of them, so the order of the completions does not matter (it does
    if the first of the tied answers is used, as is common). A completion without an answer does not
    vote; the result is 0 if none has an answer.

    Not to be confused with: the most frequent verdict. Two different wrong answers are not counted
    together.

    Args:
        answers: `[n]` of one problem, normalised so that equal answers are equal strings.
        passed: `[n]` whether each completion passed.

    Raises:
        ValueError: the lengths differ.
    """
    verdicts: dict[str, list[bool]] = {}
    for answer, verdict in zip(answers, passed, strict=True):
        if answer is not None:
            verdicts.setdefault(answer, []).append(verdict)
    most = max(map(len, verdicts.values()), default=0)
    shares = [np.mean(given) for given in verdicts.values() if len(given) == most]
    return float(np.mean(shares)) if shares else 0.0
