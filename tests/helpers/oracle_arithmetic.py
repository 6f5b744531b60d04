"""Means, deviations, z-scores and whitening for the oracles of the aggregators.

Plain Python on nested tuples; see `aggregator_oracles`.
"""

import functools
import math

ROUNDING = {"float32": 2.0**-11.5, "float64": 2.0**-26}  # the square root of the machine epsilon


def moments(values, ddof):
    """Mean and standard deviation of the values that are not None."""
    present = [v for v in values if v is not None]
    if not present:
        return None, 0.0
    mean = math.fsum(present) / len(present)
    if min(present) == max(present):
        return mean, 0.0
    variance = math.fsum((v - mean) ** 2 for v in present) / (len(present) - ddof)
    return mean, math.sqrt(variance)


@functools.lru_cache(maxsize=32)  # several oracles use the same group
def columns_of(group, ddof):
    """Mean and standard deviation of each objective of one group."""
    return [moments([row[k] for row in group], ddof) for k in range(len(group[0]))]


def is_scored(row):
    return any(r is not None for r in row)


def sums_of(group, weights, columns):
    """Weighted sum of the rewards of each completion, masked ones replaced by the group's mean."""
    sums = []
    for row in group:
        if not is_scored(row):
            sums.append(None)
            continue
        total = 0.0
        for r, w, (mean, _) in zip(row, weights, columns, strict=True):
            total += w * (mean if r is None else r) if mean is not None else 0.0
        sums.append(total)
    return sums


def spread_of_terms(weights, columns):
    return sum(w * deviation for w, (_, deviation) in zip(weights, columns, strict=True))


@functools.lru_cache(maxsize=32)
def scores_of(group, ddof, epsilon):
    """Z-scores `[completion][objective]`, 0 if masked or constant; and whether any varies."""
    columns = columns_of(group, ddof)
    rows = []
    for row in group:
        scores = []
        for r, (mean, deviation) in zip(row, columns, strict=True):
            masked = r is None or deviation == 0
            scores.append(0.0 if masked else (r - mean) / (deviation + epsilon))
        rows.append(scores)
    return rows, any(deviation > 0 for _, deviation in columns)


def dot(weights, values):
    return math.fsum(w * v for w, v in zip(weights, values, strict=True))


def whiten(rewards, values, magnitudes, counts, signals, divisor, *, rounding, ddof):
    """Whitens over the batch; `counts[group][completion]` is how often each value counts."""
    flat = [
        (n, v, m)
        for group in zip(counts, values, magnitudes, strict=True)
        for n, v, m in zip(*group, strict=True)
    ]
    total = sum(n for n, _, _ in flat)
    mean = math.fsum(n * v for n, v, _ in flat) / total if total else 0.0
    variance = math.fsum(n * (v - mean) ** 2 for n, v, _ in flat) / max(total - ddof, 1)
    terms = math.sqrt(math.fsum(n * m * m for n, _, m in flat) / total) if total else 0.0
    if math.sqrt(variance) <= rounding * terms:
        zeros = [[0.0] * len(group) for group in rewards]
        return zeros, [[1.0] * len(group) for group in rewards]
    advantages = []
    for group, row, has_signal in zip(rewards, values, signals, strict=True):
        advantages.append(
            [
                (v - mean) / divisor(variance) if has_signal and is_scored(r) else 0.0
                for r, v in zip(group, row, strict=True)
            ]
        )
    return advantages, [[terms / divisor(variance)] * len(group) for group in rewards]


def decoupled(rewards, weights, combine, divisor, *, rounding, epsilon, lengths=None, ddof=1):
    """Z-scores, combined by `combine(weights, scores)` and whitened over the batch."""
    values, magnitudes, counts, signals = [], [], [], []
    for g, group in enumerate(rewards):
        scores, has_signal = scores_of(group, ddof, epsilon)
        values.append([combine(weights, row) for row in scores])
        magnitudes.append([dot(weights, [abs(s) for s in row]) for row in scores])
        one = [1] * len(group) if lengths is None else lengths[g]
        counts.append([n if is_scored(row) else 0 for n, row in zip(one, group, strict=True)])
        signals.append(has_signal)
    return whiten(
        rewards, values, magnitudes, counts, signals, divisor, rounding=rounding, ddof=ddof
    )
