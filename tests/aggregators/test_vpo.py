"""VPO: sets of answers against a float64 loop, and propositions 59 to 61.

The loop uses the drawn trade-offs of the package; their distribution is tested separately.
"""

import functools
import math

import chex
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvaojax import aggregators
from dvaojax.aggregators.vpo import set_value, trade_offs, vpo
from dvaojax.sharding import MeshConfig, make_mesh, named

pytestmark = pytest.mark.slow

B, G, M, K = 8, 5, 3, 2
WEIGHTS = jnp.array([0.75, 0.25])
KEY = jax.random.key(3)
DRAWS = 16
property_test = settings(derandomize=True, deadline=None, max_examples=25, database=None)


@functools.cache
def jitted(**knobs):
    return jax.jit(functools.partial(vpo, **{"answers": M, "draws": DRAWS, **knobs}))


def flat(rewards):
    """`[..., G, M, K]` as the columns of `[..., G, M * K]`."""
    return jnp.reshape(rewards, (*rewards.shape[:-2], -1))


def for_answers(weights):
    return jnp.tile(weights, M)


def call(rewards, mask=None, key=KEY, **knobs):
    mask = np.ones(rewards.shape, bool) if mask is None else mask
    return jitted(**knobs)(flat(rewards), for_answers(WEIGHTS), key, mask=flat(mask))


def normal(seed=0):
    rewards = np.random.default_rng(seed).normal(size=(B, G, M, K))
    return jnp.asarray(rewards, jnp.float32)


def loop(rewards, mask, drawn, epsilon=1e-6):
    """Advantages of one group, `rewards[completion][answer][objective]`, None where masked."""
    num_objectives = len(rewards[0][0])
    means = []
    for k in range(num_objectives):
        scored = [
            float(y[k]) for i, s in enumerate(rewards) for j, y in enumerate(s) if mask[i][j][k]
        ]
        means.append(math.fsum(scored) / len(scored) if scored else 0.0)
    values_of_sets = []
    for i, answers in enumerate(rewards):
        exists = [
            [float(y[k]) if mask[i][j][k] else means[k] for k in range(num_objectives)]
            for j, y in enumerate(answers)
            if any(mask[i][j])
        ]
        values = (
            [max(math.fsum(map(math.prod, zip(w, y, strict=True))) for y in exists) for w in drawn]
            if exists
            else None
        )
        values_of_sets.append(None if values is None else math.fsum(values) / len(values))
    counted = [w for w in values_of_sets if w is not None]
    mean = math.fsum(counted) / max(len(counted), 1)
    deviation = math.sqrt(math.fsum((w - mean) ** 2 for w in counted) / max(len(counted), 1))
    return [
        0.0 if w is None or deviation < epsilon else (w - mean) / (deviation + epsilon)
        for w in values_of_sets
    ]


@pytest.mark.parametrize("masked", [0.0, 0.5])
def test_equals_the_loop(masked):
    rewards = normal()
    mask = np.random.default_rng(1).random((B, G, M, K)) >= masked
    mask[0, 2] = mask[1] = mask[2, ..., 0] = mask[3, 1, 0] = False
    advantages = call(rewards, mask)
    drawn = trade_offs(KEY, jnp.tile(WEIGHTS, (B, 1)), draws=DRAWS, concentration=1.0)
    for b in range(B):
        expected = loop(rewards[b].tolist(), mask[b].tolist(), drawn[b].tolist())
        np.testing.assert_allclose(advantages[b], expected, atol=2e-5)
    assert np.abs(advantages[3:]).max() > 1


def test_one_advantage_per_completion_with_mean_square_one():
    rewards = normal()
    advantages = call(rewards)
    chex.assert_shape(advantages, (B, G))
    chex.assert_type(advantages, jnp.float32)
    np.testing.assert_allclose(np.sum(advantages, axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(np.mean(np.square(advantages), axis=1), 1, rtol=1e-4)


@pytest.mark.slow
def test_all_leading_axes_are_the_batch():
    rewards = normal()
    advantages = call(rewards)
    folded = jitted()(
        flat(rewards).reshape(2, 4, G, M * K),
        for_answers(WEIGHTS),
        KEY,
        mask=np.ones((2, 4, G, M * K), bool),
    )
    chex.assert_trees_all_close(folded.reshape(B, G), advantages, atol=1e-6)


def test_result_depends_on_the_key_only():
    rewards = normal()
    np.testing.assert_array_equal(call(rewards), call(rewards))
    assert not np.allclose(call(rewards, key=jax.random.key(4)), call(rewards), atol=1e-3)


@pytest.mark.slow
def test_sharding_over_groups_changes_nothing():
    sharding = named(make_mesh(MeshConfig(data=4, fsdp=2, tensor=1)), "group")
    rewards = flat(normal())
    mask = np.ones(rewards.shape, bool)
    arguments = (for_answers(WEIGHTS), KEY)
    whole = jitted()(rewards, *arguments, mask=mask)
    split = jitted()(jax.device_put(rewards, sharding), *arguments, mask=mask)
    chex.assert_trees_all_close(jax.device_get(split), jax.device_get(whole), atol=1e-5)


def test_constant_groups_and_unscored_completions_get_zero_and_do_not_affect_others():
    values = jnp.asarray([0.1, 1 / 3, -1e6 / 7, 1e-20, 1e34, 0.0])
    rewards = normal().at[:6].set(jnp.broadcast_to(values[:, None, None, None], (6, G, M, K)))
    assert np.all(call(rewards)[:6] == 0)
    mask = np.ones((B, G, M, K), bool)
    mask[:, 2] = False
    advantages = call(normal(), mask)
    assert np.all(advantages[:, 2] == 0)
    np.testing.assert_array_equal(call(normal().at[:, 2].set(jnp.nan), mask), advantages)
    poisoned = call(normal().at[:, 2].set(jnp.nan))
    np.testing.assert_array_equal(poisoned, advantages)


@pytest.mark.slow
def test_no_knob_is_ignored():
    rewards = normal()
    base = call(rewards)
    for knob, value in {
        "answers": 1,
        "draws": 3,
        "concentration": 9.0,
        "epsilon": 0.3,
        "sequence": "sobol",
    }.items():
        assert not np.allclose(call(rewards, **{knob: value}), base, atol=1e-4), knob
    assert len(aggregators.knobs_of(vpo)) == 5


def test_defaults_are_those_of_the_official_code():
    assert aggregators.knobs_of(vpo) == {
        "answers": 1,
        "draws": 100,
        "concentration": 1.0,
        "sequence": "independent",
        "epsilon": 1e-6,
    }
    rewards = normal()[:1]
    small = 1e-7 * rewards  # a deviation below epsilon is treated as 0
    assert np.all(call(jnp.tile(small, (B, 1, 1, 1))) == 0)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"answers": 4}, "answers=4 does not divide the 6 objectives"),
        ({"answers": 0}, "answers=0"),
        ({"draws": 0}, "draws=0"),
        ({"concentration": 0.0}, "concentration=0.0"),
        ({"sequence": "sobel"}, "sequence: unknown 'sobel'; did you mean 'sobol'?"),
    ],
)
def test_rejects_invalid_knobs(knobs, message):
    with pytest.raises(ValueError, match=message):
        call(normal(), **knobs)


def test_requires_a_key():
    method = aggregators.make("vpo", for_answers(WEIGHTS), answers=M)
    assert method.init(M * K) == ()
    with pytest.raises(ValueError, match="vpo needs a random key"):
        method.update(flat(normal()), None, (), None)


# The trade-offs.


def test_61_trade_offs_are_points_of_the_simplex_around_the_weights():
    weights = jnp.array([[1.0, 1.0, 1.0], [6.0, 3.0, 3.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    drawn = np.asarray(trade_offs(KEY, weights, draws=4000, concentration=1.0), np.float64)
    assert drawn.shape == (4, 4000, 3)
    assert (drawn >= 0).all()
    np.testing.assert_allclose(drawn[:3].sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(drawn[3], 0)
    np.testing.assert_array_equal(drawn[2, :, 2], 0)
    means = drawn.mean(1)
    np.testing.assert_allclose(
        means[:3], [[1 / 3] * 3, [0.5, 0.25, 0.25], [0.5, 0.5, 0]], atol=0.02
    )
    # Of Dirichlet(1, 1, 1) a coordinate has density 2 (1 - x), so P(x < 1/2) = 3/4.
    np.testing.assert_allclose((drawn[0] < 0.5).mean(0), 0.75, atol=0.03)
    np.testing.assert_allclose(drawn[0].var(0), 1 / 18, atol=0.006)
    # 61: the value of two specialists is 3/4, of one of them twice 1/2 (five standard errors).
    specialists, exists = jnp.eye(3)[:2], np.ones(2, bool)
    between_two = jnp.asarray(drawn[2], jnp.float32)
    np.testing.assert_allclose(set_value(specialists, exists, between_two), 3 / 4, atol=0.012)
    one_twice = specialists[jnp.array([0, 0])]
    np.testing.assert_allclose(set_value(one_twice, exists, between_two), 1 / 2, atol=0.023)
    correlation = np.corrcoef(drawn[0, :, 0], drawn[1, :, 0])[0, 1]
    assert abs(correlation) < 0.07, "draws of groups are independent"


@pytest.mark.slow
def test_larger_concentration_has_smaller_spread():
    spread = [
        np.asarray(trade_offs(KEY, jnp.ones((1, 3)), draws=2000, concentration=c)).std()
        for c in (0.1, 1.0, 100.0)
    ]
    assert spread[0] > 1.5 * spread[1] > 3 * spread[2]


# Propositions 59 and 60 are exact for any draw; 61 is in the test of the distribution.

SETS = hnp.arrays(np.int64, (B, G, M, K), elements=st.integers(-4, 4)).map(lambda x: x / 4)
SHIFT = hnp.arrays(np.int64, K, elements=st.integers(-4, 4)).map(lambda x: x * 8.0)
DRAWN = np.random.default_rng(9).dirichlet(np.ones(K), DRAWS)
batched_set_value = jax.jit(jax.vmap(set_value, (0, 0, None)))


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def value(rewards, exists):
    """Values `[G]` of sets `[G, M, K]`, in float64."""
    return np.asarray(batched_set_value(jnp.asarray(rewards), exists, jnp.asarray(DRAWN)))


@pytest.mark.usefixtures("float64")
@property_test
@given(rewards=SETS.map(lambda x: x[0]), exists=hnp.arrays(bool, (G, M)))
def test_59_more_answers_never_lower_the_value_and_duplicates_do_not_change_it(rewards, exists):
    """To 1e-9 in float64."""
    base, everything = value(rewards, exists), value(rewards, np.ones((G, M), bool))
    has_some = exists.any(axis=1)
    assert (everything - base >= -1e-9)[has_some].all()
    np.testing.assert_array_equal(base[~has_some], 0)
    twice = rewards.copy()
    twice[:, 1] = twice[:, 0]
    only_first = np.arange(M)[None] < np.ones((G, 1))
    doubled = np.arange(M)[None] < np.full((G, 1), 2)
    np.testing.assert_allclose(value(twice, doubled), value(twice, only_first), atol=1e-9)
    mean = DRAWN.mean(axis=0)
    np.testing.assert_allclose(value(rewards, only_first), rewards[:, 0] @ mean, atol=1e-9)
    best_alone = np.max(rewards @ mean, axis=1)
    assert (best_alone <= everything + 1e-9).all()
    assert (everything <= rewards.max(axis=(1, 2)) + 1e-9).all()


@property_test
@given(rewards=SETS, shift=SHIFT)
def test_60_shift_of_all_rewards_does_not_change_the_advantages(rewards, shift):
    """In float32, through the aggregator itself."""
    base, moved = (call(jnp.asarray(r, jnp.float32)) for r in (rewards, rewards + shift))
    np.testing.assert_allclose(moved, base, atol=1e-4)


def test_60_holds_only_if_the_group_shares_its_trade_offs():
    """With different trade-offs for each completion a shift changes the advantages."""
    rewards, shift = np.asarray(normal()[0]), np.array([8.0, -8.0], np.float32)
    own = np.random.default_rng(9).dirichlet(np.ones(K), (G, DRAWS)).astype(np.float32)

    def set_values(rewards):
        return np.max(np.einsum("gmk,gsk->gsm", rewards, own), axis=-1).mean(axis=-1)

    assert np.ptp(set_values(rewards + shift) - set_values(rewards)) > 0.1
    shared = np.einsum("gmk,sk->gsm", rewards, own[0]).max(-1).mean(-1)
    moved = np.einsum("gmk,sk->gsm", rewards + shift, own[0]).max(-1).mean(-1)
    assert np.ptp(moved - shared) < 1e-4
