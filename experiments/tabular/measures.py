"""From where runs arrived to numbers with intervals: share of the way, hypervolume, bootstrap."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tabular.learning import problems_of
from tabular.problem import OBJECTIVES, Problem, Variant, best, worth

from dvaojax.evaluation import hypervolume

REFERENCE = np.zeros(len(OBJECTIVES))  # nothing is ever earned
RESAMPLES = 2000
CONFIDENCE = 0.95


class Ends(NamedTuple):
    """Where the runs of each seed begin, and the best that they could come to.

    Attributes:
        untrained: `[S, K]` the uniform policy.
        best: `[S, W, K]` the best completion for each weighting.
    """

    untrained: Any
    best: Any


def ends(variant: Variant, seeds: np.ndarray, weights: np.ndarray) -> Ends:
    """Exact values of the two ends.

    Args:
        variant: of the tables.
        seeds: `[S]`.
        weights: `[W, K]`.
    """
    problems = problems_of(jnp.asarray(seeds), variant)
    found = _ends(problems, jnp.asarray(weights, jnp.float32))
    return jax.tree.map(lambda end: np.asarray(end, np.float64), found)


@jax.jit
def _ends(problems: Problem, weights: jax.Array) -> Ends:
    def of_seed(problem: Problem) -> Ends:
        of_weights = jax.vmap(lambda w: best(problem, w))(weights)
        return Ends(jnp.mean(worth(problem), axis=0), of_weights)

    return jax.vmap(of_seed)(problems)


def progress(values: np.ndarray, weights: np.ndarray, ends: Ends) -> np.ndarray:
    """`[S, W]` the share of the way from the untrained policy to the best completion.

    In the weighted sum that was asked for: 0 where nothing was gained, 1 at the optimum. Objectives
    count as earned or not, whatever they paid in training.

    Args:
        values: `[S, W, K]` where the runs arrived.
        weights: `[W, K]`.
        ends: of the same seeds and weights.
    """
    start = ends.untrained @ weights.T
    gained = np.einsum("swk,wk->sw", values, weights) - start
    return gained / (np.einsum("swk,wk->sw", ends.best, weights) - start)


def hypervolumes(values: np.ndarray, ends: Ends) -> np.ndarray:
    """`[S]` the hypervolume of a seed's runs, over the mean of that of the best completions.

    The weightings' policies are the points, and what counts is above `REFERENCE`. The mean over
    seeds may exceed 1: a policy between two completions can lie beyond what they cover.
    """
    reached, possible = (
        np.array([hypervolume(points, REFERENCE) for points in sets])
        for sets in (values, ends.best)
    )
    return reached / possible.mean()


def resampling(num_seeds: int) -> np.ndarray:
    """`[RESAMPLES, S]` how often each seed is drawn; one for all numbers, so that they compare."""
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
    found = np.stack([centre, centre + low, centre + high], axis=-1)
    return found.reshape(*values.shape[1:], 3)
