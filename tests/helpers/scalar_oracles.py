"""Oracles of the aggregators with other scalarisations or divisors; see `aggregator_oracles`."""

import math

from aggregator_oracles import grpo
from oracle_arithmetic import (
    columns_of,
    dot,
    is_scored,
    moments,
    spread_of_terms,
    sums_of,
    whiten,
)


def corr_grpo(rewards, weights, *, rounding, variance_epsilon=1e-6):
    """The sum of all correlations is computed as the square of the sum of unit columns."""
    advantages, sizes = [], []
    for group in rewards:
        columns = columns_of(group, 0)
        counted = [k for k, w in enumerate(weights) if w > 0 and columns[k][1] > 0]
        centred = {
            k: [0.0 if row[k] is None else row[k] - columns[k][0] for row in group]
            for k in range(len(weights))
        }
        norms = {k: math.sqrt(dot(centred[k], centred[k])) for k in counted}
        # Summing single correlations would leave an error of 1e-16 in total and 1e-8 in root.
        total = math.fsum(
            math.fsum(centred[k][i] / norms[k] for k in counted) ** 2 for i in range(len(group))
        )
        root = math.sqrt(total)
        cancels = root <= rounding * len(counted)
        divisor = math.sqrt(total + variance_epsilon)
        sums = [
            math.fsum(w * centred[k][i] for k, w in enumerate(weights)) for i in range(len(group))
        ]
        advantages.append([0.0 if cancels else s / divisor for s in sums])
        terms = spread_of_terms(weights, columns)
        size = terms if cancels else terms / divisor * max(1.0, len(counted) / root)
        sizes.append([size] * len(group))
    return advantages, sizes


def maxrl(rewards, weights, *, rounding, epsilon=1e-6):
    advantages, sizes = [], []
    for group in rewards:
        columns = columns_of(group, 0)
        known = [(w, m, d) for w, (m, d) in zip(weights, columns, strict=True) if m is not None]
        terms = math.fsum(w * (abs(m) + d) for w, m, d in known)
        mean = abs(math.fsum(w * m for w, m, _ in known))
        cancels = mean <= rounding * terms
        middle = math.fsum(w * m for w, m, _ in known)
        signals = spread_of_terms(weights, columns) > 0
        advantages.append(
            [
                0.0 if cancels or s is None or not signals else (s - middle) / (mean + epsilon)
                for s in sums_of(group, weights, columns)
            ]
        )
        sizes.append([1.0 if cancels else (terms / (mean + epsilon)) ** 2] * len(group))
    return advantages, sizes


def _over_tokens(rewards, values, magnitudes, lengths, signals, *, rounding):
    counts = [
        [n if is_scored(row) else 0 for n, row in zip(ns, group, strict=True)]
        for ns, group in zip(lengths, rewards, strict=True)
    ]

    def divisor(variance):
        return math.sqrt(variance + 1e-8)

    return whiten(rewards, values, magnitudes, counts, signals, divisor, rounding=rounding, ddof=1)


def reinforce_plus_plus(rewards, weights, lengths, *, rounding):
    overall = [
        moments([row[k] for group in rewards for row in group], 0)[0] for k in range(len(weights))
    ]
    values, magnitudes = [], []
    for group in rewards:
        size = 0.0
        sums = [0.0] * len(group)
        for k, (mean, deviation) in enumerate(columns_of(group, 0)):
            if mean is None:
                continue  # counts as the batch's mean
            size += weights[k] * (deviation + abs(mean - overall[k]))
            for i, row in enumerate(group):
                sums[i] += weights[k] * ((mean if row[k] is None else row[k]) - overall[k])
        values.append(sums)
        magnitudes.append([size] * len(group))
    signals = [True] * len(rewards)
    return _over_tokens(rewards, values, magnitudes, lengths, signals, rounding=rounding)


def reinforce_plus_plus_baseline(rewards, weights, lengths, *, rounding):
    values, magnitudes, signals = [], [], []
    for group in rewards:
        columns = columns_of(group, 0)
        values.append(
            [
                math.fsum(
                    w * (r - mean)
                    for w, r, (mean, _) in zip(weights, row, columns, strict=True)
                    if r is not None
                )
                for row in group
            ]
        )
        magnitudes.append([spread_of_terms(weights, columns)] * len(group))
        signals.append(any(deviation > 0 for _, deviation in columns))
    return _over_tokens(rewards, values, magnitudes, lengths, signals, rounding=rounding)


def augmented_tchebycheff(rewards, weights, *, rounding, ideal=1.0, augmentation=0.05):
    advantages, sizes = [], []
    for group in rewards:
        columns = columns_of(group, 0)
        values, offset = [], 0.0
        for row in group:
            if not is_scored(row):
                values.append(None)
                continue
            filled = [
                (w, mean if r is None else r)
                for w, r, (mean, _) in zip(weights, row, columns, strict=True)
                if mean is not None and w > 0
            ]
            distances = [w * (ideal - r) for w, r in filled]
            offset = max(offset, *map(abs, distances)) if distances else offset
            total = math.fsum(w * r for w, r in filled)
            values.append(augmentation * total - max(distances, default=0.0))
        mean, deviation = moments(values, 1)
        terms = spread_of_terms(weights, columns)
        cancels = deviation <= rounding * terms
        advantages.append(
            [0.0 if cancels or v is None else (v - mean) / (deviation + 1e-6) for v in values]
        )
        size = 1.0 if cancels else (terms + offset) / (deviation + 1e-6)
        sizes.append([size] * len(group))
    return advantages, sizes


def focal_reward(rewards, weights, *, rounding):
    advantages, sizes = [], []
    for group in rewards:
        columns = columns_of(group, 0)
        headroom = [1.0 - min(max(m, 0.0), 1.0) if m is not None else 0.0 for m, _ in columns]
        focused = [w * h for w, h in zip(weights, headroom, strict=True)]
        total = sum(focused)
        shares = [f / total if total > 0 else 0.0 for f in focused]
        amplified = max([1.0, *(1.0 / h for h in headroom if 0 < h < 1)])
        (own,), (size,) = grpo((group,), shares, rounding=rounding)
        advantages.append(own)
        sizes.append([s * amplified for s in size])
    return advantages, sizes


def _eigen(matrix):
    """Eigenvalues and eigenvectors of a symmetric matrix, by Jacobi rotations."""
    size = len(matrix)
    a = [list(row) for row in matrix]
    v = [[float(i == j) for j in range(size)] for i in range(size)]
    for _ in range(60):
        if sum(a[i][j] ** 2 for i in range(size) for j in range(i)) < 1e-30:
            break
        for i in range(size):
            for j in range(i + 1, size):
                if a[i][j] == 0.0:
                    continue
                angle = 0.5 * math.atan2(2 * a[i][j], a[j][j] - a[i][i])
                c, s = math.cos(angle), math.sin(angle)
                for row in (*a, *v):
                    row[i], row[j] = c * row[i] - s * row[j], s * row[i] + c * row[j]
                for k in range(size):
                    a[i][k], a[j][k] = c * a[i][k] - s * a[j][k], s * a[i][k] + c * a[j][k]
    return [a[i][i] for i in range(size)], v


def rdpo(rewards, weights, *, rounding, shrinkage=0.01):
    """The inverse root is computed from the eigenvalues."""
    del rounding  # the shrinkage bounds the cancellation
    size = range(len(weights))
    spread = []
    for k in size:
        squares = [
            columns_of(group, 0)[k][1] ** 2 * sum(row[k] is not None for row in group)
            for group in rewards
        ]
        count = sum(row[k] is not None for group in rewards for row in group)
        spread.append(math.sqrt(math.fsum(squares) / count) if count else 0.0)
    ranks = []
    for group in rewards:
        group_ranks = []
        for row in group:
            own = []
            for k in size:
                others = [r[k] for r in group if r[k] is not None]
                steps = [
                    min(max((row[k] - r) / spread[k], -1.0), 1.0)
                    for r in others
                    if row[k] is not None and spread[k] > 0
                ]
                own.append(math.fsum(steps) / len(others) if steps else 0.0)
            group_ranks.append(own)
        ranks.append(group_ranks)
    flat = [row for group in ranks for row in group]
    norms = [math.sqrt(math.fsum(row[k] ** 2 for row in flat)) for k in size]
    correlations = [
        [
            1.0
            if k == j
            else (1 - shrinkage)
            * math.fsum(row[k] * row[j] for row in flat)
            / (norms[k] * norms[j])
            if norms[k] * norms[j] > 0
            else 0.0
            for j in size
        ]
        for k in size
    ]
    values, vectors = _eigen(correlations)
    inverse = [
        [
            math.fsum(vectors[k][e] * vectors[j][e] / math.sqrt(values[e]) for e in size)
            for j in size
        ]
        for k in size
    ]
    counts = [sum(row[k] is not None for group in rewards for row in group) for k in size]
    tau = [n / math.sqrt(c) if n > 0 else 1.0 for n, c in zip(norms, counts, strict=True)]
    advantages = [
        [
            dot(
                weights,
                [
                    math.fsum(i * q / t for i, q, t in zip(line, row, tau, strict=True))
                    for line in inverse
                ],
            )
            for row in group
        ]
        for group in ranks
    ]
    return advantages, [[10.0 / min(values)] * len(group) for group in rewards]
