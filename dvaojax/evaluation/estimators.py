"""What several completions of one problem say about it: pass@k, best@k, the majority's answer."""

import math
from collections.abc import Sequence

import numpy as np


def pass_at_k(num_samples: int, num_passed: int, *, k: int) -> float:
    """The chance that at least one of `k` completions passes, from `num_samples` that were drawn.

    `1 - C(n-c, k) / C(n, k)`, the unbiased estimator of Chen et al. (2021, arXiv 2107.03374), as a
    product of at most `c` factors, in which nothing overflows. It is the share of the subsets of
    `k` completions that hold one which passes. `1 - (1 - c/n)**k` is something else: it is biased.

    Args:
        num_samples: `n`, completions of the problem.
        num_passed: `c`, how many of them passed.
        k: at most `n`.

    Raises:
        ValueError: the three do not fit each other.
    """
    if not 1 <= k <= num_samples or not 0 <= num_passed <= num_samples:
        raise ValueError(f"pass@{k} of {num_passed} passed among {num_samples} has no meaning")
    if num_samples - num_passed < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(num_samples - num_passed + 1, num_samples + 1)))


def best_at_k(rewards: np.ndarray, *, k: int) -> float:
    """The largest of `k` rewards, on average over the subsets of `k` of those that were drawn.

    With the rewards in ascending order it is `sum_i C(i-1, k-1) / C(n, k) r_i`; for rewards of 0
    and 1 it is `pass_at_k`. The largest of all is best@n; the mean is best@1.

    Args:
        rewards: `[n]`, all scored.
        k: at most `n`.

    Raises:
        ValueError: there are fewer than `k`.
    """
    count = len(rewards)
    if not 1 <= k <= count:
        raise ValueError(f"best@{k} of {count} rewards has no meaning")
    ranked = np.sort(np.asarray(rewards, np.float64))
    # The chance that the i-th smallest is the largest of k: it is drawn, all others below it.
    shares = [math.comb(i, k - 1) / math.comb(count, k) for i in range(count)]
    return float(np.dot(shares, ranked))


def majority(answers: Sequence[str | None], passed: Sequence[bool]) -> float:
    """How often the completions pass that gave the answer most of them gave (maj@n).

    Where equal answers are judged alike, as a right and a wrong number are, that is 1 or 0. Answers
    that are tied count in equal shares, which is what drawing one of them gives on average; so the
    order of the completions does not matter. (Taking the first of them, as is common, does.) A
    completion without an answer does not vote, and where none has one the problem is not passed.

    Not the most frequent verdict: two different wrong answers do not stand together.

    Args:
        answers: `[n]` of one problem, in one form for equal answers.
        passed: `[n]` whether each completion passed.

    Raises:
        ValueError: not as many verdicts as answers.
    """
    verdicts: dict[str, list[bool]] = {}
    for answer, verdict in zip(answers, passed, strict=True):
        if answer is not None:
            verdicts.setdefault(answer, []).append(verdict)
    most = max(map(len, verdicts.values()), default=0)
    shares = [np.mean(given) for given in verdicts.values() if len(given) == most]
    return float(np.mean(shares)) if shares else 0.0
