"""Policy gradients on a table of completions, for all seeds and weights of a method at once."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from tabular.problem import (
    NUM_COMPLETIONS,
    NUM_PROMPTS,
    OBJECTIVES,
    BanditProblem,
    Variant,
    draw_problem,
    expected,
    worth,
)

from dvaojax import numerics
from dvaojax.aggregators import make


class Size(NamedTuple):
    """Number of steps, prompts and completions.

    Attributes:
        num_steps: of a run.
        prompts_per_step: B, drawn with replacement.
        group_size: G, completions per prompt.
        num_objectives: K.
    """

    num_steps: int = 30
    prompts_per_step: int = 8
    group_size: int = 8
    num_objectives: int = len(OBJECTIVES)

    @property
    def batch(self) -> tuple[int, int]:
        """B and G."""
        return self.prompts_per_step, self.group_size


class Run(NamedTuple):
    """Result of a run.

    Attributes:
        values: `[K]` probability that the final policy earns each objective.
        mean_square: `[]` of its advantages before normalisation, over all steps.
        alignment: `[]` cosine of its first step with the exact gradient of the weighted sum.
    """

    values: Array
    mean_square: Array
    alignment: Array


class Draws(NamedTuple):
    """The random numbers of a step, independent of the policy; uniform in [0, 1) except the noise.

    Attributes:
        prompt: `[B]`.
        choice: `[B, G]`.
        reward: `[B, G, K]`.
        noise: `[B, G, K]` standard normal.
        key: `[]` random key for the method.
    """

    prompt: Array
    choice: Array
    reward: Array
    noise: Array
    key: Array


class SampledBatch(NamedTuple):
    """The sampled completions of a step.

    Attributes:
        rewards: `[B, G, K]`.
        chosen: `[B, G]` index of each completion in the table.
    """

    rewards: Array
    chosen: Array


def draw(key: Array, size: Size) -> Draws:
    """A step's random numbers."""
    draw_key, method_key = jax.random.split(key)
    completions = (size.prompts_per_step, size.group_size)
    rewards = (*completions, size.num_objectives)
    shapes = (completions[:1], completions, rewards, rewards)
    counts = [math.prod(shape) for shape in shapes]
    numbers = jnp.split(jax.random.uniform(draw_key, (sum(counts),)), np.cumsum(counts)[:-1])
    prompt, choice, reward, noise = (
        part.reshape(shape) for part, shape in zip(numbers, shapes, strict=True)
    )
    # The normal distribution's quantile, which is infinite at 0.
    noise = jax.scipy.special.ndtri(jnp.maximum(noise, 2.0**-24))
    return Draws(prompt, choice, reward, noise, method_key)


@partial(jax.jit, static_argnames="size")
def draws_of(seeds: Array, *, size: Size) -> Draws:
    """The draws of all steps of each seed, with the leading axes `[S, T]`."""

    def one_seed(seed: Array) -> Draws:
        run_key = jax.random.split(jax.random.key(seed))[1]
        return jax.vmap(lambda key: draw(key, size))(jax.random.split(run_key, size.num_steps))

    return jax.vmap(one_seed)(seeds)


@jax.jit
def problems_of(seeds: Array, variant: Variant) -> BanditProblem:
    """The table of each seed, with the leading axis `[S]`."""
    return jax.vmap(lambda seed: draw_problem(jax.random.split(jax.random.key(seed))[0], variant))(
        seeds
    )


def batch_of(problem: BanditProblem, logits: Array, draws: Draws) -> SampledBatch:
    """Samples groups of completions from the policy, and their rewards."""
    prompts = jnp.floor(draws.prompt * NUM_PROMPTS).astype(jnp.int32)
    # The first completion whose cumulative probability exceeds the number.
    cumulative = jnp.cumsum(jax.nn.softmax(logits))[None, None, :-1]
    chosen = jnp.sum(draws.choice[..., None] >= cumulative, axis=-1, dtype=jnp.int32)
    earned = (draws.reward < problem.success[prompts[:, None], chosen]).astype(jnp.float32)
    rewards = earned * problem.scale[None, None] + draws.noise * problem.noise[None, None]
    return SampledBatch(rewards, chosen)


def policy_gradient(logits: Array, chosen: Array, advantages: Array) -> Array:
    """`[V]` the mean of `A d log pi(chosen) / d logits` over the completions of the step."""
    is_chosen = jax.nn.one_hot(chosen.ravel(), NUM_COMPLETIONS)
    pushed = jnp.einsum("i,iv->v", advantages.ravel(), is_chosen, precision="highest")
    return (pushed - jnp.sum(advantages) * jax.nn.softmax(logits)) / advantages.size


def squared_norms(logits: Array) -> Array:
    """`[V]` the squared norm of the gradient of each completion's log-probability."""
    policy = jax.nn.softmax(logits)
    return 1 - 2 * policy + jnp.sum(jnp.square(policy))


def exact_gradient(value: Array, logits: Array) -> Array:
    """`[V]` the gradient of the policy's mean of `value` `[V]`."""
    policy = jax.nn.softmax(logits)
    return policy * (value - jnp.sum(policy * value))


def required_knobs(name: str, problem: BanditProblem, size: Size) -> dict[str, Any]:
    """The knobs that define a method; all other knobs have their defaults."""
    threshold = (-math.inf, 0.6, 0.6)  # for brevity and format, at any scale
    return {
        "constrained_grpo": {"threshold": threshold},
        "dro": {"gates": (-math.inf, -math.inf, 0.5)},  # format is earned
        "lagrangian": {"threshold": threshold},
        "rvpo_annealed": {"num_steps": size.num_steps},
        "dvao_denoised": {"noise": problem.noise**2},
        "vpo": {"draws": 1},
    }.get(name, {})


def learn(
    name: str,
    problem: BanditProblem,
    draws: Draws,
    weights: Array,
    *,
    rate: Array,
    is_equalised: Array,
    size: Size,
) -> Run:
    """One run from the uniform policy.

    Args:
        name: a key of `aggregators.METHODS`.
        problem: its table.
        draws: of its steps, with the leading axis `[T]`.
        weights: `[K]`.
        rate: `[]` learning rate.
        is_equalised: `[]` bool, whether each step's advantages are divided by their root mean
            square.
        size: number of steps and completions.
    """
    aggregator = make(name, weights, **required_knobs(name, problem, size))
    value = jnp.einsum("vk,k->v", worth(problem), weights, precision="highest")

    def step(
        state: tuple[Array, Any], draws: Draws
    ) -> tuple[tuple[Array, Any], tuple[Array, Array]]:
        logits, memory = state
        batch = batch_of(problem, logits, draws)
        lengths = problem.lengths[batch.chosen]
        norms = squared_norms(logits)[batch.chosen]
        advantages, memory = aggregator.update(
            batch.rewards,
            None,
            memory,
            draws.key,
            **aggregator.inputs_among(
                {
                    "lengths": lengths,
                    "gradient_weights": norms,
                    # A completion is one token here.
                    "token_gradient_weights": norms[..., None],
                    "where": jnp.ones((*norms.shape, 1), bool),
                }
            ),
        )
        advantages = advantages[..., 0] if aggregator.is_per_token else advantages
        mean_square = jnp.mean(jnp.square(advantages))
        divisor = jnp.where(is_equalised, jnp.sqrt(mean_square), 1)
        advantages = numerics.safe_divide(advantages, divisor)
        gradient = policy_gradient(logits, batch.chosen, advantages)
        alignment = _cosine(gradient, exact_gradient(value, logits))
        return (logits + rate * gradient, memory), (mean_square, alignment)

    start = jnp.zeros(NUM_COMPLETIONS), aggregator.init(size.num_objectives)
    (logits, _), (mean_squares, alignments) = jax.lax.scan(step, start, draws)
    return Run(expected(problem, logits), jnp.mean(mean_squares), alignments[0])


def _cosine(a: Array, b: Array) -> Array:
    lengths = jnp.sqrt(jnp.sum(jnp.square(a)) * jnp.sum(jnp.square(b)))
    return numerics.safe_divide(jnp.sum(a * b), lengths)


@partial(jax.jit, static_argnames=("name", "size", "mesh"))
def run_seeds(
    name: str,
    problems: BanditProblem,
    draws: Draws,
    weights: Array,
    rates: Array,
    is_equalised: Array,
    *,
    size: Size,
    mesh: Mesh,
) -> Run:
    """A run for each seed and setting.

    Args:
        name: a key of `aggregators.METHODS`; each is compiled once, for all variants.
        problems: `problems_of` the seeds, split evenly over the mesh.
        draws: `draws_of` the seeds.
        weights: `[W, K]`, of each setting.
        rates: `[W]`, of each setting, see `learn`.
        is_equalised: `[W]`, of each setting, see `learn`.
        size: number of steps and completions.
        mesh: the devices, along the axis "seeds".

    Returns:
        Runs with the leading axes `[S, W]`.
    """

    def run_seed(
        problem: BanditProblem, draws: Draws, weights: Array, rates: Array, is_equalised: Array
    ) -> Run:
        def run_setting(weights: Array, rate: Array, is_equalised: Array) -> Run:
            return learn(
                name, problem, draws, weights, rate=rate, is_equalised=is_equalised, size=size
            )

        return jax.vmap(run_setting)(weights, rates, is_equalised)

    run_all = jax.shard_map(
        jax.vmap(run_seed, in_axes=(0, 0, None, None, None)),
        mesh=mesh,
        in_specs=(P("seeds"), P("seeds"), P(), P(), P()),
        out_specs=P("seeds"),
        check_vma=False,  # the state of the scan is replicated only at the start
    )
    return run_all(problems, draws, weights, rates, is_equalised)
