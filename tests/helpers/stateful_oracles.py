"""Oracles of the stateful aggregators, in plain Python loops in float64.

They use nested tuples, as in `aggregator_oracles`, in a list of steps. Each oracle returns the
advantages `[step][group][completion]` and the final state.
"""

import math

import aggregator_oracles as oracles
import variant_oracles
from oracle_arithmetic import dot, scores_of


def _column(batch, objective):
    """Every reward of one objective that was scored."""
    return [row[objective] for group in batch for row in group if row[objective] is not None]


def _mean(values):
    return math.fsum(values) / len(values)


def rvpo_annealed(steps, weights, *, rounding, first, last, num_steps):
    advantages = []
    for t, batch in enumerate(steps):
        sharpness = last if t >= num_steps - 1 else first + (last - first) * t / (num_steps - 1)
        one, _ = oracles.rvpo(batch, weights, rounding=rounding, sharpness=sharpness)
        advantages.append(one)
    return advantages, {"steps": len(steps)}


def _dual_ascent(steps, weights, combine, *, threshold, rate, most):
    multipliers, advantages = [0.0] * len(weights), []
    for batch in steps:
        advantages.append(
            combine(batch, [w + m for w, m in zip(weights, multipliers, strict=True)])
        )
        for k, bound in enumerate(threshold):
            column = _column(batch, k)
            if bound > -math.inf and column:
                moved = multipliers[k] + rate * (bound - _mean(column))
                multipliers[k] = min(most, max(0.0, moved))
    return advantages, {"multipliers": multipliers}


def lagrangian(steps, weights, *, rounding, **knobs):
    def combine(batch, weights):
        return oracles.grpo(batch, weights, rounding=rounding)[0]

    return _dual_ascent(steps, weights, combine, **knobs)


def constrained_grpo(steps, weights, *, rounding, **knobs):
    del rounding  # each objective is divided by its own deviation, nothing cancels

    def combine(batch, weights):
        groups = [scores_of(group, 1, 1e-6)[0] for group in batch]
        return [[dot(weights, row) for row in scores] for scores in groups]

    return _dual_ascent(steps, weights, combine, **knobs)


def dvao_shrunk_running(steps, weights, *, rounding, decay):
    del rounding
    running, advantages = [[0.0] * 4 for _ in weights], []
    for batch in steps:
        for k, before in enumerate(running):
            now = variant_oracles.deviation_sums(batch, k)
            running[k] = [decay * old + new for old, new in zip(before, now, strict=True)]
        advantages.append(variant_oracles.shrunk(batch, weights, running)[0])
    groups, total, squares, variances = zip(*running, strict=True)
    return advantages, {
        "groups": list(groups),
        "total": list(total),
        "norm": [math.sqrt(square) for square in squares],
        "uncertainty": [math.sqrt(variance) for variance in variances],
    }


def ctwa(steps, weights, *, rounding, target, cap, rate, smoothing):
    log_factor = [0.0] * len(weights)
    running: list[float | None] = [None] * len(weights)
    advantages = []
    for batch in steps:
        grown = [w * math.exp(u) for w, u in zip(weights, log_factor, strict=True)]
        one, _ = oracles.grpo(batch, grown, rounding=rounding)
        advantages.append(one)
        for k in range(len(weights)):
            within = []
            for group, row in zip(batch, one, strict=True):
                pairs = [(r[k], a) for r, a in zip(group, row, strict=True) if r[k] is not None]
                if len(pairs) >= 2:
                    reward, advantage = (_mean(column) for column in zip(*pairs, strict=True))
                    within.append(_mean([(r - reward) * (a - advantage) for r, a in pairs]))
            if not within:
                continue
            now, before = _mean(within), running[k]
            now = now if before is None else (1 - smoothing) * before + smoothing * now
            running[k] = now
            if _mean(_column(batch, k)) < cap:
                log_factor[k] += rate * max(0.0, target - now)
    return advantages, {
        "log_factor": log_factor,
        "covariance": [0.0 if m is None else m for m in running],
    }


def hvpo(steps, weights, *, rounding, lower, upper, reference, decay, initial, epsilon):
    del rounding  # nothing is divided by what the step itself varies
    divisor, advantages = initial, []
    for batch in steps:
        differences = [
            _against_the_others(group, weights, lower, upper, reference) for group in batch
        ]
        advantages.append([[(d or 0.0) / (divisor + epsilon) for d in row] for row in differences])
        flat = [d for row in differences for d in row if d is not None]
        if flat:
            mean = _mean(flat)
            now = math.sqrt(_mean([(d - mean) ** 2 for d in flat]))
            divisor = decay * divisor + (1 - decay) * now
    return advantages, {"deviation": divisor}


def _against_the_others(group, weights, lower, upper, reference):
    """Credit minus the mean credit of the others; None for a completion that was not scored."""
    columns = [_column([group], k) for k in range(len(weights))]
    means = [_mean(column) if column else 0.0 for column in columns]
    shares = [w if column else 0.0 for w, column in zip(weights, columns, strict=True)]
    total = sum(shares)
    credits = []
    for row in group:
        if all(r is None for r in row):
            credits.append(None)
            continue
        gains = [
            (((means[k] if r is None else r) - lower) / (upper - lower) - reference, shares[k])
            for k, r in enumerate(row)
            if shares[k] > 0
        ]
        worst = min((gain for gain, _ in gains), default=0.0)
        credits.append(
            worst if worst <= 0 else math.prod(gain ** (share / total) for gain, share in gains)
        )
    scored = [credit for credit in credits if credit is not None]
    if len(scored) < 2:
        return [None if credit is None else 0.0 for credit in credits]
    rest = math.fsum(scored)
    return [
        None if credit is None else credit - (rest - credit) / (len(scored) - 1)
        for credit in credits
    ]
