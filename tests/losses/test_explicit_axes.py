"""Losses of arrays that are split over a mesh with explicit axes, as `jax.make_mesh` makes them."""

import functools

import chex
import jax
import jax.numpy as jnp
import pytest
from every_loss import NAMES, one_result, small_batch
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from loss_oracles import KNOBS

from dvaojax import losses


def others(batch):
    """Results of the other functions of `losses`."""
    where = batch.where
    reference, entropy = batch.logp - 0.1, jnp.abs(batch.logp)
    ratios = losses.truncated_importance_weights(batch.logp_old, reference, where=where)
    reduce = losses.weighted(losses.token_mean, ratios)
    return (
        losses.policy_gradient(batch.logp, batch.advantages, where=where, reduce=reduce),
        losses.kl_penalty(batch.logp, reference, where=where),
        losses.dynamo_modulation(
            batch.advantages, batch.logp, batch.logp_old, entropy, where=where
        ),
        losses.dpo(batch.logp, reference, batch.advantages, where=where),
    )


@pytest.mark.newest
@pytest.mark.slow
def test_explicit_axes_of_a_mesh_change_nothing():
    """JAX refuses operations on explicit axes while it traces; two losses leave some to XLA."""
    mesh = jax.make_mesh((2, 2), ("data", "fsdp"), axis_types=(AxisType.Explicit,) * 2)
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    batch = jax.tree.map(jnp.asarray, small_batch())
    split = jax.tree.map(lambda array: jax.device_put(array, sharding), batch)
    functions = {name: functools.partial(one_result, name, knobs=KNOBS[name]) for name in NAMES}
    for function in (*functions.values(), others):
        chex.assert_trees_all_equal_shapes_and_dtypes(
            jax.eval_shape(function, split), jax.eval_shape(function, batch)
        )
    for name in ("clip_cov", "kl_cov"):
        slopes = jax.jit(lambda batch, function=functions[name]: function(batch).slopes[0])
        chex.assert_trees_all_close(
            jax.device_get(slopes(split)), jax.device_get(slopes(batch)), atol=1e-6
        )
