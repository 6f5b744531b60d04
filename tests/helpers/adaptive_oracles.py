"""Oracles of the aggregators that adapt their weights to the rewards; see `aggregator_oracles`."""

import functools
import math

from aggregator_oracles import grpo
from oracle_arithmetic import columns_of, decoupled, dot, is_scored, moments, scores_of, whiten


def _over_batch(rewards, k):
    """All rewards of one objective."""
    return [row[k] for group in rewards for row in group]


def _by_variation(rewards, weights, *, lower=0.0, delta=1e-8):
    """Weights of SAW, and the largest ratio of the relative errors of a mean and of its terms."""
    coefficients, amplified = [], 1.0
    for k in range(len(weights)):
        values = _over_batch(rewards, k)
        mean, deviation = moments(values, 1)
        above = abs((0.0 if mean is None else mean) - lower) + delta
        coefficients.append(deviation / above)
        if deviation > 0:
            amplified = max(amplified, (abs(mean) + deviation) / above)
    total = sum(coefficients)
    share = [len(weights) * c / total if total > 0 else 1.0 for c in coefficients]
    return [w * s for w, s in zip(weights, share, strict=True)], amplified


def _larger(sizes, factor):
    return [[size * factor for size in row] for row in sizes]


def saw_grpo(rewards, weights, *, rounding):
    adapted, amplified = _by_variation(rewards, weights)
    advantages, sizes = grpo(rewards, adapted, rounding=rounding)
    return advantages, _larger(sizes, amplified)


def _gdpo(rewards, weights, *, rounding, epsilon, ddof=1):
    def divisor(variance):
        return math.sqrt(variance) + epsilon

    return decoupled(rewards, weights, dot, divisor, rounding=rounding, epsilon=epsilon, ddof=ddof)


def saw_gdpo(rewards, weights, *, rounding):
    adapted, amplified = _by_variation(rewards, weights)
    advantages, sizes = _gdpo(rewards, adapted, rounding=rounding, epsilon=1e-4)
    return advantages, _larger(sizes, amplified)


def _power(base, exponent):
    return base**exponent if base > 0 else 0.0


def sa_mrpo(rewards, weights, *, rounding, gamma=0.5):
    adapted, amplified = [], 1.0
    for k, w in enumerate(weights):
        mean, deviation = moments(_over_batch(rewards, k), 0)
        headroom = 1.0 - min(max(0.0 if mean is None else mean, 0.0), 1.0)
        adapted.append(w * _power(headroom, gamma))
        if 0 < headroom < 1:
            amplified = max(amplified, (abs(mean) + deviation) / headroom)
    advantages, sizes = _gdpo(rewards, adapted, rounding=rounding, epsilon=1e-6, ddof=0)
    return advantages, _larger(sizes, amplified)


def _factors(rewards, weights, *, cap=5.0):
    """Factors of DARA."""
    counts = [
        sum(columns_of(group, 0)[k][1] > 0 for group in rewards) if w > 0 else 0
        for k, w in enumerate(weights)
    ]
    return [min(cap, math.sqrt(max(counts) / n)) if n else cap for n in counts]


def dara_symmetric(rewards, weights, *, rounding):
    factors = _factors(rewards, weights)
    adapted = [w * d for w, d in zip(weights, factors, strict=True)]
    return _gdpo(rewards, adapted, rounding=rounding, epsilon=1e-4)


def dara_asymmetric(rewards, weights, *, rounding):
    factors = _factors(rewards, weights)

    def combine(weights, scores):
        terms = [s + (d - 1) * max(s, 0.0) for s, d in zip(scores, factors, strict=True)]
        return dot(weights, terms)

    def divisor(variance):
        return math.sqrt(variance) + 1e-4

    return decoupled(rewards, weights, combine, divisor, rounding=rounding, epsilon=1e-4)


def _kept(rewards, weights, is_dropped, *, rounding):
    """GD2PO; `is_dropped(weighted scores)` decides about completions in conflict."""
    values, magnitudes, counts, signals = [], [], [], []
    for group in rewards:
        scores, has_signal = scores_of(group, 1, 1e-6)
        kept = []
        for row, z in zip(group, scores, strict=True):
            counted = [(w, s) for w, s in zip(weights, z, strict=True) if w > 0]
            conflict = any(s > rounding for _, s in counted) and any(
                s < -rounding for _, s in counted
            )
            terms = [w * s for w, s in counted]
            kept.append(is_scored(row) and not (conflict and is_dropped(terms)))
        share = sum(kept) / max(sum(map(is_scored, group)), 1)
        values.append([share * dot(weights, z) for z in scores])
        magnitudes.append([share * dot(weights, [abs(s) for s in z]) for z in scores])
        counts.append([int(k) for k in kept])
        signals.append(has_signal)

    def divisor(variance):
        return math.sqrt(variance) + 1e-6

    advantages, sizes = whiten(
        rewards, values, magnitudes, counts, signals, divisor, rounding=rounding, ddof=1
    )
    only_kept = [
        [a if n else 0.0 for a, n in zip(*rows, strict=True)]
        for rows in zip(advantages, counts, strict=True)
    ]
    return only_kept, sizes


def gd2po_hard(rewards, weights, *, rounding):
    return _kept(rewards, weights, lambda terms: True, rounding=rounding)


def gd2po_snr(rewards, weights, *, rounding, threshold=0.8):
    def is_dropped(terms):
        return abs(math.fsum(terms)) < threshold * math.fsum(map(abs, terms))

    return _kept(rewards, weights, is_dropped, rounding=rounding)


# SC-PPO: minima by active sets; the package enumerates supports instead.


def _solve(matrix, values):
    """Gaussian elimination with pivoting."""
    rows = [[*row, v] for row, v in zip(matrix, values, strict=True)]
    size = len(rows)
    for i in range(size):
        pivot = max(range(i, size), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(size):
            if r != i:
                factor = rows[r][i] / rows[i][i]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i], strict=True)]
    return [row[size] / row[i] for i, row in enumerate(rows)]


def _least(matrix, linear, allowed):
    """`x >= 0` minimising `x' matrix x / 2 - linear' x` (Lawson and Hanson's active sets)."""
    x = [0.0] * len(linear)
    free = []
    scale = max(map(abs, linear), default=0.0)
    while True:
        slope = [b - dot(row, x) for row, b in zip(matrix, linear, strict=True)]
        rising = [k for k in allowed if k not in free and slope[k] > 1e-13 * scale]
        if not rising:
            return x
        free.append(max(rising, key=lambda k: slope[k]))
        while True:
            part = _solve([[matrix[i][j] for j in free] for i in free], [linear[i] for i in free])
            if min(part) > 0:
                break
            ratios = [
                x[k] / (x[k] - p) for k, p in zip(free, part, strict=True) if p <= 0 and x[k] != p
            ]
            step = min(ratios, default=0.0)
            moved = {k: x[k] + step * (p - x[k]) for k, p in zip(free, part, strict=True)}
            x = [moved.get(k, 0.0) for k in range(len(x))]
            free = [k for k, p in zip(free, part, strict=True) if p > 0 or x[k] > 1e-14]
            x = [x[k] if k in free else 0.0 for k in range(len(x))]
        x = [dict(zip(free, part, strict=True)).get(k, 0.0) for k in range(len(x))]


def _coefficients(groups, weights):
    size = range(len(weights))
    scores = [row for group in groups for row in scores_of(group, 1, 1e-6)[0]]
    count = sum(is_scored(row) for group in groups for row in group)
    q = [[math.fsum(z[k] * z[j] for z in scores) / max(count, 1) for j in size] for k in size]
    norms = [math.sqrt(q[k][k]) for k in size]
    means = [moments(_over_batch(groups, k), 0)[0] for k in size]
    headroom = [min(max(1.0 - (m or 0.0), 0.0), 1.0) for m in means]
    priorities = [w * max(h, 0.05) ** 0.5 for w, h in zip(weights, headroom, strict=True)]
    covered = [sum(columns_of(g, 1)[k][1] > 0 for g in groups) for k in size]
    usable = [
        k
        for k in size
        if weights[k] > 0
        and norms[k] > 0
        and norms[k] >= 0.05 * max(norms)
        and covered[k] >= 0.05 * len(groups)
    ]
    active = [k for k in usable if headroom[k] > 0.05] or usable
    if not active:
        return [p / sum(priorities) for p in priorities]
    ridge = 0.01 * max(norms) ** 2
    q = [[q[k][j] + ridge * (k == j) for j in size] for k in size]
    # The c of least norm with p' c = 1 has the direction of the least c' q c / 2 - p' c.
    shortest = _least(q, priorities, active)
    shortest = [c / sum(shortest) for c in shortest]
    margins = [dot(row, shortest) for row in q]
    correction = _least(q, [-m for m in margins], [k for k in size if weights[k] > 0])
    corrected = [c + b for c, b in zip(shortest, correction, strict=True)]
    return [c / sum(corrected) for c in corrected]


@functools.lru_cache(maxsize=8)  # the coefficients do not depend on the dtype
def _cross_fitted(rewards, weights):
    folds = [[g for i, g in enumerate(rewards) if i % 2 != f] or rewards for f in (0, 1)]
    return [_coefficients(fold, weights) for fold in folds]


def sc_ppo(rewards, weights, *, rounding):
    folds = _cross_fitted(rewards, tuple(weights))
    values, magnitudes, largest, counts, signals = [], [], [], [], []
    for i, group in enumerate(rewards):
        scores, has_signal = scores_of(group, 1, 1e-6)
        largest.append([math.fsum(map(abs, z)) for z in scores])
        values.append([dot(folds[i % 2], z) for z in scores])
        magnitudes.append([dot(folds[i % 2], [abs(s) for s in z]) for z in scores])
        counts.append([int(is_scored(row)) for row in group])
        signals.append(has_signal)

    def divisor(variance):
        return math.sqrt(variance) + 1e-6

    whitened = functools.partial(whiten, rewards, values)
    rest = (counts, signals, divisor)
    advantages, _ = whitened(magnitudes, *rest, rounding=rounding, ddof=1)
    # The absolute error of each coefficient is that of the largest.
    _, sizes = whitened(largest, *rest, rounding=0.0, ddof=1)
    return advantages, _larger(sizes, 20.0)
