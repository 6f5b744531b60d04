"""Oracles of our variants of DVAO and of OPO; see `aggregator_oracles`."""

import math

import aggregator_oracles
from oracle_arithmetic import columns_of, is_scored, moments, spread_of_terms, sums_of


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
