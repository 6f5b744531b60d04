"""10,080 random batches: every aggregator against the loops of `aggregator_oracles`.

The rewards are rounded to float32 (or bfloat16) first, so that one oracle serves both dtypes and
only the arithmetic is tested. The tolerance is 1e-9 in float64 and 1e-5 in float32, relative to the
advantage if it exceeds 1. If an advantage is a difference of terms more than ten times its unit,
rounding errors of the inputs dominate: then the tolerance grows with `size / 10`, which no
arithmetic in this dtype could improve. Methods on the scale of the rewards, such as `dr_grpo`, are
compared on it.
"""

import functools

import adaptive_oracles
import aggregator_oracles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scalar_oracles
import variant_oracles
from every_aggregator import function_of, takes_lengths
from oracle_arithmetic import ROUNDING
from slowness import nightly_but, slow_but

from dvaojax import aggregators

KINDS = ("binary", "continuous", "scaled", "constant", "cancelling", "masked", "bfloat16")
SHAPES = {  # groups, completions, objectives: cases of each kind, fewer where the loops take long
    (3, 1, 3): 180,
    (3, 2, 1): 400,
    (2, 3, 5): 180,
    (2, 4, 8): 80,
    (3, 5, 2): 360,
    (2, 8, 4): 180,
    (1, 33, 6): 40,
    (1, 64, 7): 20,
}
QUICK = [(3, 1, 3), (2, 8, 4)]  # the others are slow tests, because each compiles
LARGEST = [(2, 4, 8), (1, 64, 7)]  # slow tests; those that remain are nightly
QUICK_OTHERS = [(2, 3, 5)]
FURTHER_OTHERS = [(3, 1, 3), (2, 8, 4)]
EAGER = [(3, 1, 3), (2, 8, 4)]  # without jit every operation is compiled separately

# Two families, by the modules of their oracles.
FIRST = tuple(n for n in aggregators.BY_NAME if hasattr(aggregator_oracles, n))
OTHERS = tuple(n for n in aggregators.BY_NAME if n not in FIRST)
ORACLES = {
    name: next(
        (
            getattr(module, name)
            for module in (aggregator_oracles, adaptive_oracles, scalar_oracles, variant_oracles)
            if getattr(getattr(module, name, None), "__module__", "") == module.__name__
        ),
        None,
    )
    for name in aggregators.BY_NAME
}
ON_THE_SCALE_OF_REWARDS = ("dr_grpo", "opo", "rloo", "corr_grpo", "james_stein", "oblr_po")
ON_THE_SCALE_OF_REWARDS += ("optimal_token_baseline",)
TOLERANCE = {"float32": 1e-5, "float64": 1e-9}


def test_every_aggregator_has_an_oracle():
    missing = [name for name, oracle in ORACLES.items() if oracle is None]
    assert not missing, "write a function of this name in tests/helpers/variant_oracles.py"


def test_number_of_cases_is_at_least_ten_thousand():
    assert sum(SHAPES.values()) * len(KINDS) >= 10_000
    assert {g for _, g, _ in SHAPES} >= {1, 2, 64}
    assert {k for _, _, k in SHAPES} == set(range(1, 9))


def _rewards(rng, kind, shape):
    """`[B, G, K]` rewards and `[K]` weights of one kind."""
    weights = rng.dirichlet(np.ones(shape[-1]))
    if shape[-1] > 1 and rng.random() < 0.1:
        weights[rng.integers(shape[-1])] = 0.0
    rewards = rng.normal(size=shape)
    if kind in ("binary", "masked") and rng.random() < 0.6:
        rewards = (rng.random(shape) < rng.random(shape[-1])).astype(float)
    if kind == "scaled":
        offsets = rng.uniform(-1e3, 1e3, shape[-1])
        rewards = (rewards + offsets) * 10.0 ** rng.uniform(-6, 6, shape[-1])
    if kind == "constant":
        values = rng.choice([0.1, 0.3, 0.7, 1 / 3, 0.35, -1e3 / 7], size=(shape[0], 1, shape[-1]))
        is_constant = rng.random((shape[0], 1, shape[-1])) < rng.choice([0.5, 1.0])
        rewards = np.where(is_constant, values, rewards)
    if kind == "cancelling" and shape[-1] > 1:
        weights = rng.dirichlet(np.ones(shape[-1])) + 0.05
        if rng.random() < 0.5:  # exactly, on a grid that every dtype represents
            weights[:] = 1 / shape[-1]
            rewards = np.round(rewards * 64) / 64
        others = rewards[..., :-1] @ weights[:-1]
        rewards[..., -1] = (1.0 - others) / weights[-1]
    return rewards, weights


@functools.cache
def _cases(shape):
    """All cases of one shape, `[N, B, G, K]` and so on; all values are float32 numbers."""
    rng = np.random.default_rng(shape)
    rewards, weights, masks = [], [], []
    for kind in KINDS:
        for _ in range(SHAPES[shape]):
            r, w = _rewards(rng, kind, shape)
            mask = np.ones(shape, bool)
            if kind == "masked":
                mask = rng.random(shape) < 0.7
                mask &= rng.random((*shape[:2], 1)) < 0.9  # whole completions
                mask &= rng.random((shape[0], 1, shape[2])) < 0.9  # whole objectives of a group
            if kind == "bfloat16":
                r = r.astype(jnp.bfloat16)
            rewards.append(np.where(mask, r.astype(np.float32), np.nan).astype(np.float64))
            weights.append(w.astype(np.float32).astype(np.float64))
            masks.append(mask)
    lengths = rng.integers(1, 1000, size=(len(rewards), *shape[:2]))
    return np.array(rewards), np.array(weights), np.array(masks), lengths


@functools.cache
def _expected(shape, names):
    """Advantages and sizes of all cases, `[N, B, G]`, by dtype and aggregator."""
    expected = {(dtype, name): ([], []) for dtype in ROUNDING for name in names}
    rewards, weights, masks, lengths = _cases(shape)
    for r, w, mask, n in zip(rewards, weights, masks, lengths, strict=True):
        nested = tuple(tuple(map(tuple, group)) for group in np.where(mask, r, None).tolist())
        for (dtype, name), (advantages, sizes) in expected.items():
            third = (n.tolist(),) if takes_lengths(function_of(name)) else ()
            a, s = ORACLES[name](nested, w.tolist(), *third, rounding=ROUNDING[dtype])
            advantages.append(a)
            sizes.append(s)
    return {key: (np.array(a), np.array(s)) for key, (a, s) in expected.items()}


def _aggregate(names, rewards, weights, masks, lengths):
    """Advantages `[N, B, G]` by name; each of the N cases is a batch."""

    def one_case(r, w, mask, n):
        functions = {name: function_of(name) for name in names}
        return {
            name: function(r, w, *((n,) if takes_lengths(function) else ()), mask=mask)
            for name, function in functions.items()
        }

    return jax.vmap(one_case)(rewards, weights, masks, lengths)


def _jitted(names):
    return jax.jit(functools.partial(_aggregate, names))


def _eager(names):
    return functools.partial(_aggregate, names)


def _name(shape):
    return "x".join(map(str, shape))


@pytest.mark.parametrize("dtype", slow_but(["float64"], ["float32", "float64"]))
@pytest.mark.parametrize("shape", QUICK, ids=_name)
def test_equals_the_loop_jitted(shape, dtype):
    _assert_equals_the_loop(_jitted, FIRST, shape, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", nightly_but(["float64"], ["float32", "float64"]))
@pytest.mark.parametrize(
    "shape", nightly_but(LARGEST, [s for s in SHAPES if s not in QUICK]), ids=_name
)
def test_equals_the_loop_jitted_at_further_shapes(shape, dtype):
    _assert_equals_the_loop(_jitted, FIRST, shape, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", slow_but(["float64"], ["float32", "float64"]))
@pytest.mark.parametrize("shape", QUICK_OTHERS, ids=_name)
def test_second_family_equals_the_loop_jitted(shape, dtype):
    _assert_equals_the_loop(_jitted, OTHERS, shape, dtype)


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", FURTHER_OTHERS, ids=_name)
def test_second_family_equals_the_loop_jitted_at_further_shapes(shape, dtype):
    _assert_equals_the_loop(_jitted, OTHERS, shape, dtype)


@pytest.mark.nightly
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", EAGER, ids=_name)
def test_equals_the_loop_without_jit(shape, dtype):
    _assert_equals_the_loop(_eager, FIRST, shape, dtype)


def _assert_equals_the_loop(compile_for, names, shape, dtype):
    rewards, weights, masks, lengths = _cases(shape)
    with jax.enable_x64(dtype == "float64"):
        arrays = (jnp.asarray(rewards, dtype), jnp.asarray(weights, dtype), masks, lengths)
        actual = jax.device_get(compile_for(names)(*arrays))
    for name in names:
        advantages, sizes = _expected(shape, names)[dtype, name]
        assert actual[name].dtype == dtype
        _assert_close(actual[name], advantages, sizes, name, TOLERANCE[dtype])


@pytest.mark.parametrize("shape", [(2, 8, 4)], ids=_name)
def test_bfloat16_rewards_are_widened_before_any_arithmetic(shape):
    last_kind = slice(-SHAPES[shape], None)
    rewards, weights, masks, lengths = (x[last_kind] for x in _cases(shape))
    narrow = jnp.asarray(rewards, jnp.bfloat16)
    actual = _jitted(FIRST)(narrow, jnp.asarray(weights, jnp.float32), masks, lengths)
    for name in FIRST:
        advantages, sizes = _expected(shape, FIRST)["float32", name]
        assert actual[name].dtype == jnp.float32
        _assert_close(actual[name], advantages[last_kind], sizes[last_kind], name, 1e-5)


def _assert_close(actual, expected, sizes, name, tolerance):
    unit = sizes if name in ON_THE_SCALE_OF_REWARDS else np.maximum(1.0, sizes / 10)
    error = np.abs(actual - expected) / np.maximum(np.maximum(unit, np.abs(expected)), 1e-30)
    worst = np.unravel_index(np.argmax(error), error.shape)
    assert error[worst] <= tolerance, (
        f"{name}: case {worst[0]} ({KINDS[worst[0] * len(KINDS) // len(error)]}), group "
        f"{worst[1]}: {actual[worst]} instead of {expected[worst]}, size {sizes[worst]:.3g}"
    )
