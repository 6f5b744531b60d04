"""Random tables of completions with known reward distributions, in six variants.

The probability that one of `NUM_COMPLETIONS` completions earns an objective on one of `NUM_PROMPTS`
prompts follows an item-response model (Rasch, 1960): it is the logistic function of
`STEEPNESS * (skill + fit - difficulty)`. Skill depends on the completion, difficulty on the prompt,
fit on both; all are normally distributed. An objective is earned or not, as with a verifier.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

OBJECTIVES = ("accuracy", "brevity", "format")
ACCURACY, BREVITY, FORMAT = range(3)
NUM_PROMPTS = 32
NUM_COMPLETIONS = 16  # V
STEEPNESS = 2.0
USUAL_LENGTH = 100.0  # tokens of a completion of average brevity


class Variant(NamedTuple):
    """Parameters of a family of tables.

    Attributes:
        correlation: `[K]` of each objective with the first, in skill and in fit; 1 for the first.
        difficulty: `[K]` the mean over the prompts.
        variety: `[K]` the standard deviation of skill over the completions.
        scale: `[K]` reward of an earned objective; in the measures its value is always 1.
        noise: `[K]` standard deviation of the noise on each reward.
    """

    correlation: Array
    difficulty: Array
    variety: Array
    scale: Array
    noise: Array


def variants() -> Mapping[str, Variant]:
    """The six variants by name."""
    return {
        "plain": _variant(),
        "noisy": _variant(noise=(0.0, 0.0, 1.0)),
        "conflict": _variant(correlation=(1.0, -0.9, 0.0)),
        "scaled": _variant(scale=(1.0, 10.0, 1.0)),
        "rare": _variant(difficulty=(0.0, 0.0, 5.5), variety=(1.0, 1.0, 3.0)),
        "saturated": _variant(difficulty=(0.0, 0.0, -5.5), variety=(1.0, 1.0, 3.0)),
    }


def _variant(
    *,
    correlation: tuple[float, ...] = (1.0, 0.0, 0.0),
    difficulty: tuple[float, ...] = (0.0, 0.0, 0.0),
    variety: tuple[float, ...] = (1.0, 1.0, 1.0),
    scale: tuple[float, ...] = (1.0, 1.0, 1.0),
    noise: tuple[float, ...] = (0.0, 0.0, 0.0),
) -> Variant:
    fields = (correlation, difficulty, variety, scale, noise)
    return Variant(*(jnp.asarray(field, jnp.float32) for field in fields))


class BanditProblem(NamedTuple):
    """One table of completions.

    Attributes:
        success: `[prompts, V, K]` probability that a completion earns an objective.
        lengths: `[V]` tokens of each completion, for methods that weight by length.
        scale: `[K]`, see `Variant`.
        noise: `[K]`, see `Variant`.
    """

    success: Array
    lengths: Array
    scale: Array
    noise: Array


def draw_problem(key: Array, variant: Variant) -> BanditProblem:
    """A random table of the variant; with the same key, only the variant's parameters differ."""
    skill_key, fit_key, difficulty_key = jax.random.split(key, 3)
    num_objectives = variant.correlation.shape[-1]
    skill = jax.random.normal(skill_key, (NUM_COMPLETIONS, num_objectives))
    fit = jax.random.normal(fit_key, (NUM_PROMPTS, NUM_COMPLETIONS, num_objectives))
    difficulty = jax.random.normal(difficulty_key, (NUM_PROMPTS, num_objectives))
    skill, fit = (_correlated(values, variant.correlation) for values in (skill, fit))
    skill, difficulty = skill * variant.variety[None], difficulty + variant.difficulty[None]
    success = jax.nn.sigmoid(STEEPNESS * (skill[None] + fit - difficulty[:, None]))
    lengths = jnp.round(USUAL_LENGTH * jnp.exp(-skill[:, BREVITY] / 2))
    return BanditProblem(success, lengths, variant.scale, variant.noise)


def _correlated(values: Array, correlation: Array) -> Array:
    """Correlates independent standard normal values `[..., K]` with the first of them."""
    correlation = jnp.broadcast_to(correlation, values.shape)
    return correlation * values[..., :1] + jnp.sqrt(1 - correlation**2) * values


def worth(problem: BanditProblem) -> Array:
    """`[V, K]` probability that each completion earns each objective, mean over the prompts."""
    return jnp.mean(problem.success, axis=0)


def expected(problem: BanditProblem, logits: Array) -> Array:
    """`[K]` exact probability that the policy `softmax(logits)` earns each objective.

    Noise, which has mean 0, and the scale, which is a unit, do not enter.
    """
    return jnp.einsum("v,vk->k", jax.nn.softmax(logits), worth(problem), precision="highest")


def best(problem: BanditProblem, weights: Array) -> Array:
    """`[K]` values of the completion with the largest weighted sum, the optimum of all policies."""
    table = worth(problem)
    return table[jnp.argmax(jnp.einsum("vk,k->v", table, weights, precision="highest"))]
