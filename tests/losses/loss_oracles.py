"""The losses of `dvaojax.losses` written again as loops over floats, and ragged data for them."""

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


class Batch(NamedTuple):
    """Arguments of a surrogate: `[B, G, T]`, `[B, G, T]`, `[B, G]`, `[B, G, T]`."""

    logp: np.ndarray
    logp_old: np.ndarray
    advantages: np.ndarray
    where: np.ndarray


def ragged_batch(seed, shape=(8, 4, 6), dtype=np.float32, spread=0.5) -> Batch:
    """Random sequences of random lengths, empty ones and holes in the middle among them."""
    rng = np.random.default_rng(seed)
    logp_old = -rng.exponential(1.0, shape)
    logp = logp_old + rng.normal(0.0, spread, shape)
    lengths = rng.integers(0, shape[-1] + 1, shape[:-1])
    where = (np.arange(shape[-1]) < lengths[..., None]) & (rng.random(shape) < 0.9)
    advantages = rng.normal(0.0, 1.0, shape[:-1])
    return Batch(logp.astype(dtype), logp_old.astype(dtype), advantages.astype(dtype), where)


def surrogate_term(log_ratio, advantage, clip_low=0.2, clip_high=0.2, dual_clip=None):
    """One token's loss as the papers write it: a minimum, then the maximum of the dual clip."""
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
    """A copy of `values` with `poison` wherever `where` is false."""
    return np.where(where, values, np.asarray(poison, values.dtype))
