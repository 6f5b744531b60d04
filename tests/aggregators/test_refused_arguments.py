"""Arguments of other shapes and types: the line names the argument, its shape, and the expected."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dvaojax import aggregators, losses
from dvaojax.aggregators import ctwa, dvao, make
from dvaojax.aggregators.dvao_denoised import average_repeats
from dvaojax.allocation import allocate
from dvaojax.evaluation.intervals import bootstrap_mean
from dvaojax.evaluation.pareto import hypervolume
from dvaojax.learning.turns import advantages_per_token
from dvaojax.losses.ratios import log_ratios
from dvaojax.losses.tokens import on_tokens

B, G, K, S, T = 2, 4, 3, 5, 6
R = np.random.default_rng(0).random((B, G, K)).astype(np.float32)
W, M, TURNS = np.ones(K, np.float32), np.ones((B, G, K), bool), np.ones((B, G, S), bool)
FLAT = R.reshape(B * G, K)
LOGP, WHERE = jnp.zeros((B, G, T)), jnp.ones((B, G, T), bool)
RESHAPE = "is flat [B*G, K]: reshape to [B, G, K]"

SHAPES = {
    "rewards has shape [3]; it should be [..., G, K]": lambda: dvao(R[0, 0], W),
    "weights has shape [2]; [K] should be [3] for rewards [..., G, K] of shape [2, 4, 3]": (
        lambda: dvao(R, W[:2])
    ),
    "weights has shape []; [K] should be [3]": lambda: dvao(R, 1.0),
    "weights has shape [3, 3]; [..., K] should be [2, 3]": lambda: dvao(R, np.ones((3, K))),
    "is rewards [..., K, G]? The objectives are the last axis": lambda: dvao(R.swapaxes(1, 2), W),
    "a single objective needs its axis: rewards[..., None]": lambda: dvao(R[..., 0], W[:1]),
    "mask has shape [2, 4]; [..., G, K] should be [2, 4, 3], as in rewards": (
        lambda: dvao(R, W, mask=M[..., 0])
    ),
    f"should be [2, 4, 3], as in rewards; mask {RESHAPE}": (
        lambda: dvao(R, W, mask=M.reshape(B * G, K))
    ),
    f"mask has shape [2, 4, 3]; [..., G, K] should be [8, 3], as in rewards; rewards {RESHAPE}": (
        lambda: dvao(FLAT, W, mask=M)
    ),
    f"of shape [8, 3]; rewards {RESHAPE}": lambda: dvao(FLAT, np.ones((B, K))),
    "mask is float32; it should be bool": lambda: dvao(R, W, mask=M.astype(np.float32)),
    "lengths has shape [8]; [..., G] should be [2, 4], as in rewards; lengths is flat [B*G]: "
    "reshape to [B, G]": lambda: aggregators.opo(R, W, jnp.ones(B * G)),
    "lengths has shape [2]; [..., G]": lambda: aggregators.reinforce_plus_plus(R, W, np.ones(B)),
    "is_turn has shape [8, 5]; [..., G, S] should be [2, 4, 5], as in turn_rewards; is_turn is "
    "flat [B*G, S]: reshape to [B, G, S]": lambda: aggregators.ms_grpo(
        np.ones((B, G, S)), TURNS.reshape(-1, S)
    ),
    "turn_rewards has shape [5]; it should be [..., G, S]": (
        lambda: aggregators.gtpo(np.ones(S), TURNS[0, 0])
    ),
    "scores has shape [3]; it should be [..., G, K, M]": lambda: average_repeats(R[0, 0]),
    "advantages has shape [8]; [..., G] should be [2, 4]": (
        lambda: aggregators.effective_weights(np.ones(B * G), R, W)
    ),
    "other has shape [2]; [..., G] should be [2, 4]": (
        lambda: aggregators.compare(np.ones((B, G)), np.ones(B), R, W)
    ),
    "weights has shape [1, 3]; it should be [K]": lambda: make("dvao", W[None]),
    "logp_old has shape [2, 4]; [..., T] should be [2, 4, 6], as in logp": (
        lambda: log_ratios(LOGP, LOGP[..., 0], WHERE)
    ),
    "advantages has shape [8]; [..., G] should be [2, 4], as in where; advantages is flat [B*G]": (
        lambda: losses.policy_gradient(LOGP, jnp.ones(B * G), where=WHERE)
    ),
    "where has shape [2, 4]; [..., T] should be": (lambda: on_tokens(LOGP, WHERE[..., 0])),
    "logp_old has shape [2, 4, 3]; [..., T] should be [2, 4, 6]": (
        lambda: losses.dapo(LOGP, LOGP[..., :3], LOGP, where=WHERE)
    ),
    "logp_reference has shape [6]; [..., T] should be [2, 4, 6], as in logp": (
        lambda: losses.k3(LOGP, LOGP[0, 0])
    ),
    "logp has shape []; it should be [..., T]": (
        lambda: losses.gspo(0.0, 0.0, 1.0, where=np.array(True))
    ),
    "where is float32; it should be bool, true on sampled tokens": (
        lambda: losses.dapo(LOGP, LOGP, LOGP[..., 0], where=WHERE.astype(float))
    ),
    "logp is int32; it should be floating-point": (
        lambda: losses.dppo_tv(LOGP.astype(int), LOGP, LOGP[..., 0], where=WHERE)
    ),
    "advantages is int32; it should be floating-point": (
        lambda: losses.cispo(LOGP, LOGP, np.ones((B, G), int), where=WHERE)
    ),
    "advantages has shape [8, 5]; [B, G, S] should be [2, 4, 5], as in turns": (
        lambda: advantages_per_token(jnp.ones((B * G, S)), jnp.zeros((B, G, T), int))
    ),
    "reference has shape [2]; [K] should be [3], as in points": (
        lambda: hypervolume(np.ones((4, 3)), np.zeros(2))
    ),
    "values has shape [2, 3]; it should be [N]": lambda: bootstrap_mean(np.ones((2, 3))),
}

TYPES = {
    "rewards is complex64; it should be real": lambda: dvao(R * 1j, W),
    "weights is complex64; it should be real": lambda: dvao(R, W * 1j),
    "rewards is a ndarray of <U": lambda: dvao(R.astype(str), W),
    "rewards is a NoneType of other values, not an array of numbers": lambda: dvao(None, W),
    "rewards is a list of other values": lambda: dvao([[1.0, 2.0], [3.0]], W),
    "weights is a dictionary, not an array: aggregators.named_weights": lambda: dvao(R, {"a": 1}),
    "weights is a dictionary": lambda: make("ctwa", {"a": 1}),
    "weights is complex64": lambda: ctwa(W * 1j),
    "turn_rewards is complex64": lambda: aggregators.gtpo(TURNS * 1j, TURNS),
    "logp is a list of other values": lambda: losses.dapo([[0.0], []], LOGP, LOGP, where=WHERE),
    "logp_old is complex64": lambda: losses.cispo(LOGP, LOGP.astype(complex), LOGP, where=WHERE),
    "advantages is a ndarray of <U": (
        lambda: losses.policy_gradient(LOGP, np.full((B, G), "x"), where=WHERE)
    ),
}


def test_shapes_that_do_not_fit_are_named():
    for words, call in SHAPES.items():
        with pytest.raises(AssertionError) as error:
            call()
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_types_that_are_no_real_numbers_are_named():
    for words, call in TYPES.items():
        with pytest.raises(TypeError) as error:
            call()
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_infinite_weights_and_scores_of_another_shape_are_refused():
    for method in (dvao, aggregators.gdpo, aggregators.maxrl):
        with pytest.raises(ValueError, match=r"^a weight is infinite as float32: \["):
            method(R, [1.0, np.inf, 1.0])
    with pytest.raises(ValueError, match=r"^scores has shape \[2, 3\]; it should be \[B\]"):
        allocate(np.ones((2, 3)), 12, floor=1, cap=8)


def test_shapes_are_checked_while_a_function_is_traced():
    with pytest.raises(AssertionError, match=r"^weights has shape \[2\]"):
        jax.jit(dvao)(R, W[:2])
    with pytest.raises(TypeError, match=r"^rewards is complex64"):
        jax.jit(dvao)(R * 1j, W)


def test_every_number_of_leading_axes_and_every_real_type_is_accepted():
    expected = dvao(R, W)
    for rewards in (R.astype(np.float64), jnp.asarray(R)):
        np.testing.assert_allclose(dvao(rewards, W.tolist()), expected, rtol=1e-5)
    np.testing.assert_array_equal(dvao(R[0], W), expected[0])
    np.testing.assert_array_equal(dvao(R[None], W)[0], expected)
    assert dvao(R > 0.5, W.astype(int)).dtype == jnp.float32
    assert np.array_equal(dvao(R, W, mask=M.tolist()), expected)
