"""Every aggregator once more, one number at a time, in float64 and from the papers' formulas.

Plain Python on nested tuples: nothing of the package and no array library is used. A reward is None
where it is masked. Each oracle takes one batch, `rewards[group][completion][objective]`, and
returns `(advantages, size)`, both `[group][completion]`: `size` is how large the terms are that the
advantage is the difference of, in units of the advantage. No computation in a float with the
machine epsilon `eps` can come nearer to the exact result than about `eps * size`.
"""

import functools
import math

ROUNDING = {"float32": 2.0**-11.5, "float64": 2.0**-26}  # the square root of the machine epsilon


def _moments(values, ddof):
    """Mean and standard deviation of the values that are not None."""
    present = [v for v in values if v is not None]
    if not present:
        return None, 0.0
    mean = math.fsum(present) / len(present)
    if min(present) == max(present):
        return mean, 0.0
    variance = math.fsum((v - mean) ** 2 for v in present) / (len(present) - ddof)
    return mean, math.sqrt(variance)


@functools.lru_cache(maxsize=32)  # several methods ask for the same group
def _columns(group, ddof):
    """Mean and standard deviation of each objective of one group."""
    return [_moments([row[k] for row in group], ddof) for k in range(len(group[0]))]


def _is_scored(row):
    return any(r is not None for r in row)


def _sums(group, weights, columns):
    """The summed reward of each completion, masked objectives at their group's mean."""
    sums = []
    for row in group:
        if not _is_scored(row):
            sums.append(None)
            continue
        total = 0.0
        for r, w, (mean, _) in zip(row, weights, columns, strict=True):
            total += w * (mean if r is None else r) if mean is not None else 0.0
        sums.append(total)
    return sums


def _spread_of_terms(weights, columns):
    return sum(w * deviation for w, (_, deviation) in zip(weights, columns, strict=True))


def grpo(rewards, weights, *, rounding, ddof=1, epsilon=1e-6):
    advantages, sizes = [], []
    for group in rewards:
        columns = _columns(group, ddof)
        sums = _sums(group, weights, columns)
        mean, deviation = _moments(sums, ddof)
        terms = _spread_of_terms(weights, columns)
        cancels = deviation <= rounding * terms
        advantages.append(
            [0.0 if cancels or s is None else (s - mean) / (deviation + epsilon) for s in sums]
        )
        sizes.append([1.0 if cancels else terms / (deviation + epsilon)] * len(group))
    return advantages, sizes


def reward_combination(rewards, weights, *, rounding):
    return grpo(rewards, weights, rounding=rounding, ddof=0, epsilon=0.0)


def dr_grpo(rewards, weights, *, rounding):
    del rounding  # nothing is divided
    advantages, sizes = [], []
    for group in rewards:
        columns = _columns(group, 0)
        sums = _sums(group, weights, columns)
        mean, _ = _moments(sums, 0)
        terms = _spread_of_terms(weights, columns)
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
        terms = _spread_of_terms(weights, _columns(group, 0))
        advantages.append([0.0 if terms == 0 else a for a in row])
        sizes.append([2 * terms] * len(group))
    return advantages, sizes


@functools.lru_cache(maxsize=32)
def _scores(group, ddof, epsilon):
    """Z-scores `[completion][objective]`, 0 where masked or constant; and whether any varies."""
    columns = _columns(group, ddof)
    rows = []
    for row in group:
        scores = []
        for r, (mean, deviation) in zip(row, columns, strict=True):
            masked = r is None or deviation == 0
            scores.append(0.0 if masked else (r - mean) / (deviation + epsilon))
        rows.append(scores)
    return rows, any(deviation > 0 for _, deviation in columns)


def _dot(weights, values):
    return math.fsum(w * v for w, v in zip(weights, values, strict=True))


def advantage_combination(rewards, weights, *, rounding):
    del rounding
    advantages, sizes = [], []
    for group in rewards:
        scores, _ = _scores(group, 0, 0.0)
        advantages.append([_dot(weights, row) for row in scores])
        sizes.append([1.0] * len(group))
    return advantages, sizes


def dvao(rewards, weights, *, rounding):
    """The paper's form: dynamic weights on z-scores."""
    del rounding
    advantages, sizes = [], []
    for group in rewards:
        columns = _columns(group, 0)
        scores, _ = _scores(group, 0, 0.0)
        terms = _spread_of_terms(weights, columns)
        dynamic = [
            w * deviation / terms if terms > 0 else 0.0
            for w, (_, deviation) in zip(weights, columns, strict=True)
        ]
        advantages.append([_dot(dynamic, row) for row in scores])
        sizes.append([1.0] * len(group))
    return advantages, sizes


def _whiten(rewards, values, magnitudes, counts, alive, divisor, *, rounding, ddof):
    """Whitening over the batch; `counts[group][completion]` is how often each value counts."""
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
    for group, row, is_alive in zip(rewards, values, alive, strict=True):
        advantages.append(
            [
                (v - mean) / divisor(variance) if is_alive and _is_scored(r) else 0.0
                for r, v in zip(group, row, strict=True)
            ]
        )
    return advantages, [[terms / divisor(variance)] * len(group) for group in rewards]


def _decoupled(rewards, weights, combine, divisor, *, rounding, epsilon, lengths=None, ddof=1):
    """Z-scores, one number per completion by `combine(weights, scores)`, whitening."""
    values, magnitudes, counts, alive = [], [], [], []
    for g, group in enumerate(rewards):
        scores, is_alive = _scores(group, ddof, epsilon)
        values.append([combine(weights, row) for row in scores])
        magnitudes.append([_dot(weights, [abs(s) for s in row]) for row in scores])
        one = [1] * len(group) if lengths is None else lengths[g]
        counts.append([n if _is_scored(row) else 0 for n, row in zip(one, group, strict=True)])
        alive.append(is_alive)
    return _whiten(
        rewards, values, magnitudes, counts, alive, divisor, rounding=rounding, ddof=ddof
    )


def gdpo(rewards, weights, *, rounding, epsilon=1e-4):
    def divisor(variance):
        return math.sqrt(variance) + epsilon

    return _decoupled(rewards, weights, _dot, divisor, rounding=rounding, epsilon=epsilon)


def gdpo_token_weighted(rewards, weights, lengths, *, rounding):
    def divisor(variance):
        return math.sqrt(variance + 1e-8)

    return _decoupled(
        rewards, weights, _dot, divisor, rounding=rounding, epsilon=1e-6, lengths=lengths
    )


def rvpo(rewards, weights, *, rounding, sharpness=1.0):
    shares = [w / sum(weights) for w in weights]

    def soft_minimum(shares, scores):
        powers = [p * math.exp(-sharpness * z) for p, z in zip(shares, scores, strict=True)]
        return -math.log(math.fsum(powers)) / sharpness

    def divisor(variance):
        return math.sqrt(variance) + 1e-6

    return _decoupled(rewards, shares, soft_minimum, divisor, rounding=rounding, epsilon=1e-6)


def rvpo_variance_penalty(rewards, weights, *, rounding, penalty=0.5):
    shares = [w / sum(weights) for w in weights]

    def penalised(shares, scores):
        mean = _dot(shares, scores)
        return mean - penalty * _dot(shares, [(z - mean) ** 2 for z in scores])

    def divisor(variance):
        return math.sqrt(variance) + 1e-6

    return _decoupled(rewards, shares, penalised, divisor, rounding=rounding, epsilon=1e-6)


def lite_ppo(rewards, weights, *, rounding, epsilon=1e-4):
    num_objectives = len(rewards[0][0])
    overall = [
        _moments([row[k] for group in rewards for row in group], 0)[0]
        for k in range(num_objectives)
    ]
    all_sums, terms, counted = [], 0.0, 0
    for group in rewards:
        # An objective that nobody here was scored on counts as the batch's mean of it.
        columns = [
            (overall[k] if mean is None else mean, deviation)
            for k, (mean, deviation) in enumerate(_columns(group, 0))
        ]
        all_sums.append(_sums(group, weights, columns))
        size = sum(
            w * (deviation + abs(mean - middle))
            for w, (mean, deviation), middle in zip(weights, columns, overall, strict=True)
            if middle is not None
        )
        scored = sum(map(_is_scored, group))
        terms += scored * size * size
        counted += scored
    _, deviation = _moments([s for sums in all_sums for s in sums], 1)
    terms = math.sqrt(terms / counted) if counted else 0.0
    cancels = deviation <= rounding * terms
    advantages = []
    for group, sums in zip(rewards, all_sums, strict=True):
        mean, _ = _moments(sums, 0)
        constant = cancels or _spread_of_terms(weights, _columns(group, 0)) == 0
        advantages.append(
            [0.0 if constant or s is None else (s - mean) / (deviation + epsilon) for s in sums]
        )
    size = 1.0 if cancels else terms / (deviation + epsilon)
    return advantages, [[size] * len(group) for group in rewards]
