"""400 runs of five steps: every stateful aggregator against plain loops.

The tolerance is 1e-9 in float64 and 3e-5 in float32, because the state accumulates rounding errors
over steps. Rewards are on a grid that every dtype represents, so that rounding does not decide
which of them are equal, at a reference or at a cap.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracle_arithmetic
import pytest
import stateful_oracles as oracles

from dvaojax.aggregators import STATEFUL, make

CASES, STEPS, B, G, K = 400, 5, 3, 4, 3
TOLERANCE = {"float32": 3e-5, "float64": 1e-9}
KNOBS = {
    "constrained_grpo": {"threshold": (0.8, -math.inf, 0.4), "rate": 0.5, "most": 0.6},
    "ctwa": {"target": 0.3, "cap": 0.7, "rate": 0.4, "smoothing": 0.3},
    "dvao_shrunk_running": {"decay": 0.7},
    "hvpo": {
        **{"lower": -0.5, "upper": 1.5, "reference": 0.25},
        **{"decay": 0.6, "initial": 0.5, "epsilon": 1e-3},
    },
    "lagrangian": {"threshold": (0.8, -math.inf, 0.4), "rate": 0.5, "most": 0.6},
    "rvpo_annealed": {"first": 0.5, "last": 2.0, "num_steps": 4},
}


def test_every_stateful_aggregator_has_an_oracle():
    assert set(KNOBS) == set(STATEFUL)


@functools.cache
def _cases():
    """Rewards and masks `[N, steps, B, G, K]` of all kinds, and weights `[N, K]`."""
    rng = np.random.default_rng(0)
    shape = (CASES, STEPS, B, G, K)
    rewards = np.round(64 * rng.normal(0.5, 0.5, size=shape)) / 64
    binary = rng.random(CASES) < 0.5
    rewards[binary] = rng.random(shape)[binary] < rng.random((CASES, 1, 1, 1, K))[binary]
    constant = rng.random((CASES, STEPS, B, 1, K)) < 0.2
    rewards = np.where(constant, rewards[..., :1, :], rewards)
    mask = np.ones(shape, bool)
    masked = rng.random(CASES) < 0.5
    mask[masked] = (rng.random(shape) < 0.7)[masked]
    mask &= rng.random((CASES, STEPS, B, G, 1)) < 0.95
    mask &= rng.random((CASES, STEPS, 1, 1, K)) < 0.97
    weights = rng.dirichlet(np.ones(K), size=CASES)
    weights[rng.random(CASES) < 0.1, 0] = 0.0
    return rewards.astype(np.float32), mask, weights.astype(np.float32)


@functools.cache
def _expected(name, dtype):
    rewards, masks, weights = _cases()
    expected = []
    for r, mask, w in zip(rewards, masks, weights, strict=True):
        nested = np.where(mask, r.astype(object), np.array(None)).tolist()
        steps = [tuple(tuple(map(tuple, group)) for group in batch) for batch in nested]
        rounding = oracle_arithmetic.ROUNDING[dtype]
        oracle = getattr(oracles, name)
        expected.append(oracle(steps, w.astype(float).tolist(), rounding=rounding, **KNOBS[name]))
    advantages, memories = zip(*expected, strict=True)
    return np.array(advantages), {
        field: np.array([memory[field] for memory in memories]) for field in memories[0]
    }


@jax.jit
def _run_every(rewards, masks, weights):
    def one_run(r, mask, w, name):
        method = make(name, w, **KNOBS[name])

        def step(state, step_inputs):
            advantages, state = method.update(*step_inputs, state, None)
            return state, advantages

        state, advantages = jax.lax.scan(step, method.init(K), (r, mask))
        return advantages, state

    return {
        name: jax.vmap(functools.partial(one_run, name=name))(rewards, masks, weights)
        for name in STATEFUL
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equals_the_loop(dtype):
    with jax.enable_x64(dtype == "float64"):
        rewards, masks, weights = _cases()
        arrays = (jnp.asarray(rewards, dtype), masks, jnp.asarray(weights, dtype))
        every = jax.device_get(_run_every(*arrays))
    for name, (advantages, state) in every.items():
        expected, memory = _expected(name, dtype)
        assert advantages.dtype == dtype
        error = np.abs(advantages - expected) / np.maximum(1.0, np.abs(expected))
        worst = np.unravel_index(np.argmax(error), error.shape)
        assert error[worst] <= TOLERANCE[dtype], (name, worst, advantages[worst], expected[worst])
        for field, values in memory.items():
            np.testing.assert_allclose(
                np.broadcast_to(getattr(state, field), values.shape),
                values,
                rtol=TOLERANCE[dtype],
                atol=TOLERANCE[dtype],
                err_msg=f"{name} {field}",
            )
