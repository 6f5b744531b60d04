"""DynaMO's modulation against a loop, and its independence of the micro-batches."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dvaojax.losses import clipped_surrogate, dynamo_modulation

pytestmark = pytest.mark.slow

SHAPE = (4, 3, 6)


def batch(seed=0, shape=SHAPE):
    """Advantages, log-probabilities of a policy and an older one, entropies, ragged tokens."""
    rng = np.random.default_rng(seed)
    where = np.arange(shape[-1]) < rng.integers(1, shape[-1] + 1, shape[:-1])[..., None]
    where[0, 1] = False  # a completion that was not sampled
    where[1] = False  # an empty group
    advantages = np.where(where.any(-1), rng.normal(size=shape[:-1]), 0.0)
    advantages[2, 0] = 0.0
    logp = -rng.exponential(1.0, shape)
    logp_old = logp + rng.normal(0.0, 0.25, shape)
    entropy = rng.exponential(1.0, shape)
    return tuple(a.astype(np.float32) for a in (advantages, logp, logp_old, entropy)), where


def loop(advantages, logp, logp_old, entropy, where, *, least, threshold, steepness, most):
    """The modulation group by group and token by token, in float64."""
    out = np.zeros(where.shape)
    for b in range(where.shape[0]):
        tokens = [(g, t) for g, t in zip(*np.nonzero(where[b]), strict=True)]
        change = {}
        for g, t in tokens:
            own = [u for h, u in tokens if h == g]
            products = {
                u: math.exp(logp[b, g, u]) * (float(logp[b, g, u]) + float(entropy[b, g, u]))
                for u in own
            }
            ratio, a = math.exp(float(logp[b, g, t]) - float(logp_old[b, g, t])), advantages[b, g]
            clipped = (a > 0 and ratio > 1.2) or (a < 0 and ratio < 0.8)
            pull = 0.0 if clipped else ratio * float(a)
            change[g, t] = abs(pull * (products[t] - sum(products.values()) / len(own)))
        largest = max(change.values(), default=0.0)
        entropies = [float(entropy[b, g, t]) for g, t in tokens]
        for g, t in tokens:
            x = change[g, t] / largest if largest else 0.0
            decay = least + (1 - least) / (1 + math.exp(steepness * (x - threshold)))
            certainty = (max(entropies) - float(entropy[b, g, t])) / (
                max(entropies) - min(entropies)
            )
            boost = 1 + (most - 1) * certainty if advantages[b, g] > 0 else 1.0
            out[b, g, t] = float(advantages[b, g]) * boost * decay
    return out


DECAY5 = {"least": 0.6, "threshold": 0.9, "steepness": 50.0, "most": 1.4}
OTHER = {"least": 0.2, "threshold": 0.3, "steepness": 4.0, "most": 2.0}


@pytest.mark.parametrize("knobs", [DECAY5, OTHER], ids=["decay5", "gentle"])
def test_against_a_loop(knobs):
    for seed in range(3):
        values, where = batch(seed)
        modulated = dynamo_modulation(*values, where=jnp.asarray(where), **knobs)
        np.testing.assert_allclose(modulated, loop(*values, where, **knobs), rtol=1e-4, atol=1e-6)


def test_defaults_are_those_of_the_official_script():
    values, where = batch()
    knobs = {"least": 0.6, "threshold": 0.99, "steepness": 50.0, "most": 1.2}
    modulated = dynamo_modulation(*values, where=jnp.asarray(where))
    np.testing.assert_allclose(modulated, loop(*values, where, **knobs), rtol=1e-4, atol=1e-6)


def test_independent_of_micro_batches_because_extrema_are_those_of_the_group():
    """Bit for bit: a group is never split, and its result does not depend on other groups."""
    values, where = batch(5)
    whole = np.asarray(dynamo_modulation(*values, where=jnp.asarray(where)))
    for size in (1, 2):
        pieces = [
            dynamo_modulation(
                *(a[i : i + size] for a in values), where=jnp.asarray(where[i : i + size])
            )
            for i in range(0, 4, size)
        ]
        np.testing.assert_array_equal(np.concatenate(pieces), whole)
    one_group = [a.reshape(1, 12, *a.shape[2:]) for a in values]
    together = dynamo_modulation(*one_group, where=jnp.asarray(where.reshape(1, 12, 6)))
    assert np.abs(np.asarray(together).reshape(SHAPE) - whole).max() > 0.01


def test_signs_are_preserved_and_factors_bounded():
    values, where = batch(6)
    modulated = np.asarray(dynamo_modulation(*values, where=jnp.asarray(where)))
    advantages = np.broadcast_to(values[0][..., None], SHAPE)
    here = where & (advantages != 0)
    factor = modulated[here] / advantages[here]
    assert (factor >= 0.6 - 1e-6).all()
    assert (factor <= 1.2 + 1e-6).all()
    assert (factor[advantages[here] < 0] <= 1 + 1e-6).all()
    assert (modulated[~here] == 0).all()
    assert factor.max() > 1.1
    assert factor.min() < 0.9


def test_is_homogeneous_in_the_advantages():
    """Invariant 65."""
    (advantages, *others), where = batch(7)
    where = jnp.asarray(where)
    modulated = dynamo_modulation(advantages, *others, where=where)
    scaled = dynamo_modulation(4 * advantages, *others, where=where)
    np.testing.assert_allclose(scaled, 4 * modulated, rtol=1e-5)


def test_padding_is_ignored_and_no_gradient_flows():
    values, where = batch(8)
    clean = dynamo_modulation(*values, where=jnp.asarray(where))
    dirty = [values[0], *(np.where(where, a, np.nan) for a in values[1:])]
    np.testing.assert_array_equal(dynamo_modulation(*dirty, where=jnp.asarray(where)), clean)

    def loss(logp, modulate):
        advantages, _, old, entropy = dirty
        if modulate:
            advantages = dynamo_modulation(advantages, logp, old, entropy, where=jnp.asarray(where))
        mean, _ = clipped_surrogate(logp, old, advantages, where=jnp.asarray(where))
        return mean.total

    plain, modulated = (jax.grad(loss)(jnp.asarray(dirty[1]), m) for m in (False, True))
    advantages = np.broadcast_to(values[0][..., None], SHAPE)
    nonzero = np.where(advantages != 0, advantages, 1)
    factor = np.where(advantages != 0, np.asarray(clean) / nonzero, 0)
    np.testing.assert_allclose(modulated, factor * plain, rtol=1e-5, atol=1e-7)
    assert np.isfinite(modulated).all()


def test_equal_tokens_keep_their_advantages():
    equal = np.full((1, 2, 3), -0.7, np.float32)
    advantages = np.array([[1.0, -1.0]], np.float32)
    modulated = dynamo_modulation(advantages, equal, equal, -equal, where=jnp.ones((1, 2, 3), bool))
    expected = np.broadcast_to(advantages[..., None], equal.shape)
    np.testing.assert_allclose(modulated, expected, rtol=1e-6)


@pytest.mark.parametrize("knobs", [{"least": 0.0}, {"least": 1.1}, {"most": 0.9}])
def test_rejects_knobs_out_of_range(knobs):
    values, where = batch()
    with pytest.raises(ValueError, match="must lie in"):
        dynamo_modulation(*values, where=jnp.asarray(where), **knobs)
