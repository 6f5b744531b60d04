"""Oracles of our variants of DVAO and of methods with other baselines; see `aggregator_oracles`."""

import math

import aggregator_oracles
from oracle_arithmetic import (
    columns_of,
    dot,
    is_scored,
    moments,
    scores_of,
    spread_of_terms,
    sums_of,
)


def dro(rewards, weights, *, rounding):
    """Without gates; see `test_dro`."""
    return aggregator_oracles.grpo(rewards, weights, rounding=rounding, epsilon=1e-6)


def opo(rewards, weights, lengths, *, rounding):
    """Each objective minus its mean over the tokens of the completions that were scored on it."""
    del rounding  # there is no division
    advantages, sizes = [], []
    for group, tokens in zip(rewards, lengths, strict=True):
        columns = columns_of(group, 0)
        terms = spread_of_terms(weights, columns)
        baselines = []
        for k, (mean, _) in enumerate(columns):
            scored = [
                (n, row[k]) for n, row in zip(tokens, group, strict=True) if row[k] is not None
            ]
            total = sum(n for n, _ in scored)
            baselines.append(math.fsum(n * r for n, r in scored) / total if total else mean)
        row = []
        for own in group:
            value = math.fsum(
                w * ((mean if r is None else r) - baseline)
                for w, r, (mean, _), baseline in zip(weights, own, columns, baselines, strict=True)
                if mean is not None
            )
            row.append(value if is_scored(own) and terms > 0 else 0.0)
        advantages.append(row)
        sizes.append([2 * terms] * len(group))
    return advantages, sizes


def dvao_denoised(rewards, weights, *, rounding):
    """With the default noise of 0."""
    return aggregator_oracles.dvao(rewards, weights, rounding=rounding)


def dvao_of_repeats(rewards, weights, *, rounding):
    """Of one score: without noise. `test_beyond_the_papers` has several."""
    return aggregator_oracles.dvao(rewards, weights, rounding=rounding)


def dvao_interpolated(rewards, weights, *, rounding, caution=0.5):
    del rounding  # with caution above 0 the divisor is not a small difference
    advantages, sizes = [], []
    for group in rewards:
        columns = columns_of(group, 0)
        sums = sums_of(group, weights, columns)
        mean, deviation = moments(sums, 0)
        terms = spread_of_terms(weights, columns)
        divisor = math.sqrt((1 - caution) * deviation**2 + caution * terms**2)
        advantages.append([0.0 if terms == 0 or s is None else (s - mean) / divisor for s in sums])
        sizes.append([terms / divisor if terms else 1.0] * len(group))
    return advantages, sizes


def dvao_shrunk(rewards, weights, *, rounding):
    del rounding
    return shrunk(rewards, weights, [deviation_sums(rewards, k) for k in range(len(weights))])


def deviation_sums(rewards, objective):
    """Number of groups, sums of the deviations, their squares and their variances."""
    deviations = []
    for group in rewards:
        count = sum(row[objective] is not None for row in group)
        if count >= 2:
            deviations.append((columns_of(group, 0)[objective][1], count))
    return [
        len(deviations),
        math.fsum(s for s, _ in deviations),
        math.fsum(s * s for s, _ in deviations),
        math.fsum(s * s * (1 - _c4(n) ** 2) for s, n in deviations),
    ]


def _c4(n):
    return math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))


def shrunk(rewards, weights, sums_by_objective):
    towards = []
    for groups, *sums in sums_by_objective:
        mean, mean_square, uncertainty = (total / max(groups, 1e-9) for total in sums)
        variance = mean_square - mean**2
        towards.append((mean, min(1.0, uncertainty / variance) if variance > 0 else 0.0))
    advantages, sizes = [], []
    for group in rewards:
        divisor = 0.0
        for k, (w, (_, deviation)) in enumerate(zip(weights, columns_of(group, 0), strict=True)):
            if sum(row[k] is not None for row in group) >= 2:
                mean, share = towards[k]
                divisor += w * (mean + (1 - share) * (deviation - mean))
        sums = sums_of(group, weights, columns_of(group, 0))
        mean, _ = moments(sums, 0)
        terms = spread_of_terms(weights, columns_of(group, 0))
        advantages.append([0.0 if terms == 0 or s is None else (s - mean) / divisor for s in sums])
        sizes.append([terms / divisor if terms else 1.0] * len(group))
    return advantages, sizes


def corr_gdpo(rewards, weights, lengths, *, rounding, epsilon=1e-6):
    """The matrix of correlations, entry by entry, over all scored completions of the batch."""
    scores = [scores_of(group, 1, epsilon) for group in rewards]
    rows = [
        ([w * z for w, z in zip(weights, row, strict=True)], tokens)
        for group, (values, _), counts in zip(rewards, scores, lengths, strict=True)
        for own, row, tokens in zip(group, values, counts, strict=True)
        if is_scored(own)
    ]
    total = sum(tokens for _, tokens in rows)
    mean = math.fsum(tokens * math.fsum(row) for row, tokens in rows) / total if total else 0.0
    moments_of = [moments([row[k] for row, _ in rows], 0) for k in range(len(weights))]
    varying = [k for k, (_, deviation) in enumerate(moments_of) if deviation > 0]
    correlations = 0.0
    for k in varying:
        for other in varying:
            (m, s), (n, t) = moments_of[k], moments_of[other]
            products = [(row[k] - m) * (row[other] - n) for row, _ in rows]
            correlations += math.fsum(products) / (len(rows) * s * t)
    correlations = max(correlations, 0.0)
    cancels = math.sqrt(correlations) <= rounding * len(varying)
    divisor = math.sqrt(correlations + epsilon)
    advantages, sizes = [], []
    for group, (values, has_signal) in zip(rewards, scores, strict=True):
        advantages.append(
            [
                (dot(weights, row) - mean) / divisor
                if has_signal and is_scored(own) and not cancels
                else 0.0
                for own, row in zip(group, values, strict=True)
            ]
        )
        sizes.append([1.0 if cancels else sum(weights) / divisor] * len(group))
    return advantages, sizes


def james_stein(rewards, weights, *, rounding):
    """Equations 10 and 13 to 16 of the paper, on the weighted sums of the rewards."""
    columns = [columns_of(group, 0) for group in rewards]
    least = [rounding * spread_of_terms(weights, own) for own in columns]
    scored = [
        [row[k] for group in rewards for row in group if row[k] is not None]
        for k in range(len(weights))
    ]
    batch_means = [math.fsum(values) / len(values) if values else 0.0 for values in scored]
    filled = [
        [
            (batch if mean is None else mean, 0.0)
            for (mean, _), batch in zip(c, batch_means, strict=True)
        ]
        for c in columns
    ]
    sums = [
        [s for s in sums_of(group, weights, means) if s is not None]
        for group, means in zip(rewards, filled, strict=True)
    ]
    advantages, sizes = [], []
    for i, group in enumerate(rewards):
        own = iter(_shrunk_advantages(sums, i, least))
        advantages.append([next(own) if is_scored(row) else 0.0 for row in group])
        ranges = [max(values) - min(values) if values else 0.0 for values in scored]
        sizes.append([2 * dot(weights, ranges)] * len(group))
    return advantages, sizes


def _shrunk_advantages(sums, i, least):
    """Advantages of the scored completions of group i, from the sums of all groups.

    A deviation of a group of at most `least` is rounding error.
    """
    others = [k for k, group in enumerate(sums) if k != i and group]
    means = [moments(sums[k], 0)[0] for k in others]
    target = math.fsum(means) / len(means) if means else 0.0
    v = []
    for k in others:
        deviation = moments(sums[k], 0)[1]
        if len(sums[k]) > 1:
            v.append(deviation**2 / (len(sums[k]) - 1) if deviation > least[k] else 0.0)
    within = math.fsum(v) / len(v) if v else 0.0
    between = math.fsum((m - target) ** 2 for m in means) / len(means) if means else 0.0
    share = len(means) / (len(means) + 1)
    share *= within / (within + between) if within > 0 else 0.0
    advantages = []
    for j, own in enumerate(sums[i]):
        rest = [r for k, r in enumerate(sums[i]) if k != j]
        if not rest:
            advantages.append(own - target if means else 0.0)
            continue
        leave_one_out = math.fsum(rest) / len(rest)
        baseline = (1 - share) * leave_one_out + share * target
        advantages.append(own - baseline)
    return advantages


def oblr_po(rewards, weights, gradient_weights, *, rounding):
    """Each objective minus the mean of the others by their squared gradient norms."""
    del rounding  # there is no division by a difference
    advantages, sizes = [], []
    for group, norms in zip(rewards, gradient_weights, strict=True):
        terms = spread_of_terms(weights, columns_of(group, 0))
        advantages.append([])
        for i, own in enumerate(group):
            total = 0.0
            for k, w in enumerate(weights):
                others = [
                    (g, row[k])
                    for j, (g, row) in enumerate(zip(norms, group, strict=True))
                    if j != i and row[k] is not None
                ]
                norm = math.fsum(g for g, _ in others)
                if own[k] is not None and norm > 0:
                    total += w * math.fsum(g * (own[k] - r) for g, r in others) / norm
            advantages[-1].append(total)
        sizes.append([math.sqrt(len(group)) * 2 * terms] * len(group))
    return advantages, sizes


def optimal_token_baseline(rewards, weights, norms, *, rounding):
    """Of completions of one token: each objective minus its mean by the squared gradient norms."""
    del rounding  # there is no division by a difference
    advantages, sizes = [], []
    for group, counts in zip(rewards, norms, strict=True):
        terms = spread_of_terms(weights, columns_of(group, 0))
        advantages.append([])
        for own in group:
            total = 0.0
            for k, w in enumerate(weights):
                scored = [
                    (g, row[k]) for g, row in zip(counts, group, strict=True) if row[k] is not None
                ]
                if own[k] is not None:
                    norm = math.fsum(g for g, _ in scored)
                    total += w * math.fsum(g * (own[k] - r) for g, r in scored) / norm
            advantages[-1].append(total)
        sizes.append([2 * terms] * len(group))
    return advantages, sizes
