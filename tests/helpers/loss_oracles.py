"""Reference implementations of `dvaojax.losses` as loops over floats, and ragged test data."""

import math
from functools import partial
from typing import NamedTuple

import numpy as np

from dvaojax import losses

LENGTH = 7.0
POISONS = (np.nan, np.inf, -np.inf)
REDUCTIONS = {
    "token_mean": losses.token_mean,
    "sequence_mean": losses.sequence_mean,
    "constant_length": partial(losses.constant_length, length=LENGTH),
}


class LossInputs(NamedTuple):
    """Arguments of a surrogate: `[B, G, T]`, `[B, G, T]`, `[B, G]`, `[B, G, T]`."""

    logp: np.ndarray
    logp_old: np.ndarray
    advantages: np.ndarray
    where: np.ndarray


def ragged_batch(seed, shape=(8, 4, 6), dtype=np.float32, spread=0.5) -> LossInputs:
    """Random sequences of random lengths, some empty, some with masked tokens in the middle."""
    rng = np.random.default_rng(seed)
    logp_old = -rng.exponential(1.0, shape)
    logp = logp_old + rng.normal(0.0, spread, shape)
    lengths = rng.integers(0, shape[-1] + 1, shape[:-1])
    where = (np.arange(shape[-1]) < lengths[..., None]) & (rng.random(shape) < 0.9)
    advantages = rng.normal(0.0, 1.0, shape[:-1])
    return LossInputs(logp.astype(dtype), logp_old.astype(dtype), advantages.astype(dtype), where)


def surrogate_term(log_ratio, advantage, clip_low=0.2, clip_high=0.2, dual_clip=None):
    """One token's loss as in the papers: a minimum, then the maximum of the dual clip."""
    ratio = math.exp(min(max(log_ratio, -20.0), 20.0))
    clipped = min(max(ratio, 1.0 - clip_low), 1.0 + clip_high)
    objective = min(ratio * advantage, clipped * advantage)
    if advantage < 0.0 and dual_clip is not None:
        objective = max(objective, dual_clip * advantage)
    return -objective


def reduced(name, term, where):
    """(sum, count) of `term(index)` over the tokens of `where`, sequence by sequence."""
    total, count = 0.0, 0.0
    for row in np.ndindex(where.shape[:-1]):
        terms = [term((*row, t)) for t in range(where.shape[-1]) if where[(*row, t)]]
        if not terms:
            continue
        total += {
            "token_mean": sum(terms),
            "sequence_mean": sum(terms) / len(terms),
            "constant_length": sum(terms) / LENGTH,
        }[name]
        count += len(terms) if name == "token_mean" else 1
    return total, count


def poisoned(values, where, poison):
    """A copy of `values` with `poison` where `where` is false."""
    return np.where(where, values, np.asarray(poison, values.dtype))


def inputs_of(name, batch):
    """The inputs of a loss in addition to those of all; entropies are a function of `logp_old`."""
    needs_entropy = losses.needs_entropy(losses.BY_NAME[name])
    return {"entropy": 0.3 - 0.8 * batch.logp_old} if needs_entropy else {}


class Token(NamedTuple):
    """One sampled token.

    Attributes:
        new: log-probability under the policy.
        old: log-probability under the old policy.
        advantage: advantage of the token.
        fixed: equal to `new`, but constant in finite differences, like a stopped gradient.
    """

    new: float
    old: float
    advantage: float
    fixed: float

    @property
    def ratio(self):
        return math.exp(self.new - self.old)

    @property
    def weight(self):
        return math.exp(self.fixed - self.old)

    @property
    def entropy(self):
        return 0.3 - 0.8 * self.old


def minimum(ratio, advantage, low, high):
    """(loss, is clipped) for one ratio."""
    loss = -min(ratio * advantage, min(max(ratio, low), high) * advantage)
    return loss, advantage != 0.0 and loss != -ratio * advantage


def clipped_surrogate(group, *, clip_low=0.2, clip_high=0.2, dual_clip=math.inf):
    terms = []
    for tokens in group:
        losses_of = [minimum(t.ratio, t.advantage, 1 - clip_low, 1 + clip_high) for t in tokens]
        for t, (loss, is_clipped) in zip(tokens, losses_of, strict=True):
            if t.advantage < 0 and loss > -dual_clip * t.advantage:
                loss, is_clipped = -dual_clip * t.advantage, True
            terms.append((loss, is_clipped))
    return terms


def dapo(group, *, clip_low=0.2, clip_high=0.28):
    return clipped_surrogate(group, clip_low=clip_low, clip_high=clip_high)


def dynamo(group, *, clip_low=0.2, clip_high=0.2, dual_clip=math.inf, **factors):
    modulated = modulate(group, clip_low, clip_high, **factors)
    clips = {"clip_low": clip_low, "clip_high": clip_high, "dual_clip": dual_clip}
    return clipped_surrogate(modulated, **clips)


def dynamo_code(group, *, clip_high=0.28, dual_clip=10.0, **knobs):
    return dynamo(group, clip_high=clip_high, dual_clip=dual_clip, **knobs)


def modulate(group, clip_low, clip_high, least=0.6, threshold=0.99, steepness=50.0, most=1.2):
    """The group with DynaMO's advantages; like a stopped gradient, from the fixed values."""
    change, entropies = [], [t.entropy for tokens in group for t in tokens]
    for tokens in group:
        products = [math.exp(t.fixed) * (t.fixed + t.entropy) for t in tokens]
        mean = sum(products) / max(len(products), 1)
        is_inside = [
            t.weight <= 1 + clip_high if t.advantage > 0 else t.weight >= 1 - clip_low
            for t in tokens
        ]
        change.append(
            [
                abs(t.weight * t.advantage * (p - mean)) if inside else 0.0
                for t, p, inside in zip(tokens, products, is_inside, strict=True)
            ]
        )
    largest = max((c for row in change for c in row), default=0.0)
    modulated = []
    for tokens, row in zip(group, change, strict=True):
        modulated.append([])
        for t, c in zip(tokens, row, strict=True):
            x = c / largest if largest else 0.0
            factor = least + (1 - least) / (1 + math.exp(steepness * (x - threshold)))
            if t.advantage > 0 and max(entropies) > min(entropies):
                headroom = (max(entropies) - t.entropy) / (max(entropies) - min(entropies))
                factor *= 1 + (most - 1) * headroom
            modulated[-1].append(t._replace(advantage=t.advantage * factor))
    return modulated


def gspo(group, *, clip_low=3e-4, clip_high=4e-4):
    terms = []
    for tokens in group:
        ratio = math.prod(t.ratio for t in tokens) ** (1 / max(len(tokens), 1))
        terms += [minimum(ratio, t.advantage, 1 - clip_low, 1 + clip_high) for t in tokens]
    return terms


def gspo_token(group, *, clip_low=3e-4, clip_high=4e-4):
    terms = []
    for tokens in group:
        fixed = math.prod(t.weight for t in tokens) ** (1 / max(len(tokens), 1))
        for t in tokens:
            ratio = fixed * math.exp(t.new - t.fixed)
            terms.append(minimum(ratio, t.advantage, 1 - clip_low, 1 + clip_high))
    return terms


def gmpo(group, *, clip_low=0.4, clip_high=0.4):
    terms = []
    for tokens in group:
        product = 1.0
        for t in tokens:
            least, most = math.exp(-clip_low), math.exp(clip_high)
            product *= max(t.ratio, least) if t.advantage < 0 else min(t.ratio, most)
        for t in tokens:
            is_clipped = minimum(t.ratio, t.advantage, least, most)[1]
            terms.append((-t.advantage * product ** (1 / len(tokens)), is_clipped))
    return terms


def weighted_gradient(token, weight, low, high):
    bounded = min(max(weight, low), high)
    return -bounded * token.advantage * token.new, token.advantage != 0 and bounded != weight


def cispo(group, *, clip_low=1.0, clip_high=0.28):
    tokens = [t for tokens in group for t in tokens]
    return [weighted_gradient(t, t.weight, 1 - clip_low, 1 + clip_high) for t in tokens]


def minpro(group, *, clip_low=1.0, clip_high=0.28):
    terms = []
    for tokens in group:
        for i, t in enumerate(tokens):
            weight = t.weight * min((before.weight for before in tokens[:i]), default=1.0)
            terms.append(weighted_gradient(t, weight, 1 - clip_low, 1 + clip_high))
    return terms


def sapo(group, *, tau_positive=1.0, tau_negative=1.05):
    def term(t):
        tau = tau_positive if t.advantage > 0 else tau_negative
        return -4 / tau / (1 + math.exp(-tau * (t.ratio - 1))) * t.advantage

    return [(term(t), False) for tokens in group for t in tokens]


def masked_gradient(group, is_masked, ratio_cap):
    terms = []
    for t in (t for tokens in group for t in tokens):
        masked = is_masked(t)
        loss = 0.0 if masked else -min(t.weight, ratio_cap) * t.advantage * t.new
        terms.append((loss, masked and t.advantage != 0))
    return terms


def dppo_tv(group, *, delta_low=0.15, delta_high=0.15, ratio_cap=20.0):
    def is_masked(t):
        change = math.exp(t.fixed) - math.exp(t.old)
        return change > delta_high if t.advantage > 0 else change < -delta_low

    return masked_gradient(group, is_masked, ratio_cap)


def bernoulli_kl(p, q):
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def dppo_kl(group, *, delta_low=0.05, delta_high=0.05, ratio_cap=20.0):
    def is_masked(t):
        divergence = bernoulli_kl(math.exp(t.old), math.exp(t.fixed))
        if t.advantage > 0:
            return divergence > delta_high and t.fixed > t.old
        return divergence > delta_low and t.fixed < t.old

    return masked_gradient(group, is_masked, ratio_cap)


def covariances(group):
    tokens = [t for tokens in group for t in tokens]
    mean_advantage = sum(t.advantage for t in tokens) / max(len(tokens), 1)
    mean_logp = sum(t.fixed for t in tokens) / max(len(tokens), 1)
    return [(t.advantage - mean_advantage) * (t.fixed - mean_logp) for t in tokens]


def clip_cov(group, *, clip_low=0.2, clip_high=0.2, share=1.0, cov_low=1.0, cov_high=5.0):
    """Every candidate is dropped; a smaller share would need random numbers."""
    assert share == 1.0
    terms = clipped_surrogate(group, clip_low=clip_low, clip_high=clip_high)
    advantages = [t.advantage for tokens in group for t in tokens]
    for i, covariance in enumerate(covariances(group)):
        if cov_low < covariance < cov_high and not terms[i][1]:
            terms[i] = 0.0, advantages[i] != 0
    return terms


def kl_cov(group, *, share=2e-4, kl_coefficient=1.0):
    tokens = [t for tokens in group for t in tokens]
    values = covariances(group)
    number = max(1, int(share * len(tokens)))
    least = sorted(values, reverse=True)[number - 1] if tokens else 0.0
    terms = []
    for i, t in enumerate(tokens):
        is_selected = values[i] >= least and values[i] > 0
        penalty = kl_coefficient * abs(t.new - t.old) if is_selected else 0.0
        terms.append((-t.advantage * t.ratio + penalty, is_selected and t.advantage != 0))
    return terms


def lco(group, distance):
    """`distance(token)` for every token."""
    return [(distance(t), False) for tokens in group for t in tokens]


def odds(p):
    return math.log(p / (1 - p))


def tilted(token, beta):
    """The probability after the token's weight has been multiplied by exp(A / beta)."""
    old = math.exp(token.old)
    weight = old * math.exp(token.advantage / beta)
    return weight / (weight + 1 - old)


def lco_mse(group, *, beta=1.0):
    return lco(group, lambda t: beta / 2 * (odds(math.exp(t.new)) - odds(tilted(t, beta))) ** 2)


def lco_lch(group, *, beta=1.0):
    return lco(
        group, lambda t: beta * math.log(math.cosh(odds(math.exp(t.new)) - odds(tilted(t, beta))))
    )


def lco_kld(group, *, beta=1.0):
    return lco(group, lambda t: beta * bernoulli_kl(tilted(t, beta), math.exp(t.new)))


LOOPS = {
    loop.__name__: loop
    for loop in (
        clipped_surrogate,
        dapo,
        dynamo,
        dynamo_code,
        gspo,
        gspo_token,
        gmpo,
        cispo,
        minpro,
        sapo,
        dppo_tv,
        dppo_kl,
        clip_cov,
        kl_cov,
        lco_mse,
        lco_lch,
        lco_kld,
    )
}

# Knobs for which ratios lie on both sides of every bound.
KNOBS = {
    "clipped_surrogate": {"clip_low": 0.1, "clip_high": 0.3, "dual_clip": 1.5},
    "dapo": {},
    "dynamo": {
        "clip_low": 0.1,
        "clip_high": 0.3,
        "dual_clip": 1.5,
        "least": 0.5,
        "threshold": 0.4,
        "steepness": 5.0,
        "most": 1.6,
    },
    "dynamo_code": {"threshold": 0.1, "steepness": 5.0},
    "gspo": {"clip_low": 0.1, "clip_high": 0.15},
    "gspo_token": {"clip_low": 0.1, "clip_high": 0.15},
    "gmpo": {"clip_low": 0.3, "clip_high": 0.2},
    "cispo": {"clip_low": 0.3, "clip_high": 0.2},
    "minpro": {"clip_low": 0.5, "clip_high": 0.1},
    "sapo": {"tau_positive": 1.0, "tau_negative": 2.0},
    "dppo_tv": {"delta_low": 0.1, "delta_high": 0.05, "ratio_cap": 1.3},
    "dppo_kl": {"delta_low": 0.02, "delta_high": 0.01, "ratio_cap": 1.3},
    "clip_cov": {"share": 1.0, "cov_low": 0.1, "cov_high": 1.0},
    "kl_cov": {"share": 0.2, "kl_coefficient": 0.7},
    "lco_mse": {"beta": 0.7},
    "lco_lch": {"beta": 0.7},
    "lco_kld": {"beta": 0.7},
}


def loop_of(name, batch, *, fixed=None, **knobs):
    """Index of each sampled token -> (its term, is bounded), group by group."""
    fixed = batch.logp if fixed is None else fixed
    terms = {}
    for b in range(batch.where.shape[0]):
        group, indices_of_group = [], []
        for g, row in enumerate(batch.where[b]):
            indices = [(b, g, int(t)) for t in np.flatnonzero(row)]
            indices_of_group += indices
            group.append(
                [
                    Token(
                        float(batch.logp[i]),
                        float(batch.logp_old[i]),
                        float(batch.advantages[i[:-1]]),
                        float(fixed[i]),
                    )
                    for i in indices
                ]
            )
        terms |= dict(zip(indices_of_group, LOOPS[name](group, **knobs), strict=True))
    return terms


def slopes_of_loop(name, batch, reduction, **knobs):
    """The gradient of a loop's total by every log-probability, by central differences."""
    slopes, step = np.zeros(batch.where.shape), 1e-6
    for i in zip(*np.nonzero(batch.where), strict=True):
        ends = []
        for change in (step, -step):
            moved = batch.logp.copy()
            moved[i] += change
            # A token only affects the terms of its own group.
            piece = LossInputs(*(leaf[i[0] : i[0] + 1] for leaf in batch._replace(logp=moved)))
            fixed = batch.logp[i[0] : i[0] + 1]
            terms = loop_of(name, piece, fixed=fixed, **knobs)
            ends.append(reduced(reduction, lambda j, terms=terms: terms[j][0], piece.where)[0])
        slopes[i] = (ends[0] - ends[1]) / (2 * step)
    return slopes
