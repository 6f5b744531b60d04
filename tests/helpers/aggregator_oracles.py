"""Oracles: aggregators from the formulas of the papers, in plain Python loops in float64.

They use nested tuples, nothing of the package and no array library. Masked rewards are None. Each
oracle takes one batch, `rewards[group][completion][objective]`, and returns `(advantages, size)`,
both `[group][completion]`: `size` is the size of the terms whose difference the advantage is, in
units of the advantage. A computation with machine epsilon `eps` has an error of at least about
`eps * size`.
"""

import math

from oracle_arithmetic import (
    columns_of,
    decoupled,
    dot,
    is_scored,
    moments,
    scores_of,
    spread_of_terms,
    sums_of,
)


def grpo(rewards, weights, *, rounding, ddof=1, epsilon=1e-6):
    advantages, sizes = [], []
    for group in rewards:
        columns = columns_of(group, ddof)
        sums = sums_of(group, weights, columns)
        mean, deviation = moments(sums, ddof)
        terms = spread_of_terms(weights, columns)
        cancels = deviation <= rounding * terms
        advantages.append(
            [0.0 if cancels or s is None else (s - mean) / (deviation + epsilon) for s in sums]
        )
        sizes.append([1.0 if cancels else terms / (deviation + epsilon)] * len(group))
    return advantages, sizes


def reward_combination(rewards, weights, *, rounding):
    return grpo(rewards, weights, rounding=rounding, ddof=0, epsilon=0.0)


def dr_grpo(rewards, weights, *, rounding):
    del rounding  # there is no division
    advantages, sizes = [], []
    for group in rewards:
        columns = columns_of(group, 0)
        sums = sums_of(group, weights, columns)
        mean, _ = moments(sums, 0)
        terms = spread_of_terms(weights, columns)
        advantages.append([0.0 if terms == 0 or s is None else s - mean for s in sums])
        sizes.append([terms] * len(group))
    return advantages, sizes


def rloo(rewards, weights, *, rounding):
    """Each objective minus its mean over the other completions that were scored on it."""
    del rounding
    advantages, sizes = [], []
    for group in rewards:
        row = []
        for i, own in enumerate(group):
            total = 0.0
            for k, w in enumerate(weights):
                others = [r[k] for j, r in enumerate(group) if j != i and r[k] is not None]
                if own[k] is not None and others:
                    total += w * (own[k] - math.fsum(others) / len(others))
            row.append(total)
        terms = spread_of_terms(weights, columns_of(group, 0))
        advantages.append([0.0 if terms == 0 else a for a in row])
        sizes.append([2 * terms] * len(group))
    return advantages, sizes


def advantage_combination(rewards, weights, *, rounding):
    del rounding
    advantages, sizes = [], []
    for group in rewards:
        scores, _ = scores_of(group, 0, 0.0)
        advantages.append([dot(weights, row) for row in scores])
        sizes.append([1.0] * len(group))
    return advantages, sizes


def dvao(rewards, weights, *, rounding):
    """The paper's form: dynamic weights on z-scores."""
    del rounding
    advantages, sizes = [], []
    for group in rewards:
        columns = columns_of(group, 0)
        scores, _ = scores_of(group, 0, 0.0)
        terms = spread_of_terms(weights, columns)
        dynamic = [
            w * deviation / terms if terms > 0 else 0.0
            for w, (_, deviation) in zip(weights, columns, strict=True)
        ]
        advantages.append([dot(dynamic, row) for row in scores])
        sizes.append([1.0] * len(group))
    return advantages, sizes


def gdpo(rewards, weights, *, rounding, epsilon=1e-4):
    def divisor(variance):
        return math.sqrt(variance) + epsilon

    return decoupled(rewards, weights, dot, divisor, rounding=rounding, epsilon=epsilon)


def gdpo_token_weighted(rewards, weights, lengths, *, rounding):
    def divisor(variance):
        return math.sqrt(variance + 1e-8)

    return decoupled(
        rewards, weights, dot, divisor, rounding=rounding, epsilon=1e-6, lengths=lengths
    )


def rvpo(rewards, weights, *, rounding, sharpness=1.0):
    shares = [w / sum(weights) for w in weights]

    def soft_minimum(shares, scores):
        powers = [p * math.exp(-sharpness * z) for p, z in zip(shares, scores, strict=True)]
        return -math.log(math.fsum(powers)) / sharpness

    def divisor(variance):
        return math.sqrt(variance) + 1e-6

    return decoupled(rewards, shares, soft_minimum, divisor, rounding=rounding, epsilon=1e-6)


def rvpo_variance_penalty(rewards, weights, *, rounding, penalty=0.5):
    shares = [w / sum(weights) for w in weights]

    def penalised(shares, scores):
        mean = dot(shares, scores)
        return mean - penalty * dot(shares, [(z - mean) ** 2 for z in scores])

    def divisor(variance):
        return math.sqrt(variance) + 1e-6

    return decoupled(rewards, shares, penalised, divisor, rounding=rounding, epsilon=1e-6)


def lite_ppo(rewards, weights, *, rounding, epsilon=1e-4):
    num_objectives = len(rewards[0][0])
    overall = [
        moments([row[k] for group in rewards for row in group], 0)[0] for k in range(num_objectives)
    ]
    all_sums, terms, counted = [], 0.0, 0
    for group in rewards:
        # An objective without scores in the group counts as the batch's mean.
        columns = [
            (overall[k] if mean is None else mean, deviation)
            for k, (mean, deviation) in enumerate(columns_of(group, 0))
        ]
        all_sums.append(sums_of(group, weights, columns))
        size = sum(
            w * (deviation + abs(mean - middle))
            for w, (mean, deviation), middle in zip(weights, columns, overall, strict=True)
            if middle is not None
        )
        scored = sum(map(is_scored, group))
        terms += scored * size * size
        counted += scored
    _, deviation = moments([s for sums in all_sums for s in sums], 1)
    terms = math.sqrt(terms / counted) if counted else 0.0
    cancels = deviation <= rounding * terms
    advantages = []
    for group, sums in zip(rewards, all_sums, strict=True):
        mean, _ = moments(sums, 0)
        constant = cancels or spread_of_terms(weights, columns_of(group, 0)) == 0
        advantages.append(
            [0.0 if constant or s is None else (s - mean) / (deviation + epsilon) for s in sums]
        )
    size = 1.0 if cancels else terms / (deviation + epsilon)
    return advantages, [[size] * len(group) for group in rewards]
