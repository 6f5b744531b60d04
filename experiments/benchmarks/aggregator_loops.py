"""The aggregators as NumPy loops over the groups, with the defaults of the aggregators.

The baselines of `aggregators.py`: straightforward code with the mean and standard deviation of one
group at a time, without masks and without handling of zero-variance groups.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np


def _each_group(one_group: Callable) -> Callable:
    """A loop over groups of `one_group(rewards [G, K], weights) -> [G]`."""

    def loop(rewards, weights, lengths):
        del lengths
        return np.stack([one_group(group, weights) for group in rewards])

    return loop


def _scores(rewards, *, epsilon: float, ddof: int = 1):
    """Z-scores `[B, G, K]`, group by group."""
    groups = [
        (group - group.mean(axis=0)) / (group.std(axis=0, ddof=ddof) + epsilon) for group in rewards
    ]
    return np.stack(groups)


def _whiten(values, counts, *, epsilon: float = 0.0, ddof: int = 1):
    mean = np.average(values, weights=counts)
    variance = np.sum(counts * (values - mean) ** 2) / (np.sum(counts) - ddof)
    return (values - mean) / (np.sqrt(variance) + epsilon)


def _whitened(combine: Callable, *, epsilon: float, by_tokens: bool = False) -> Callable:
    """Z-scores, then `combine(z [G, K], weights) -> [G]` per group, then whitening of the batch."""

    def loop(rewards, weights, lengths):
        scores = _scores(rewards, epsilon=epsilon)
        values = np.stack([combine(group_scores, weights) for group_scores in scores])
        counts = lengths if by_tokens else np.ones_like(values)
        return _whiten(values, counts, epsilon=epsilon)

    return loop


def _gdpo_with(adapt: Callable, *, epsilon: float, ddof: int = 1) -> Callable:
    """GDPO with the weights `adapt(rewards, weights)`, `[K]` or `[B, K]`."""

    def loop(rewards, weights, lengths):
        del lengths
        adapted = np.broadcast_to(adapt(rewards, weights), rewards.shape[::2])
        scores = _scores(rewards, epsilon=epsilon, ddof=ddof)
        values = np.stack([z @ w for z, w in zip(scores, adapted, strict=True)])
        return _whiten(values, np.ones_like(values), epsilon=epsilon, ddof=ddof)

    return loop


def _grpo(group, weights):
    total = group @ weights
    return (total - total.mean()) / (total.std(ddof=1) + 1e-6)


def _dr_grpo(group, weights):
    total = group @ weights
    return total - total.mean()


def _rloo(group, weights):
    total = group @ weights
    return total - (total.sum() - total) / (len(total) - 1)


def _reward_combination(group, weights):
    total = group @ weights
    return (total - total.mean()) / total.std()


def _advantage_combination(group, weights):
    return (group - group.mean(axis=0)) / group.std(axis=0) @ weights


def _dvao(group, weights):
    return (group - group.mean(axis=0)) @ weights / (group.std(axis=0) @ weights)


def _dvao_interpolated(group, weights):
    centred = (group - group.mean(axis=0)) @ weights
    return centred / np.sqrt((centred.var() + (group.std(axis=0) @ weights) ** 2) / 2)


def _dvao_shrunk(rewards, weights, lengths):
    deviation = rewards.std(axis=1)
    n = rewards.shape[1]
    c4 = math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))
    uncertain = (
        np.mean(deviation**2, axis=0) * (1 - c4**2) / np.maximum(deviation.var(axis=0), 1e-30)
    )
    mean = deviation.mean(axis=0)
    moved = mean + np.maximum(1 - uncertain, 0) * (deviation - mean)
    return _each_group(_dr_grpo)(rewards, weights, lengths) / (moved @ weights)[:, None]


def _opo(rewards, weights, lengths):
    total = rewards @ weights
    return total - np.average(total, axis=1, weights=lengths)[:, None]


def _lite_ppo(rewards, weights, lengths):
    centred = _each_group(_dr_grpo)(rewards, weights, lengths)
    return centred / ((rewards @ weights).std(ddof=1) + 1e-4)


def _weighted(scores, weights):
    return scores @ weights


def _soft_minimum(scores, weights):
    return -np.log(np.exp(-scores) @ weights)


def _penalised_mean(scores, weights):
    mean = scores @ weights
    return mean - 0.5 * (scores - mean[:, None]) ** 2 @ weights


def _corr_grpo(group, weights):
    return (group - group.mean(axis=0)) @ weights / np.sqrt(np.corrcoef(group.T).sum() + 1e-6)


def _maxrl(group, weights):
    total = group @ weights
    return (total - total.mean()) / (abs(total.mean()) + 1e-6)


def _tchebycheff(group, weights):
    value = 0.05 * group @ weights - np.max(weights * (1 - group), axis=1)
    return (value - value.mean()) / (value.std(ddof=1) + 1e-6)


def _focal(group, weights):
    focused = weights * np.clip(1 - group.mean(axis=0), 0, 1)
    return _grpo(group, focused / focused.sum())


def _plus_plus(rewards, weights, lengths):
    return _whiten(np.stack([group @ weights for group in rewards]), lengths)


def _plus_plus_baseline(rewards, weights, lengths):
    return _whiten(_each_group(_dr_grpo)(rewards, weights, lengths), lengths)


def _variation(rewards, weights):
    flat = rewards.reshape(-1, rewards.shape[-1])
    coefficients = flat.std(axis=0, ddof=1) / (np.abs(flat.mean(axis=0)) + 1e-8)
    return weights * len(weights) * coefficients / coefficients.sum()


def _saw_grpo(rewards, weights, lengths):
    return _each_group(_grpo)(rewards, _variation(rewards, weights), lengths)


def _saturation(rewards, weights):
    return weights * np.sqrt(1 - np.clip(rewards.mean(axis=(0, 1)), 0, 1))


def _factors(rewards):
    density = np.sum([group.std(axis=0) > 0 for group in rewards], axis=0)
    return np.minimum(np.sqrt(density.max() / density), 5)


def _rarity(rewards, weights):
    return weights * _factors(rewards)


def _dara_asymmetric(rewards, weights, lengths):
    factors = _factors(rewards)

    def stretched(scores, weights):
        return np.where(scores > 0, scores * factors, scores) @ weights

    return _whitened(stretched, epsilon=1e-4)(rewards, weights, lengths)


def _gd2po(threshold: float) -> Callable:
    def loop(rewards, weights, lengths):
        del lengths
        values, kept = [], []
        for scores in _scores(rewards, epsilon=1e-6):
            conflict = np.any(scores > 3e-4, axis=1) & np.any(scores < -3e-4, axis=1)
            ratio = np.abs(scores @ weights) / (np.abs(scores) @ weights)
            keep = ~(conflict & (ratio < threshold))
            values.append(keep.mean() * scores @ weights)
            kept.append(keep)
        kept = np.stack(kept)
        return np.where(kept, _whiten(np.stack(values), kept, epsilon=1e-6), 0)

    return loop


def _rdpo(rewards, weights, lengths):
    del lengths
    spread = np.sqrt(np.mean([group.var(axis=0) for group in rewards], axis=0))
    ranks = np.stack(
        [np.clip((g[:, None] - g[None]) / spread, -1, 1).mean(axis=1) for g in rewards]
    )
    flat = ranks.reshape(-1, ranks.shape[-1])
    tau = np.sqrt(np.mean(flat**2, axis=0))
    correlations = (flat / tau).T @ (flat / tau) / len(flat)
    values, vectors = np.linalg.eigh(0.99 * correlations + 0.01 * np.eye(len(tau)))
    return ranks / tau @ (vectors / np.sqrt(values)) @ vectors.T @ weights


def _least(matrix, linear, allowed):
    """`x >= 0` that minimises `x' matrix x / 2 - linear' x`, by enumeration of the supports."""
    best = np.zeros(len(linear))
    for support in itertools.product([False, True], repeat=len(linear)):
        on = np.flatnonzero(support & allowed)
        x = np.zeros(len(linear))
        x[on] = np.linalg.solve(matrix[np.ix_(on, on)], linear[on])
        if np.all(x >= 0) and linear @ x > linear @ best:
            best = x
    return best


def _cross_fitted(rewards, weights):
    scores = _scores(rewards, epsilon=1e-6).astype(np.float64)
    fold = np.arange(len(rewards)) % 2
    coefficients = []
    for own in (0, 1):
        products = np.mean([z.T @ z / len(z) for z in scores[fold != own]], axis=0)
        products += 0.01 * products.diagonal().max() * np.eye(len(weights))
        headroom = np.clip(1 - rewards[fold != own].mean(axis=(0, 1)), 0, 1)
        priorities = weights * np.sqrt(np.maximum(headroom, 0.05))
        leading = _least(products, priorities, headroom > 0.05)
        back = _least(products, -products @ leading, np.ones(len(weights), bool))
        coefficients.append((leading + back) / np.sum(leading + back))
    return np.stack(coefficients)[fold]


LOOPS: dict[str, Callable] = {
    "grpo": _each_group(_grpo),
    "dr_grpo": _each_group(_dr_grpo),
    "rloo": _each_group(_rloo),
    "reward_combination": _each_group(_reward_combination),
    "advantage_combination": _each_group(_advantage_combination),
    "dvao": _each_group(_dvao),
    "dvao_denoised": _each_group(_dvao),
    "dvao_interpolated": _each_group(_dvao_interpolated),
    "dvao_shrunk": _dvao_shrunk,
    "lite_ppo": _lite_ppo,
    "opo": _opo,
    "gdpo": _whitened(_weighted, epsilon=1e-4),
    "gdpo_token_weighted": _whitened(_weighted, epsilon=1e-6, by_tokens=True),
    "rvpo": _whitened(_soft_minimum, epsilon=1e-6),
    "rvpo_variance_penalty": _whitened(_penalised_mean, epsilon=1e-6),
    "corr_grpo": _each_group(_corr_grpo),
    "maxrl": _each_group(_maxrl),
    "reinforce_plus_plus": _plus_plus,
    "reinforce_plus_plus_baseline": _plus_plus_baseline,
    "saw_grpo": _saw_grpo,
    "saw_gdpo": _gdpo_with(_variation, epsilon=1e-4),
    "sa_mrpo": _gdpo_with(_saturation, epsilon=1e-6, ddof=0),
    "dara_symmetric": _gdpo_with(_rarity, epsilon=1e-4),
    "dara_asymmetric": _dara_asymmetric,
    "gd2po_hard": _gd2po(np.inf),
    "gd2po_snr": _gd2po(0.8),
    "sc_ppo": _gdpo_with(_cross_fitted, epsilon=1e-6),
    "augmented_tchebycheff": _each_group(_tchebycheff),
    "focal_reward": _each_group(_focal),
    "rdpo": _rdpo,
}
