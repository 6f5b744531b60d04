"""Invalid values of knobs are rejected by name before anything is computed."""

import jax
import jax.numpy as jnp
import pytest

from dvaojax import aggregators

REWARDS = jnp.arange(12.0).reshape(2, 3, 2)


def trace(name, knobs):
    """Traces the method, as a run does before it writes anything."""
    aggregator = aggregators.make(name, jnp.ones(2), **knobs)
    jax.eval_shape(aggregator.update, REWARDS, None, aggregator.init(2), None)


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("rvpo", {"sharpness": -1.0}, r"sharpness=-1.0 must lie in \[0, inf\]"),
        ("rvpo_variance_penalty", {"penalty": -1.0}, "penalty=-1.0 must lie"),
        ("sa_mrpo", {"gamma": -0.5}, "gamma=-0.5 must lie"),
        ("sa_mrpo", {"lower": (0.0, 2.0)}, "every upper=1.0 must exceed its lower="),
        ("focal_reward", {"gamma": -0.5}, "gamma=-0.5 must lie"),
        ("rdpo", {"shrinkage": 0.0}, r"shrinkage=0.0 must lie in \(0, 1\]"),
        ("dara_symmetric", {"cap": 0.5}, "cap=0.5 must lie"),
        ("dara_asymmetric", {"cap": 0.5}, "cap=0.5 must lie"),
        ("augmented_tchebycheff", {"augmentation": -0.1}, "augmentation=-0.1 must lie"),
        ("gd2po_snr", {"threshold": 1.5}, r"threshold=1.5 must lie in \[0, 1\]"),
        ("saw_grpo", {"delta": -1.0}, "delta=-1.0 must lie"),
        ("saw_gdpo", {"delta": float("nan")}, "delta=nan must lie"),
        ("dvao_denoised", {"noise": (0.1, -0.1)}, "noise=.* must lie"),
        ("dvao_interpolated", {"caution": 1.5}, r"caution=1.5 must lie in \[0, 1\]"),
        ("sc_ppo", {"saturation": 2.0}, "saturation=2.0 must lie"),
        ("dvao_shrunk_running", {"decay": 1.0}, r"decay=1.0 must lie in \[0, 1\)"),
        ("dvao", {"ddof": 2}, r"ddof must be 0 \(population\) or 1 \(sample\), not 2"),
    ],
)
def test_rejects_invalid_knobs(name, knobs, message):
    with pytest.raises(ValueError, match=message):
        trace(name, knobs)


def test_traced_knobs_are_not_checked():
    traced = jax.jit(lambda sharpness: aggregators.rvpo(REWARDS, jnp.ones(2), sharpness=sharpness))
    assert jnp.isfinite(traced(0.5)).all()
