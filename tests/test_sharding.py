"""Meshes, the table of logical axes, and arrays that are split by it."""

import dataclasses
import math
from typing import NamedTuple
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_oracle import FAMILIES, random_groups, random_params
from jax.sharding import PartitionSpec

from dvaojax import models, sharding
from dvaojax.sharding import MeshConfig


@pytest.mark.parametrize(
    ("config", "number", "sizes"),
    [
        (MeshConfig(), 8, (1, 8, 1, 1)),
        (MeshConfig(), 1, (1, 1, 1, 1)),
        (MeshConfig(data=2, fsdp=2, tensor=2), 8, (1, 2, 2, 2)),
        (MeshConfig(data=2, fsdp=-1, tensor=2), 8, (1, 2, 2, 2)),
        (MeshConfig(data=1, fsdp=1, tensor=-1), 8, (1, 1, 1, 8)),
        (MeshConfig(data=-1, tensor=3), 6, (1, 2, 1, 3)),
        (MeshConfig(replica=2, fsdp=2), 8, (2, 2, 2, 1)),
    ],
)
def test_a_mesh_has_the_given_sizes_and_the_remaining_devices_at_minus_one(config, number, sizes):
    mesh = sharding.make_mesh(config, jax.devices()[:number])
    assert tuple(mesh.shape.items()) == tuple(zip(sharding.MESH_AXES, sizes, strict=True))
    assert set(mesh.devices.flat) == set(jax.devices()[:number])


def test_a_mesh_has_all_devices_by_default():
    assert sharding.make_mesh(MeshConfig()).size == jax.device_count() == 8


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MeshConfig(data=3), r"data=3 x fsdp=1 x tensor=1 does not fit 8 device\(s\)"),
        (MeshConfig(data=2, fsdp=2), r"data=2 x fsdp=2 x tensor=1 does not fit 8 device\(s\)"),
        (MeshConfig(data=16), r"data=16 x .* does not fit 8"),
        (MeshConfig(tensor=3), r"data=-1 x fsdp=1 x tensor=3 does not fit 8 device\(s\)"),
        (MeshConfig(tensor=16), r"tensor=16 does not fit 8"),
        (
            MeshConfig(fsdp=-1),
            r"data=-1 x fsdp=-1 x tensor=1: sizes must be positive, and -1 may be used once",
        ),
        (MeshConfig(data=0), r"data=0 x fsdp=1 x tensor=1: sizes must be positive"),
        (MeshConfig(replica=3), r"replica=3 x data=-1 x fsdp=1 x tensor=1 does not fit 8"),
        (MeshConfig(data=8, fsdp=-2), r"fsdp=-2 x tensor=1: sizes must be positive"),
    ],
)
def test_rejects_sizes_that_do_not_match_the_devices(config, message):
    with pytest.raises(ValueError, match=message):
        sharding.make_mesh(config)


def test_logical_axes_are_mapped_by_the_table():
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    spec = sharding.named(mesh, "group", None, "heads", "layer").spec
    assert spec == PartitionSpec(("replica", "data", "fsdp"), None, "tensor", None)
    assert sharding.named(mesh).is_fully_replicated
    mesh_axes = {a for axes in sharding.RULES.values() for a in np.atleast_1d(axes)}
    assert mesh_axes == set(sharding.MESH_AXES)


def test_sampler_rules_avoid_gathering_weights():
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    specs = {
        name: sharding.named(mesh, "group", "embed", "heads", rules=rules).spec
        for name, rules in sharding.SAMPLER_RULES.items()
    }
    all_group_axes = ("replica", "data", "fsdp")
    assert specs == {
        "gathered": PartitionSpec(all_group_axes, None, "tensor"),
        "tensor": PartitionSpec(("replica", "data"), None, ("fsdp", "tensor")),
    }
    assert sharding.num_parts(mesh, "heads", sharding.SAMPLER_RULES["tensor"]) == (
        "fsdp x tensor",
        4,
    )
    assert sharding.num_parts(mesh, "embed", sharding.SAMPLER_RULES["tensor"]) == ("", 1)
    with pytest.raises(ValueError, match="'whole' must be one of: gathered, tensor"):
        MeshConfig(sampler="whole")


def test_constraints_use_the_rules_of_on_mesh():
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    x = jax.device_put(jnp.ones((8, 8)), sharding.named(mesh))

    def constrained(x):
        return sharding.constrain(x, "group", "heads")

    for rules, shape in ((sharding.RULES, (2, 4)), (sharding.SAMPLER_RULES["tensor"], (4, 2))):
        out = jax.jit(sharding.on_mesh(mesh, constrained, rules=rules))(x)
        assert out.sharding.shard_shape(out.shape) == shape


class Chip(NamedTuple):
    """The attributes of a TPU device that `make_mesh` reads."""

    id: int
    slice_index: int
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"
    process_index: int = 0


def test_slices_are_placed_along_the_replica_axis():
    chips = [Chip(i, slice_index=i % 2) for i in range(8)]
    assert sharding.num_slices(chips) == 2
    assert sharding.num_slices(jax.devices()) == 1

    def hybrid(within, between, devices, **_):
        """Replaces `create_hybrid_device_mesh`, for chips without coordinates."""
        assert (within, between) == ([2, 2, 1, 1], [2, 1, 1, 1])
        return np.array(jax.devices()).reshape(4, 2, 1, 1)

    with mock.patch.object(sharding.mesh_utils, "create_hybrid_device_mesh", hybrid):
        mesh = sharding.make_mesh(MeshConfig(replica=4, data=2), chips)
    assert dict(mesh.shape) == {"replica": 4, "data": 2, "fsdp": 1, "tensor": 1}
    with pytest.raises(ValueError, match="2 slices do not divide replica=1"):
        sharding.make_mesh(MeshConfig(), chips)


def test_every_logical_axis_of_the_decoder_is_in_the_table():
    config = dataclasses.replace(FAMILIES["qwen2"], tied_head=False)
    leaves = jax.tree_util.tree_leaves_with_path(random_params(config))
    names = {axis for path, leaf in leaves for axis in models.logical_axes(path, leaf)}
    assert names - {None, "layer"} == set(sharding.RULES) - {"group"}


def test_shardings_of_a_tree_depend_on_the_path():
    mesh = sharding.make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    tree = {"wide": jnp.zeros((8, 6)), "scalar": jnp.zeros(())}
    axes = {"wide": ("embed", "ff"), "scalar": ()}
    out = sharding.shardings(mesh, tree, lambda path, leaf: axes[path[-1].key])
    assert out["wide"].spec == PartitionSpec("fsdp", "tensor")
    assert out["wide"].shard_shape((8, 6)) == (2, 3)
    assert out["scalar"].is_fully_replicated


def test_constraints_apply_only_inside_on_mesh():
    mesh = sharding.make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    x, weights = jax.device_put((jnp.ones((8, 4)), jnp.ones((4, 6))), sharding.named(mesh))

    def product(x, weights):
        return sharding.constrain(x @ weights, "group", "ff")

    assert jax.jit(product)(x, weights).sharding.is_fully_replicated
    out = jax.jit(sharding.on_mesh(mesh, product))(x, weights)
    assert out.sharding.shard_shape(out.shape) == (2, 3)
    chex.assert_trees_all_equal(jax.device_get(out), jax.device_get(x @ weights))


MESHES = [
    MeshConfig(),
    MeshConfig(fsdp=2, tensor=2),
    MeshConfig(data=1, tensor=8),
]


@pytest.mark.slow
@pytest.mark.parametrize("mesh_config", MESHES, ids=str)
def test_logits_and_gradients_do_not_depend_on_the_mesh(mesh_config, unsharded):
    params, groups, run, expected = unsharded
    mesh = sharding.make_mesh(mesh_config)
    params = jax.device_put(params, sharding.shardings(mesh, params, models.logical_axes))
    query = params["layers"]["query"]
    assert math.prod(query.sharding.shard_shape(query.shape)) == query.size // (
        mesh.shape["fsdp"] * mesh.shape["tensor"]
    )
    groups = jax.device_put(tuple(groups), sharding.named(mesh, "group"))
    chex.assert_trees_all_close(
        jax.device_get(run(params, *groups)), expected, atol=1e-5, rtol=1e-5
    )


@pytest.fixture(scope="module")
def unsharded():
    """A decoder whose sizes are divisible by eight devices, and its results on one device."""
    config = dataclasses.replace(
        FAMILIES["qwen2"], vocab_size=24, num_heads=8, num_kv_heads=8, ff_width=24, num_layers=1
    )
    params = random_params(config)
    groups = random_groups(
        config, lengths=[1, 2, 3, 4] * 2, width=4, group_size=2, completion_length=3
    )

    @jax.jit
    @jax.value_and_grad
    def run(params, *groups):
        model = models.apply(config, params)
        logp, _ = models.token_logprobs(model(*groups), model.output_matrix(), groups[-1])
        return jnp.mean(logp)

    return params, groups, run, jax.device_get(run(params, *groups))
