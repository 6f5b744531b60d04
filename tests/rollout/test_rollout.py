"""The sampler against the reference decoder; independence of completions; its program."""

import dataclasses

import chex
import jax
import numpy as np
import pytest
from decoder_oracle import QWEN3, Groups, for_completions, logits, random_params
from jax.extend.core import jaxprs_in_params
from samplers import LIMIT, make_sampler, random_prompts

from dvaojax import models, sharding
from dvaojax.rollout import completion_keys
from dvaojax.rollout.sampling import Sampling


def test_temperature_zero_is_the_argmax_of_teacher_forcing():
    params, (prompts, lengths) = random_params(QWEN3), random_prompts(4)
    sample = make_sampler(QWEN3, group_size=2, sampling=Sampling(0.0), stop_tokens=())
    done = sample(params, prompts, lengths, jax.random.key(0), np.arange(4))
    groups = Groups(prompts, lengths, np.asarray(done.tokens))
    expected = for_completions(logits, QWEN3, params, groups).argmax(axis=-1)
    np.testing.assert_array_equal(done.tokens, expected)
    np.testing.assert_array_equal(done.logprobs, np.zeros_like(done.logprobs))


CONFIG = dataclasses.replace(QWEN3, vocab_size=24)  # divisible by two devices


@pytest.fixture(scope="module")
def sampled():
    """Eight prompts, a sampler with groups of three, and its result."""
    params, (prompts, lengths) = random_params(CONFIG), random_prompts(8)
    sample = make_sampler(CONFIG, group_size=3)
    key, serials = jax.random.key(7), np.arange(40, 48)
    done = jax.device_get(sample(params, prompts, lengths, key, serials))
    return params, prompts, lengths, key, serials, sample, done


def assert_same(actual, expected):
    """Equal tokens; log-probabilities equal up to rounding, which depends on the shapes."""
    chex.assert_trees_all_equal(
        (actual.tokens, actual.mask, actual.stopped),
        (expected.tokens, expected.mask, expected.stopped),
    )
    chex.assert_trees_all_close(actual.logprobs, expected.logprobs, atol=1e-5)


def test_members_of_a_group_differ(sampled):
    tokens = sampled[-1].tokens
    # Completions of one token may be equal by chance, but not all completions of a group.
    assert all(len({tuple(member) for member in group}) > 1 for group in tokens)
    assert len({tuple(member) for member in tokens.reshape(24, LIMIT)}) > 20


def test_equal_prompts_at_different_serials_get_different_completions(sampled):
    params, prompts, lengths, key, serials, sample, _ = sampled
    equal = np.repeat(prompts[:1], 8, axis=0), np.repeat(lengths[:1], 8)
    tokens = np.asarray(sample(params, *equal, key, serials).tokens)
    assert len({tuple(member) for member in tokens.reshape(24, LIMIT)}) > 20
    tokens = np.asarray(sample(params, *equal, key, np.zeros(8, np.int64)).tokens)
    np.testing.assert_array_equal(tokens, np.broadcast_to(tokens[:1], tokens.shape))


def test_a_completion_does_not_depend_on_the_order_or_the_other_prompts(sampled):
    params, prompts, lengths, key, serials, sample, done = sampled
    order = np.array([3, 0, 7, 1, 6, 2, 5, 4])
    permuted = sample(params, prompts[order], lengths[order], key, serials[order])
    assert_same(permuted, jax.tree.map(lambda a: a[order], done))
    others, other_lengths = random_prompts(8, seed=1)
    others[2], other_lengths[2] = prompts[2], lengths[2]
    assert_same(
        jax.tree.map(lambda a: a[2], sample(params, others, other_lengths, key, serials)),
        jax.tree.map(lambda a: a[2], done),
    )


@pytest.mark.parametrize("width", [5, 9])
@pytest.mark.parametrize("pad_token", [0, 11])
def test_a_completion_does_not_depend_on_the_prompts_padding(sampled, width, pad_token):
    params, prompts, lengths, key, serials, sample, done = sampled
    padded = np.full((8, width), pad_token, np.int32)
    for row, length in enumerate(lengths):
        padded[row, :length] = prompts[row, :length]
    assert_same(sample(params, padded, lengths, key, serials), done)


def test_a_completion_does_not_depend_on_the_sizes_of_batch_and_group(sampled):
    params, prompts, lengths, key, serials, _, done = sampled
    alone = make_sampler(CONFIG, group_size=1)(
        params, prompts[4:5], lengths[4:5], key, serials[4:5]
    )
    assert_same(alone, jax.tree.map(lambda a: a[4:5, :1], done))


MESHES = [
    sharding.MeshConfig(data=8),
    pytest.param(sharding.MeshConfig(data=2, fsdp=2, tensor=2), marks=pytest.mark.newest),
]


@pytest.mark.parametrize("mesh_config", MESHES, ids=str)
def test_a_completion_does_not_depend_on_the_devices(sampled, mesh_config):
    params, prompts, lengths, key, serials, sample, done = sampled
    number = mesh_config.data * mesh_config.fsdp * mesh_config.tensor
    mesh = sharding.make_mesh(mesh_config, jax.devices()[:number])
    by_group = sharding.named(mesh, "group")
    prompts, lengths, serials = jax.device_put((prompts, lengths, serials), by_group)
    params = jax.device_put(params, sharding.shardings(mesh, params, models.logical_axes))
    key = jax.device_put(key, sharding.named(mesh))
    actual = sample(params, prompts, lengths, key, serials)
    assert len(actual.tokens.sharding.device_set) == number
    assert_same(jax.device_get(actual), done)


def test_keys_are_functions_of_key_serial_and_member():
    key, serials = jax.random.key(3), np.array([0, 1, 5, 1])
    keys = np.asarray(jax.random.key_data(completion_keys(key, serials, group_size=4)))
    for row, serial in enumerate(serials):
        for member in range(4):
            expected = jax.random.fold_in(jax.random.fold_in(key, serial), member)
            np.testing.assert_array_equal(keys[row, member], jax.random.key_data(expected))
    other = jax.random.key_data(completion_keys(jax.random.key(4), serials[:3], group_size=4))
    both = np.concatenate([keys[:3], other]).reshape(24, -1)
    assert len({tuple(words) for words in both}) == 24


def test_output_changes_with_the_parameters(sampled):
    params, prompts, lengths, key, serials, sample, done = sampled
    updated = jax.tree.map(lambda a: a + 0.1 * np.sign(a), params)
    after = sample(updated, prompts, lengths, key, serials)
    assert np.any(np.asarray(after.logprobs) != done.logprobs, axis=-1).all()
    assert np.any(np.asarray(after.tokens) != done.tokens)
    chex.assert_trees_all_equal(
        jax.device_get(sample(params, prompts, lengths, key, serials)), done
    )


def equations(jaxpr):
    """All equations, including those of nested jaxprs."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def test_parameters_are_not_constants_and_prompts_are_not_repeated():
    batch, group, width = 7, 3, 13  # sizes of no other axis
    prompts, lengths = random_prompts(batch, width=width)
    sample = make_sampler(QWEN3, group_size=group)
    program = jax.make_jaxpr(sample)(
        random_params(QWEN3), prompts, lengths, jax.random.key(0), np.arange(batch)
    )
    inner = [e.params["jaxpr"] for e in program.jaxpr.eqns if "jaxpr" in e.params]
    constants = [*program.consts, *(c for closed in inner for c in closed.consts)]
    assert sum(np.size(c) for c in constants) < 10
    shapes = {v.aval.shape for e in equations(program.jaxpr) for v in e.outvars}
    head = QWEN3.head_width
    assert (batch, QWEN3.num_kv_heads, width, head) in shapes  # a prompt's keys, once per group
    assert not [s for s in shapes if {group, width, head} <= set(s)]
