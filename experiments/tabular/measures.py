"""Measures of the final policies, with intervals: progress, hypervolume, bootstrap."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tabular.learning import problems_of
from tabular.problem import OBJECTIVES, BanditProblem, Variant, best, worth

from dvaojax.evaluation import hypervolume

REFERENCE = np.zeros(len(OBJECTIVES))  # no objective is ever earned
RESAMPLES = 2000
CONFIDENCE = 0.95


class Ends(NamedTuple):
    """Values of the initial policy and of the best completions, for each seed.

    Attributes:
        untrained: `[S, K]` the uniform policy.
        best: `[S, W, K]` the best completion for each weighting.
    """

    untrained: Any
    best: Any


def ends(variant: Variant, seeds: np.ndarray, weights: np.ndarray) -> Ends:
    """Computes the exact values of both ends.

    Args:
        variant: of the tables.
        seeds: `[S]`.
        weights: `[W, K]`.
    """
    problems = problems_of(jnp.asarray(seeds), variant)
    values = _ends(problems, jnp.asarray(weights, jnp.float32))
    return jax.tree.map(lambda end: np.asarray(end, np.float64), values)


@jax.jit
def _ends(problems: BanditProblem, weights: jax.Array) -> Ends:
    def seed_ends(problem: BanditProblem) -> Ends:
        best_values = jax.vmap(lambda w: best(problem, w))(weights)
        return Ends(jnp.mean(worth(problem), axis=0), best_values)

    return jax.vmap(seed_ends)(problems)


def progress(values: np.ndarray, weights: np.ndarray, ends: Ends) -> np.ndarray:
    """`[S, W]` gain over the untrained policy, relative to that of the best completion.

    Measured in the weighted sum: 0 without gain, 1 at the optimum. Objectives count as earned or
    not, independently of their scale in training.

    Args:
        values: `[S, W, K]` of the final policies.
        weights: `[W, K]`.
        ends: of the same seeds and weights.
    """
    start = ends.untrained @ weights.T
    gained = np.einsum("swk,wk->sw", values, weights) - start
    return gained / (np.einsum("swk,wk->sw", ends.best, weights) - start)


def hypervolumes(values: np.ndarray, ends: Ends) -> np.ndarray:
    """`[S]` hypervolume of a seed's runs, divided by the mean hypervolume of the best completions.

    The points are the policies of the different weights, the reference point is `REFERENCE`. The
    mean over seeds may exceed 1, because a mixture of completions can be outside the region that
    they dominate.
    """
    reached, possible = (
        np.array([hypervolume(points, REFERENCE) for points in sets])
        for sets in (values, ends.best)
    )
    return reached / possible.mean()


def resampling(num_seeds: int) -> np.ndarray:
    """`[RESAMPLES, S]` how often each seed is drawn, the same for all measures."""
    rng = np.random.default_rng(0)
    share = np.full(num_seeds, 1 / num_seeds)
    return rng.multinomial(num_seeds, share, size=RESAMPLES).astype(np.float32)


def intervals(values: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Means over the seeds with their percentile bootstrap intervals (Efron, 1979).

    Args:
        values: `[S, ...]`.
        drawn: `resampling(S)`.

    Returns:
        `[..., 3]` mean, lower and upper end.
    """
    flat = values.reshape(len(values), -1)
    centre = flat.mean(axis=0)
    means = drawn @ (flat - centre).astype(np.float32) / len(flat)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    result = np.stack([centre, centre + low, centre + high], axis=-1)
    return result.reshape(*values.shape[1:], 3)
