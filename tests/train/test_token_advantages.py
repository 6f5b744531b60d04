"""Advantages per token in a run: on several devices, packed, in parts, refused, and resumed."""

import dataclasses

import chex
import digits_run
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_program import CONFIG, ragged

from dvaojax import models
from dvaojax.config import AggregatorConfig, make_aggregator, validate
from dvaojax.data.packing import CompletionLayout, pack
from dvaojax.errors import UserError
from dvaojax.learning.policy_logprobs import policy_gradient_norms
from dvaojax.sharding import MeshConfig
from dvaojax.train.program import make_program

TOKENS = dataclasses.replace(
    CONFIG, aggregator=AggregatorConfig("optimal_token_baseline", shadows=("opo",))
)


def gradient_and_metrics(config, devices, params, experience):
    """Adam's first moment after one step, the advantages and norms `[B, G]`, and the metrics."""
    program = make_program(config, make_aggregator(config), devices=jax.devices()[:devices])
    state = program.begin(params, jax.random.key(1))
    placed = jax.device_put(experience, program.by_group)
    norms = program.gradient_norms(state.learner.params, placed)
    state, metrics, advantages = program.step(state, placed, None)
    values = {name: mean.value for name, mean in metrics.items()}
    moment = optax.tree.get(state.learner.optimizer_state, "mu")
    return jax.device_get((moment, advantages, values, norms))


@pytest.mark.nightly
def test_eight_devices_with_packed_rows_in_micro_batches_equal_one_device():
    params = jax.device_get(jax.jit(lambda: models.init(CONFIG.model, jax.random.key(0)))())
    experience = ragged()
    one = gradient_and_metrics(TOKENS, 1, params, experience)
    moment, advantages, values, by_completion = one
    norms = policy_gradient_norms(
        params, experience, model=CONFIG.model, temperature=CONFIG.sampling.temperature
    )
    where = experience.completion_mask
    expected = make_aggregator(TOKENS).update(
        jnp.asarray(experience.rewards),
        jnp.asarray(experience.reward_mask),
        (),
        None,
        lengths=where.sum(-1),
        token_gradient_weights=norms,
        where=where,
    )[0]
    means = np.asarray(expected).sum(-1) / np.maximum(where.sum(-1), 1)
    np.testing.assert_allclose(advantages, means, rtol=1e-4, atol=1e-5)

    lengths = where.sum(-1)
    rows = pack(lengths, CompletionLayout(width=where.shape[-1], slots=where.shape[-1] * 4))
    spread = dataclasses.replace(
        TOKENS,
        mesh=MeshConfig(data=2, fsdp=2, tensor=2),
        learning=dataclasses.replace(TOKENS.learning, micro_batches=2),
    )
    other = gradient_and_metrics(spread, 8, params, experience._replace(packed=rows))
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(moment))
    chex.assert_trees_all_close(other[0], moment, rtol=1e-4, atol=1e-4 * largest)
    np.testing.assert_allclose(other[1], advantages, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(other[2], values, rtol=1e-4, atol=1e-5)
    squares = np.where(where, norms, 0).sum(-1)
    for measured in (by_completion, other[3]):
        np.testing.assert_allclose(measured, np.sqrt(squares), rtol=1e-4, atol=1e-5)


def test_a_loss_of_pairs_and_candidates_refuse_it_by_name():
    config = digits_run.digits_config(aggregator={"name": "optimal_token_baseline"})
    validate(config)
    pairs = dataclasses.replace(config, loss=dataclasses.replace(config.loss, name="dpo"))
    with pytest.raises(UserError, match=r"dpo compares whole .* aggregator.name=opti"):
        validate(pairs)
    alone = dataclasses.replace(config, group_size=1)
    with pytest.raises(UserError, match="group_size=1: optimal_token_baseline compares"):
        validate(alone)
