"""The table of losses: each property is measured on tokens whose probabilities have changed."""

import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dvaojax import losses
from dvaojax.losses import ROWS

SHAPE = G, T = 2, 5
WHERE = np.ones(SHAPE, bool)


@jax.jit
def every(logp, logp_old, advantages):
    """Loss -> gradient with respect to the log-probabilities `[G, T]`, share of bounded tokens."""

    def gradient(loss):
        def total(logp):
            inputs = {"entropy": jnp.ones(SHAPE)} if losses.needs_entropy(loss) else {}
            mean, info = loss(
                logp, logp_old, advantages, where=WHERE, reduce=losses.token_mean, **inputs
            )
            return mean.total, info.clip_fraction.total

        slopes, bounded = jax.grad(total, has_aux=True)(logp)
        return slopes, bounded

    return {name: gradient(loss) for name, loss in losses.BY_NAME.items()}


def measure(name, probability, probability_old, advantages):
    """Gradient and share for probabilities that broadcast to `[G, T]`, and advantages to `[G]`."""
    arrays = (
        np.log(np.broadcast_to(probability, SHAPE)),
        np.log(np.broadcast_to(probability_old, SHAPE)),
        np.broadcast_to(advantages, G),
    )
    slopes, bounded = every(*(jnp.asarray(array, jnp.float32) for array in arrays))[name]
    return np.asarray(slopes), float(bounded)


@pytest.fixture(params=list(ROWS))
def name(request):
    return request.param


def test_unit_of_the_ratio(name):
    moved = np.array([0.3, 0.3, 0.27, 0.3, 0.3])
    before, after = (measure(name, p, 0.3, 1.0)[0][0] for p in (0.3, moved))
    earlier, later = (
        not np.allclose(after[part], before[part], rtol=1e-3) for part in ([0, 1], [3, 4])
    )
    measured = "sequence" if earlier else "prefix" if later else "token"
    assert ROWS[name].unit == measured


def test_bounded_quantity(name):
    likely_and_good = measure(name, [[0.9], [0.05]], [[0.9], [0.05]], [1.0, -1.0])
    rare = measure(name, 0.004, 0.001, 1.0)
    less_rare = measure(name, 0.149, 0.001, 1.0)
    far = measure(name, 0.37, 0.05, 1.0)
    acts = [
        on
        for on, (_, bounded) in {
            "covariance": likely_and_good,
            "ratio": rare,
            "divergence": less_rare,
            "probability": far,
        }.items()
        if bounded
    ]
    assert ROWS[name].bound == (acts[0] if acts else "none")


def test_gradient_beyond_the_bound(name):
    others = [0.01]  # a bad completion next to it, whose probability has not changed
    near, far, farther = (
        measure(name, [[p], others], [[0.05], others], [1.0, -1.0])[0][0, -1]
        for p in (0.05, 0.37, 0.74)
    )
    policy_gradient = -0.37 / 0.05
    if far == farther == 0:
        measured = "nothing"
    elif np.isclose(far, farther):
        measured = "stops"
    elif far > 0:
        measured = "back"
    elif abs(farther) < abs(far) < abs(near):
        measured = "fades"
    else:
        assert farther < far
        measured = "penalty" if far > 0.9 * policy_gradient else "none"
    assert ROWS[name].beyond == measured


def test_advantages_scale_the_gradient(name):
    generator = np.random.default_rng(0)
    old = generator.uniform(0.1, 0.8, SHAPE)
    moved = old * generator.uniform(0.9, 1.1, SHAPE)
    once, *others = (
        measure(name, moved, old, np.array([1.0, -0.5]) * times)[0] / times
        for times in (1.0, 0.3, 3.0, 9.0)
    )
    scales = all(np.allclose(other, once, rtol=1e-4) for other in others)
    assert ROWS[name].scales == scales


def test_gradient_of_a_token_with_advantage_0(name):
    slopes, _ = measure(name, [[0.8], [0.2]], [[0.6], [0.2]], [0.0, -1.0])
    assert ROWS[name].leaves == np.all(slopes[0] == 0)


def test_every_loss_has_a_row():
    assert list(ROWS) == list(losses.BY_NAME)


def test_sources_agree_with_the_docstrings():
    for name, row in ROWS.items():
        doc = sys.modules[losses.BY_NAME[name].__module__].__doc__ or ""
        assert re.search(r"\d{4}\.\d{5}", doc).group() == row.paper.arxiv
        assert ("reconstruction" in row.credit) == ("A RECONSTRUCTION" in doc)
