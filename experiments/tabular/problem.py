"""A table of completions whose rewards have known distributions, and six ways to strain it.

Which of `NUM_COMPLETIONS` ways to answer earns which objective on which of `NUM_PROMPTS` prompts
follows an item-response model (Rasch, 1960): the probability is the logistic function of
`STEEPNESS * (skill + fit - difficulty)`. Skill belongs to the completion, difficulty to the prompt,
fit to the pair; all are normal. An objective is earned or not, as verifiers have it.
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
USUAL_LENGTH = 100.0  # tokens of a completion of middling brevity


class Variant(NamedTuple):
    """What a family of tables has in common.

    Attributes:
        conflict: `[]` minus the correlation of accuracy with brevity, in skill and in fit.
        difficulty: `[K]` the mean over the prompts.
        variety: `[K]` the standard deviation of skill over the completions.
        scale: `[K]` what is paid for an objective; its value is counted as 1 all the same.
        noise: `[K]` standard deviation of what a judge adds to each reward.
    """

    conflict: Array
    difficulty: Array
    variety: Array
    scale: Array
    noise: Array


def variants() -> Mapping[str, Variant]:
    """The six of them, by name."""
    return {
        "plain": _variant(),
        "noisy": _variant(noise=(0.0, 0.0, 1.0)),
        "conflict": _variant(conflict=0.9),
        "scaled": _variant(scale=(1.0, 10.0, 1.0)),
        "rare": _variant(difficulty=(0.0, 0.0, 5.5), variety=(1.0, 1.0, 3.0)),
        "saturated": _variant(difficulty=(0.0, 0.0, -5.5), variety=(1.0, 1.0, 3.0)),
    }


def _variant(
    *,
    conflict: float = 0.0,
    difficulty: tuple[float, ...] = (0.0, 0.0, 0.0),
    variety: tuple[float, ...] = (1.0, 1.0, 1.0),
    scale: tuple[float, ...] = (1.0, 1.0, 1.0),
    noise: tuple[float, ...] = (0.0, 0.0, 0.0),
) -> Variant:
    fields = (conflict, difficulty, variety, scale, noise)
    return Variant(*(jnp.asarray(field, jnp.float32) for field in fields))


class Problem(NamedTuple):
    """One table.

    Attributes:
        success: `[prompts, V, K]` probability that a completion earns an objective.
        lengths: `[V]` tokens of each completion, for methods that weigh by them.
        scale: `[K]`, see `Variant`.
        noise: `[K]`, see `Variant`.
    """

    success: Array
    lengths: Array
    scale: Array
    noise: Array


def draw_problem(key: Array, variant: Variant) -> Problem:
    """A table of the variant; with the same key, variants differ by what they say alone."""
    skill_key, fit_key, difficulty_key = jax.random.split(key, 3)
    num_objectives = len(OBJECTIVES)
    skill = jax.random.normal(skill_key, (NUM_COMPLETIONS, num_objectives))
    fit = jax.random.normal(fit_key, (NUM_PROMPTS, NUM_COMPLETIONS, num_objectives))
    difficulty = jax.random.normal(difficulty_key, (NUM_PROMPTS, num_objectives))
    skill, fit = (_in_conflict(values, variant.conflict) for values in (skill, fit))
    skill, difficulty = skill * variant.variety[None], difficulty + variant.difficulty[None]
    success = jax.nn.sigmoid(STEEPNESS * (skill[None] + fit - difficulty[:, None]))
    lengths = jnp.round(USUAL_LENGTH * jnp.exp(-skill[:, BREVITY] / 2))
    return Problem(success, lengths, variant.scale, variant.noise)


def _in_conflict(values: Array, conflict: Array) -> Array:
    """`[..., K]` independent standard normal values, with the correlation of the conflict."""
    against = -conflict * values[..., ACCURACY]
    brevity = against + jnp.sqrt(1 - conflict**2) * values[..., BREVITY]
    return values.at[..., BREVITY].set(brevity)


def worth(problem: Problem) -> Array:
    """`[V, K]` how often each completion earns each objective, over all prompts."""
    return jnp.mean(problem.success, axis=0)


def expected(problem: Problem, logits: Array) -> Array:
    """`[K]` how often the policy `softmax(logits)` earns each objective: exact, nothing is drawn.

    Noise has mean 0 and the scale is a matter of units, so that neither enters.
    """
    return jnp.einsum("v,vk->k", jax.nn.softmax(logits), worth(problem), precision="highest")


def best(problem: Problem, weights: Array) -> Array:
    """`[K]` of the completion with the largest weighted sum: no policy has a larger one."""
    table = worth(problem)
    return table[jnp.argmax(jnp.einsum("vk,k->v", table, weights, precision="highest"))]
