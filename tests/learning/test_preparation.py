"""Matrices joined and cast once for all micro-batches: the same gradient, no cast in their loop."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_oracle import QWEN3, random_params
from jax.extend.core import jaxprs_in_params
from learning_cases import ragged_experience

from dvaojax.data.packing import CompletionLayout, pack
from dvaojax.learning.gradients import UNPREPARED, accumulate, gradient_of
from dvaojax.learning.policy_loss import LossConfig, PolicyBatch, make_policy_loss
from dvaojax.learning.preparation import joined_once


def batch_of(*, is_packed):
    experience = ragged_experience(prompts=4, group=3, length=5)
    experience = experience._replace(logprobs=np.nan_to_num(experience.logprobs))
    if is_packed:
        lengths = np.asarray(experience.completion_mask).sum(axis=-1)
        experience = experience._replace(packed=pack(lengths, CompletionLayout(5, 15)))
    advantages = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    batch = PolicyBatch(experience, advantages, np.zeros_like(experience.logprobs))
    return jax.tree.map(jnp.asarray, batch)


def gradient_function(model, batch, prepare):
    """The mean gradient of four prompts in two micro-batches, as a function of the parameters."""
    loss = make_policy_loss(LossConfig(), model=model, temperature=1.0, max_new_tokens=5)
    rows = jnp.arange(4).reshape(2, 2)

    def gradient(params):
        return accumulate(gradient_of(loss), params, batch, rows, prepare=prepare)[0]

    return gradient


@pytest.mark.parametrize(
    ("layer_loop", "is_packed"),
    [
        ("unrolled", False),
        pytest.param("scan", False, marks=pytest.mark.slow),
        pytest.param("unrolled", True, marks=pytest.mark.slow),
    ],
)
def test_the_gradient_is_that_of_unprepared_parameters(layer_loop, is_packed):
    plain_model = dataclasses.replace(QWEN3, num_layers=2)
    model = dataclasses.replace(plain_model, layer_loop=layer_loop, remat="products_and_attention")
    params, batch = random_params(model), batch_of(is_packed=is_packed)
    prepared = jax.jit(gradient_function(model, batch, joined_once(model)))(params)
    plain = jax.jit(gradient_function(plain_model, batch, UNPREPARED))(params)
    chex.assert_trees_all_equal_shapes_and_dtypes(prepared, params)
    chex.assert_trees_all_close(prepared, plain, rtol=1e-5, atol=1e-6)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(plain)) > 1e-3


def casts(jaxpr, inside=False):
    """Shapes that are cast to bfloat16 inside of loops."""
    for equation in jaxpr.eqns:
        if inside and equation.params.get("new_dtype") == jnp.bfloat16:
            yield equation.outvars[0].aval.shape
        for inner in jaxprs_in_params(equation.params):
            yield from casts(inner, inside or equation.primitive.name == "scan")


def test_no_matrix_is_cast_in_a_loop():
    model = dataclasses.replace(QWEN3, compute_dtype="bfloat16")
    params, batch = random_params(model), batch_of(is_packed=False)
    prepared, plain = (
        set(casts(jax.make_jaxpr(gradient_function(model, batch, prepare))(params).jaxpr))
        for prepare in (joined_once(model), UNPREPARED)
    )
    down = (model.ff_width, model.width)
    assert down in plain
    assert down not in prepared
    assert (model.vocab_size, model.width) not in prepared
