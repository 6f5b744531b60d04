"""Tests of every aggregator of `BY_NAME`; a new method needs no change here."""

import functools
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_aggregator import FAMILIES, apply, call, every, examined, function_of, takes_lengths
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from slowness import slow_but

from dvaojax import aggregators
from dvaojax.aggregators import BY_NAME

SHAPE = B, G, K = 8, 5, 3
WEIGHTS = jnp.array([0.5, 0.3, 0.2])
LENGTHS = jnp.arange(1, 1 + B * G).reshape(B, G)


@pytest.fixture(params=examined())
def name(request):
    return request.param


@pytest.fixture
def rewards():
    return jax.random.normal(jax.random.key(0), SHAPE)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_one_advantage_per_completion_in_float32(name, rewards, dtype):
    advantages = apply(name, rewards.astype(dtype), WEIGHTS)
    chex.assert_shape(advantages, (B, G))
    chex.assert_type(advantages, jnp.float32)


def test_works_without_jit(name, rewards):
    eager = call(function_of(name), rewards[:2], WEIGHTS)
    chex.assert_trees_all_close(eager, apply(name, rewards[:2], WEIGHTS), atol=1e-6)


def test_single_group_is_a_batch_of_one(name, rewards):
    chex.assert_trees_all_close(
        apply(name, rewards[0], WEIGHTS), apply(name, rewards[:1], WEIGHTS)[0], atol=1e-6
    )


def test_all_leading_axes_are_the_batch(name, rewards):
    folded = apply(name, rewards.reshape(2, 4, G, K), WEIGHTS)
    chex.assert_shape(folded, (2, 4, G))
    chex.assert_trees_all_close(folded.reshape(B, G), apply(name, rewards, WEIGHTS), atol=1e-6)


def test_weights_may_differ_between_groups(name, rewards):
    same = apply(name, rewards, jnp.broadcast_to(WEIGHTS, (B, K)))
    chex.assert_trees_all_close(same, apply(name, rewards, WEIGHTS), atol=1e-5)
    own = jnp.broadcast_to(WEIGHTS, (B, K)).at[1].set(jnp.array([0.0, 0.0, 1.0]))
    other = apply(name, rewards, own)
    alone = apply(name, rewards, own[1])  # equal up to whitening, an affine map
    assert np.corrcoef(other[1], alone[1])[0, 1] > 1 - 1e-6
    assert not np.allclose(other[1], apply(name, rewards, WEIGHTS)[1], atol=1e-3)


def test_batch_without_groups(name):
    chex.assert_shape(apply(name, jnp.zeros((0, G, K)), WEIGHTS), (0, G))


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_nonfinite_rewards_are_rejected_outside_jit_and_masked_inside(name, rewards, bad):
    rewards = rewards[:2]
    poisoned = rewards.at[1, 3, 1].set(bad)
    mask = jnp.ones(rewards.shape, bool).at[1, 3, 1].set(False)
    expected = apply(name, rewards, WEIGHTS, mask=mask)
    with pytest.raises(ValueError, match="1 of 30 rewards are NaN or infinite"):
        call(function_of(name), poisoned, WEIGHTS)
    chex.assert_trees_all_close(apply(name, poisoned, WEIGHTS), expected, atol=1e-6)


def test_rejects_negative_and_nan_weights(rewards):
    with pytest.raises(ValueError, match="a weight is negative or NaN"):
        aggregators.dvao(rewards, -WEIGHTS)
    with pytest.raises(ValueError, match="a weight is negative or NaN"):
        aggregators.dvao(rewards, WEIGHTS * jnp.nan)


@pytest.mark.parametrize(
    ("weights", "mask"),
    [
        (jnp.ones(K + 1), None),
        (jnp.ones((B + 1, K)), None),
        (WEIGHTS, jnp.ones((B, G), bool)),
        (WEIGHTS, jnp.ones(SHAPE)),
    ],
)
def test_rejects_wrong_shapes_and_types(name, rewards, weights, mask):
    with pytest.raises(AssertionError):
        call(function_of(name), rewards, weights, mask=mask)


def test_rejects_lengths_of_another_shape(rewards):
    with pytest.raises(AssertionError):
        aggregators.gdpo_token_weighted(rewards, WEIGHTS, LENGTHS[:, :-1])


def test_ddof_is_zero_or_one(rewards):
    for function in map(function_of, BY_NAME):
        if "ddof" in aggregators.knobs_of(function):
            lengths = (LENGTHS,) if takes_lengths(function) else ()
            with pytest.raises(ValueError, match="ddof must be 0"):
                function(rewards, WEIGHTS, *lengths, ddof=2)


@pytest.mark.parametrize("family", slow_but(["first"], FAMILIES))
def test_vmap_equals_a_loop(family, rewards):
    batches = rewards.reshape(4, 2, G, K)
    mask = np.ones((2, G, K), bool)
    aggregate = functools.partial(every, family)
    mapped = jax.jit(jax.vmap(aggregate, (0, None, None)))(batches, WEIGHTS, mask)
    looped = [aggregate(batch, WEIGHTS, mask) for batch in batches]
    chex.assert_trees_all_close(mapped, jax.tree.map(lambda *x: jnp.stack(x), *looped), atol=1e-6)


def test_sharding_over_groups_changes_nothing(name, rewards):
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"))
    mask = jax.random.bernoulli(jax.random.key(1), 0.8, SHAPE)
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    whole = apply(name, rewards, WEIGHTS, mask=mask)
    split = apply(
        name, jax.device_put(rewards, sharding), WEIGHTS, mask=jax.device_put(mask, sharding)
    )
    chex.assert_trees_all_close(jax.device_get(split), jax.device_get(whole), atol=1e-6)


@pytest.mark.newest
@pytest.mark.slow
def test_explicit_axes_of_a_mesh_change_nothing(rewards):
    """JAX refuses operations on explicit axes while it traces; a few are left to the compiler."""
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Explicit,) * 2)
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    mask = jax.random.bernoulli(jax.random.key(1), 0.8, SHAPE)
    split = [jax.device_put(array, sharding) for array in (rewards, mask)]
    for family in FAMILIES:
        traced = jax.eval_shape(functools.partial(every, family), split[0], WEIGHTS, split[1])
        assert {result.shape for result in traced.values()} == {SHAPE[:2]}
    for name in ("dvao_shrunk", "rvpo", "sc_ppo"):  # these leave axes to the compiler
        function = jax.jit(functools.partial(function_of(name), weights=WEIGHTS))
        result, expected = function(split[0], mask=split[1]), function(rewards, mask=mask)
        chex.assert_trees_all_close(jax.device_get(result), jax.device_get(expected), atol=1e-6)
    eager = aggregators.rvpo(split[0], WEIGHTS, mask=split[1])
    assert eager.sharding.spec[0] == ("data", "fsdp")


def test_compiles_once(rewards):
    mask = np.ones(SHAPE, bool)
    every("first", rewards, WEIGHTS, mask)
    compiled = every._cache_size()
    for i in range(3):
        every("first", rewards * i, WEIGHTS + i, mask)
    assert every._cache_size() == compiled


def test_sharpness_may_follow_a_schedule(rewards):
    rewards = rewards[:2]
    traced = jax.jit(lambda k: aggregators.rvpo(rewards, WEIGHTS, sharpness=k))
    for k in (0.0, 0.5, 2.0, 1e4):
        fixed = aggregators.rvpo(rewards, WEIGHTS, sharpness=k)
        chex.assert_trees_all_close(traced(jnp.float32(k)), fixed, atol=1e-5)
        assert np.all(np.isfinite(fixed))


def test_import_needs_only_jax_and_chex():
    code = (
        "import sys; import dvaojax.aggregators, dvaojax.aggregators.invariants; "
        "print([m for m in ('flax', 'optax', 'orbax', 'transformers') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
