"""Compiled functions of a run: equal on every mesh, donation, number of compilations."""

import dataclasses
import itertools
import math
import re

import chex
import digits_run
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from slowness import nightly_but

from dvaojax import models, sharding
from dvaojax.config import make_aggregator
from dvaojax.errors import UserError
from dvaojax.rollout.sampling import Sampling
from dvaojax.sharding import MeshConfig
from dvaojax.train.program import make_program
from dvaojax.types import Experience

PROMPTS, GROUP, LENGTH = 8, 4, 8
GREEDY = Sampling(temperature=0.0)
CONFIG = digits_run.digits_config(
    prompts_per_step=PROMPTS,
    aggregator={"name": "gdpo", "shadows": ("dvao",)},  # gdpo whitens over the whole batch
    sampling={"temperature": 0.7},
    evaluation={"num_prompts": 8, "sampling": GREEDY},
    optimizer={"max_grad_norm": math.inf, "warmup_updates": 0},
    warm_start={"num_steps": 0},
)


# All arrangements of eight devices along four axes: replica, data, fsdp, tensor; and a selection:
# the mesh with the most axes, every axis alone, and tensor next to each of the others.
SHAPES = [s for s in itertools.product((1, 2, 4, 8), repeat=4) if math.prod(s) == 8]
SELECTED = [
    (1, 2, 2, 2),
    *[(8, 1, 1, 1), (1, 8, 1, 1), (1, 1, 1, 8), (2, 1, 1, 4)],
]


def program_on(mesh, config=CONFIG, **settings):
    settings |= dict(zip(sharding.MESH_AXES, mesh, strict=True))
    config = dataclasses.replace(config, mesh=MeshConfig(**settings))
    devices = jax.devices()[: math.prod(mesh)]
    return make_program(config, make_aggregator(config), devices=devices)


@pytest.fixture(scope="module")
def single():
    return program_on((1, 1, 1, 1))


@pytest.fixture(scope="module")
def params():
    return jax.device_get(jax.jit(lambda: models.init(CONFIG.model, jax.random.key(0)))())


def ragged(seed=0, *, length=LENGTH):
    """Eight groups of completions of all lengths, with NaN in the padding."""
    rng = np.random.default_rng(seed)
    shape = (PROMPTS, GROUP, length)
    lengths = rng.integers(1, length + 1, shape[:2])
    lengths[0], lengths[1], lengths[2, 0] = length, 1, 0
    mask = np.arange(length) < lengths[..., None]
    return Experience(
        prompt_tokens=rng.integers(2, 16, (PROMPTS, 4)).astype(np.int32),
        prompt_lengths=rng.integers(1, 5, PROMPTS).astype(np.int32),
        completion_tokens=np.where(mask, rng.integers(1, 16, shape), 0).astype(np.int32),
        completion_mask=mask,
        logprobs=np.where(mask, rng.normal(-2.8, 0.3, shape), np.nan).astype(np.float32),
        rewards=rng.normal(size=(PROMPTS, GROUP, 3)).astype(np.float32),
        reward_mask=rng.random((PROMPTS, GROUP, 3)) > 0.1,
    )


def one_step(program, params, experience):
    """Gradient, advantages and metrics of a step, and greedy completions before it.

    The gradient is Adam's first moment after one update.
    """
    state = program.begin(params, jax.random.key(1))
    state, metrics, advantages = program.step(
        state, jax.device_put(experience, program.by_group), None
    )
    moment = optax.tree.get(state.learner.optimizer_state, "mu")
    gradient = jax.tree.map(lambda m: m / (1 - CONFIG.optimizer.b1), moment)
    values = {name: mean.value for name, mean in metrics.items()}
    prompts = jax.device_put(experience[:2], program.by_group)
    params = program.begin(params, jax.random.key(1)).learner.params
    greedy = program.evaluate(params, *prompts, jax.random.key(2), jnp.arange(PROMPTS))
    return jax.device_get((gradient, advantages, values, greedy))


@pytest.fixture(scope="module")
def on_one_device(single, params):
    return one_step(single, params, ragged())


@pytest.mark.slow
@pytest.mark.parametrize(
    "mesh",
    nightly_but(SELECTED, SHAPES),
    ids=lambda mesh: "x".join(map(str, mesh)),
)
def test_every_mesh_equals_one_device(mesh, params, on_one_device):
    """Traps 22 and 27: loss, gradient, advantages and greedy completions on all meshes.

    With statistics over the whole batch, and micro-batches where they fit. Tolerance 1e-5: float32
    sums are computed in another order.
    """
    *groups, tensor = mesh
    groups = math.prod(groups)
    cut = {"micro_batches": PROMPTS // groups if groups > 1 else 2}
    config = dataclasses.replace(CONFIG, learning=dataclasses.replace(CONFIG.learning, **cut))
    if tensor == 8:
        with pytest.raises(UserError, match=r"model.num_heads = 4 does not divide over tensor = 8"):
            program_on(mesh, config)
        return
    program = program_on(mesh, config)
    gradient, advantages, values, greedy = one_step(program, params, ragged())
    expected, expected_advantages, expected_values, expected_greedy = on_one_device
    largest = max(np.abs(g).max() for g in jax.tree.leaves(expected))
    assert largest > 0.01
    chex.assert_trees_all_close(gradient, expected, rtol=1e-5, atol=1e-5 * largest)
    np.testing.assert_allclose(advantages, expected_advantages, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(values, expected_values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(greedy.tokens, expected_greedy.tokens)
    np.testing.assert_allclose(greedy.logprobs, expected_greedy.logprobs, atol=1e-5)
    whole = jax.tree.leaves(program.state_shapes.learner.params)
    assert {len(leaf.sharding.device_set) for leaf in whole} == {8}
    split = [leaf for leaf in whole if not leaf.sharding.is_fully_replicated]
    assert bool(split) == (mesh[2] * tensor > 1)


@pytest.mark.nightly
def test_cosines_of_gradients_on_eight_devices_equal_those_of_one(params):
    """Of the decoder, with parameters and groups split; in one and in two micro-batches."""
    readings = []
    for mesh, cut in (((1, 1, 1, 1), 2), ((1, 2, 2, 2), 1)):
        learning = dataclasses.replace(CONFIG.learning, micro_batches=cut, gradient_cosines=1)
        program = program_on(mesh, dataclasses.replace(CONFIG, learning=learning))
        state = program.begin(params, jax.random.key(1))
        experience = jax.device_put(ragged(), program.by_group)
        _, metrics, _ = program.step(state, experience, None)
        cosines = {k: m for k, m in metrics.items() if k.startswith("gradient_cosine/")}
        assert all(mean.count == 1 for mean in cosines.values())
        readings.append({name: float(mean.value) for name, mean in cosines.items()})
    assert len(readings[0]) == 3
    assert max(map(abs, readings[0].values())) > 0.05
    assert readings[1] == pytest.approx(readings[0], abs=1e-5)


def in_loops(text):
    """Lines of a compiled program that are in the computations of its while loops."""
    header = r"^(?:ENTRY )?%?([\w.-]+) [^\n]*\{\n(.*?)^\}"
    computations = dict(re.findall(header, text, re.M | re.S))
    called = re.findall(r"(?:body|condition)=%?([\w.-]+)", text)
    visited = set()
    while called:
        name = called.pop()
        if name in computations and name not in visited:
            visited.add(name)
            named = re.findall(r"(?:calls|to_apply|computations?)=\{?([^},)]+)", computations[name])
            called += [other.strip(" %") for names in named for other in names.split(",")]
    return [line for name in visited for line in computations[name].splitlines()]


def gathered_sizes(lines):
    """Number of elements of the result of each all-gather."""
    shapes = [re.search(r"= \(?\w+\[([\d,]*)\].* all-gather", line) for line in lines]
    return [math.prod(int(n) for n in s[1].split(",") if n) for s in shapes if s]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["gathered", "tensor"])
def test_weights_are_not_gathered_in_the_sampling_loop(sampler):
    """Weights are moved to the sampler's layout once per rollout, outside of its loop.

    The matrices of a layer have 4096 elements here, and the activations of a token of all
    completions at most 1536. So results with 2048 elements or more are weights.
    """
    model = dataclasses.replace(CONFIG.model, width=64, head_width=16, ff_width=64)
    config = dataclasses.replace(CONFIG, model=model)
    program = program_on((1, 2, 2, 2), config, sampler=sampler)
    tokens, lengths = (jax.device_put(a, program.by_group) for a in ragged()[:2])
    arguments = (tokens, lengths, jax.random.key(0), jnp.arange(PROMPTS))
    shapes = program.state_shapes.learner.params
    text = program.evaluate.lower(shapes, *arguments).compile().as_text()
    inside = in_loops(text)
    assert any("dot(" in line or "fusion" in line for line in inside)
    assert max(gathered_sizes(inside)) < 2048
    if sampler == "gathered":
        assert max(gathered_sizes(text.splitlines())) >= 2048


def test_logged_rewards_are_unweighted_means_of_scored_completions(on_one_device):
    """Trap 14: K means, without weights and without masked rewards."""
    _, advantages, values, _ = on_one_device
    experience = ragged()
    for k in range(3):
        scored = experience.rewards[..., k][experience.reward_mask[..., k]]
        np.testing.assert_allclose(values["reward"][k], scored.mean(), rtol=1e-5)
    assert values["spread"].shape == values["effective_weight"].shape == (3,)
    np.testing.assert_allclose(values["effective_weight"].sum(), 1.0, rtol=1e-5)
    lengths = experience.completion_mask.sum(-1)
    is_sampled = lengths > 0
    assert not is_sampled.all(), "empty completions are not counted"
    np.testing.assert_allclose(
        values["advantage_mean_square"], np.square(advantages[is_sampled]).mean(), rtol=1e-5
    )
    np.testing.assert_allclose(values["completion_length"], lengths[is_sampled].mean(), rtol=1e-6)


def test_state_is_donated_and_keeps_its_sharding(single, params):
    """Warnings are errors in tests, so an unusable donation would fail."""
    state = single.begin(params, jax.random.key(1))
    donated = jax.tree.leaves(state)
    after, _, _ = single.step(state, jax.device_put(ragged(), single.by_group), None)
    assert all(leaf.is_deleted() for leaf in donated)
    for leaf, shape in zip(
        jax.tree.leaves(after), jax.tree.leaves(single.state_shapes), strict=True
    ):
        assert (leaf.shape, leaf.dtype) == (shape.shape, shape.dtype)
        assert leaf.sharding.is_equivalent_to(shape.sharding, leaf.ndim)


@pytest.mark.slow
def test_ragged_steps_compile_once_per_length_bucket(single, params):
    """Trap 44."""
    state = single.begin(params, jax.random.key(1))
    for seed in range(10):
        experience = ragged(seed, length=[LENGTH, LENGTH // 2][seed % 2])
        state, _, _ = single.step(state, jax.device_put(experience, single.by_group), None)
    assert single.step._cache_size() == 2
    assert int(state.step) == 10
    counts = [a for a in jax.tree.leaves(state.learner.optimizer_state) if a.dtype == jnp.int32]
    assert [int(count) for count in counts] == [10, 10], "updates, to Adam and to the schedule"


@pytest.fixture(scope="module")
def sampled(single, params):
    tokens = jnp.asarray(ragged().prompt_tokens)
    lengths = jnp.asarray(ragged().prompt_lengths)
    params = single.begin(params, jax.random.key(1)).learner.params
    return single.sample(params, tokens, lengths, jax.random.key(3), jnp.arange(PROMPTS))


def test_ratio_of_an_unchanged_policy_is_one_at_the_samplers_temperature(single, params, sampled):
    """Traps 32 and 33, with the compiled sampler and step of a run, at temperature 0.7."""
    experience = ragged()._replace(
        completion_tokens=sampled.tokens, completion_mask=sampled.mask, logprobs=sampled.logprobs
    )
    _, _, values, _ = one_step(single, params, experience)
    np.testing.assert_allclose(values["ratio"], 1.0, atol=1e-5)
    assert values["clip_fraction"] == 0.0
    assert values["grad_norm"] > 0.01


def test_completions_differ_within_a_group_and_depend_on_the_key(single, params, sampled):
    assert len({tuple(row) for row in sampled.tokens[0].tolist()}) > 1
    params = single.begin(params, jax.random.key(1)).learner.params
    tokens, lengths = map(jnp.asarray, ragged()[:2])
    other = single.sample(params, tokens, lengths, jax.random.key(4), jnp.arange(PROMPTS))
    assert not np.array_equal(other.tokens, sampled.tokens)


def test_evaluation_uses_its_own_sampling_settings(single, params):
    """Greedy here, independent of the key, with one completion per problem instead of four."""
    params = single.begin(params, jax.random.key(1)).learner.params
    tokens, lengths = (jnp.asarray(a)[:4] for a in ragged()[:2])
    one, other = (
        single.evaluate(params, tokens, lengths, jax.random.key(key), jnp.arange(4))
        for key in (1, 2)
    )
    assert one.tokens.shape == (4, 1, LENGTH)
    np.testing.assert_array_equal(one.tokens, other.tokens)


def changed(**changes):
    return digits_run.digits_config(**{"prompts_per_step": PROMPTS, **changes})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed(mesh={"data": 3}), "mesh replica=1 x data=3 x fsdp=1 x tensor=1 does not fit 8"),
        (changed(mesh={"data": -1, "fsdp": -1}), "data=-1 x fsdp=-1"),
        (changed(mesh={"data": 0}), "data=0"),
        (
            changed(prompts_per_step=12),
            r"prompts_per_step / \(learning.mini_batches x .* = 12 .*replica x data x fsdp = 8",
        ),
        (changed(), "warm_start.batch_size / warm_start.micro_batches = 2"),
        (changed(mesh={"data": 1, "tensor": 8}), "model.num_heads = 4 .*tensor = 8"),
    ],
)
def test_rejects_a_mesh_that_does_not_fit(config, message):
    with pytest.raises(UserError, match=message) as error:
        make_program(config, make_aggregator(config))
    assert "\n" not in str(error.value)


def test_parameters_and_moments_have_equal_shardings():
    program = program_on((1, 1, 8, 1))
    shapes = program.state_shapes.learner
    moments = optax.tree.get(shapes.optimizer_state, "mu")
    for leaf, moment in zip(jax.tree.leaves(shapes.params), jax.tree.leaves(moments), strict=True):
        assert leaf.sharding.is_equivalent_to(moment.sharding, leaf.ndim)
    named = sharding.named(program.mesh, "vocab", "embed")
    assert shapes.params["embedding"].sharding.is_equivalent_to(named, 2)


def test_step_does_not_exchange_data_with_the_host(single, params):
    """Neither during dispatch nor in the compiled program."""
    state, experience = single.begin(params, jax.random.key(1)), jax.device_put(ragged())
    compiled = single.step.lower(state, experience, None).compile()
    text = compiled.as_text()
    for word in ("infeed", "outfeed", "callback", "send(", "recv("):
        assert word not in text, word
    with jax.transfer_guard("disallow"):
        state, metrics, advantages = compiled(state, experience, None)
        jax.block_until_ready((state, metrics, advantages))
