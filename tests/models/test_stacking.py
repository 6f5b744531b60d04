"""Layers are stacked and scanned, and parameters are a plain pytree."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_oracle import FAMILIES, QWEN3, random_groups, random_params
from jax.extend.core import jaxprs_in_params

from dvaojax import models, sharding
from dvaojax.models.config import REMAT
from dvaojax.models.decoder import _gathered

GROUPS = random_groups(QWEN3, lengths=[4, 1], width=4, group_size=2, completion_length=3)


def total(config, params):
    return jnp.sum(jnp.square(models.apply(config, params)(*GROUPS)))


def equations(jaxpr):
    """All equations, including those of nested jaxprs."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def with_layers(number, **changes):
    return dataclasses.replace(QWEN3, num_layers=number, **changes)


def scans(function, params):
    program = jax.make_jaxpr(function)(params).jaxpr
    return [e.params["length"] for e in equations(program) if e.primitive.name == "scan"]


def test_training_scans_once_over_the_layers():
    config = with_layers(5)
    params = random_params(config)
    assert scans(partial(total, config), params) == [5]
    assert scans(jax.grad(partial(total, config)), params) == [5, 5]  # forward and backward
    prefill = lambda p: models.apply(config, p).prefill(GROUPS.prompts)[0]  # noqa: E731
    assert scans(prefill, params) == [5]


def test_only_rows_of_one_layout_are_unrolled():
    params = random_params(with_layers(2))
    scanned, unrolled = (with_layers(2, layer_loop=loop) for loop in ("auto", "unrolled"))

    def packed(config, params):
        tokens = GROUPS.completions.reshape(2, -1)
        offsets = jnp.broadcast_to(jnp.arange(6) % 3, tokens.shape)
        segments = jnp.broadcast_to(jnp.arange(6) // 3, tokens.shape)
        decoder = models.apply(config, params)
        rest = (GROUPS.lengths, tokens, offsets, segments)
        return jnp.sum(decoder.packed_states(GROUPS.prompts, *rest, longest=3)[1])

    loops = lambda f: jax.jit(jax.grad(f)).lower(params).as_text().count("stablehlo.while")  # noqa: E731
    assert loops(partial(total, scanned)) == 2
    assert loops(partial(total, unrolled)) == 0
    assert loops(partial(packed, unrolled)) == 2


def test_the_program_has_the_same_length_for_two_and_five_layers():
    def length(config):
        program = jax.make_jaxpr(jax.grad(partial(total, config)))(random_params(config))
        return len(list(equations(program.jaxpr)))

    assert length(with_layers(2)) == length(with_layers(5))


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_a_plain_tree_with_a_leading_layer_axis(family):
    config = FAMILIES[family]
    params = jax.eval_shape(partial(models.init, config), jax.random.key(0))
    for leaf in jax.tree.leaves(params["layers"]):
        assert leaf.shape[0] == config.num_layers
    outside = {"embedding", "norm"} if config.tied_head else {"embedding", "norm", "head"}
    assert set(params) == outside | {"layers"}
    nodes = [params, *params.values(), *params["layers"].values()]
    assert {type(node) for node in nodes} == {dict, jax.ShapeDtypeStruct}


def test_init_draws_independent_layers_with_unit_variance_of_products():
    config = with_layers(2, width=64, ff_width=96, tied_head=False, vocab_size=200)
    init = jax.jit(partial(models.init, config))
    params, other = init(jax.random.key(0)), init(jax.random.key(1))
    for name, fan_in in {
        "query": 64,
        "key": 64,
        "value": 64,
        "gate": 64,
        "up": 64,
        "down": 96,
        "output": 4 * 6,
    }.items():
        matrix = np.asarray(params["layers"][name])
        np.testing.assert_allclose(
            matrix.std(axis=tuple(range(1, matrix.ndim))), fan_in**-0.5, rtol=0.1
        )
        flat = matrix.reshape(2, -1)
        assert abs(np.corrcoef(flat)[0, 1]) < 0.15
        assert abs(np.corrcoef(flat[0], other["layers"][name][0].ravel())[0, 1]) < 0.15
    for name in ("embedding", "head"):
        np.testing.assert_allclose(params[name].std(), 0.02, rtol=0.05)
    assert abs(np.corrcoef(params["embedding"].ravel(), params["head"].T.ravel())[0, 1]) < 0.1
    chex.assert_trees_all_equal(params, init(jax.random.key(0)))


@pytest.mark.slow
def test_remat_keeps_values_and_gradients_and_saves_memory():
    configs = {name: with_layers(6, remat=name) for name in REMAT}
    params = random_params(configs["none"])
    results = [jax.jit(jax.value_and_grad(partial(total, c)))(params) for c in configs.values()]
    for result in results[1:]:
        chex.assert_trees_all_close(result, results[0], rtol=1e-4, atol=1e-4)

    def residual_bytes(config):
        backward = jax.eval_shape(lambda p: jax.vjp(partial(total, config), p)[1], params)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))

    parameter_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    kept = {name: residual_bytes(c) - parameter_bytes for name, c in configs.items()}
    assert kept["layer"] < kept["products"] / 2 < kept["none"] / 3
    heads, rows = QWEN3.num_heads * (QWEN3.head_width + 1), 2 * (4 + 2 * 2)  # float32
    attention = 6 * 4 * heads * rows
    assert kept["attention"] - kept["layer"] == attention
    assert kept["products_and_attention"] - kept["products"] == attention


@pytest.mark.parametrize(
    ("family", "is_unrolled"),
    [("llama", False), pytest.param("qwen2", True, marks=pytest.mark.slow)],
)
def test_gradients_of_joined_parameters_are_those_of_the_parameters(family, is_unrolled):
    config = dataclasses.replace(FAMILIES[family], num_layers=2)
    params = random_params(config)
    plain = jax.jit(jax.value_and_grad(partial(total, config)))(params)

    def through_joined(params):
        join = partial(models.join, config, is_unrolled=is_unrolled)
        joined, transpose = jax.vjp(join, params)
        prepared = models.cast_joined(config, joined)
        value, gradient = jax.value_and_grad(partial(total, config))(prepared)
        return value, transpose(gradient)[0]

    chex.assert_trees_all_close(jax.jit(through_joined)(params), plain, rtol=1e-5, atol=1e-5)


def test_matrices_are_gathered_for_a_layer_and_their_gradients_are_split():
    config = dataclasses.replace(QWEN3, num_layers=1)
    mesh = sharding.make_mesh(sharding.MeshConfig(data=1, fsdp=2), jax.devices()[:2])
    joined = models.join(config, random_params(config), is_unrolled=False).matrices
    matrices = jax.tree.map(lambda a: a[0], joined)

    def gathered(matrices):
        given, transpose = jax.vjp(_gathered, matrices)
        return given, transpose(given)[0]

    whole = jax.device_put(matrices, sharding.named(mesh))
    given, gradient = jax.jit(sharding.on_mesh(mesh, gathered))(whole)
    chex.assert_trees_all_equal(jax.device_get((given, gradient)), (matrices, matrices))
    assert all(a.sharding.is_fully_replicated for a in jax.tree.leaves(given))
    sizes = [a.size // a.addressable_shards[0].data.size for a in jax.tree.leaves(gradient)]
    assert set(sizes) == {2}


def test_joining_is_linear_and_keeps_every_number():
    params, other = random_params(QWEN3), models.init(QWEN3, jax.random.key(7))
    join = partial(models.join, QWEN3, is_unrolled=False)
    both = jax.tree.map(lambda x, y: x + 2.0 * y, params, other)
    expected = jax.tree.map(lambda x, y: x + 2.0 * y, join(params), join(other))
    chex.assert_trees_all_close(join(both), expected, rtol=1e-6)
    norms = [
        sum(float(jnp.sum(jnp.square(leaf))) for leaf in jax.tree.leaves(tree))
        for tree in (params, join(params)._replace(output=jnp.zeros(())))
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)


def test_rejects_joined_parameters_of_another_decoder():
    for is_unrolled in (False, True):
        joined = models.join(QWEN3, random_params(QWEN3), is_unrolled=is_unrolled)
        with pytest.raises((AssertionError, ValueError)):
            models.apply(dataclasses.replace(QWEN3, ff_width=8), joined)


@pytest.mark.parametrize(
    "change",
    [
        {"width": 8},
        {"qk_norm": False},
        {"num_layers": 3},
        {"attention_bias": True},
        {"tied_head": False},
    ],
)
def test_rejects_parameters_of_another_decoder(change):
    with pytest.raises((AssertionError, ValueError)):
        models.apply(dataclasses.replace(QWEN3, **change), random_params(QWEN3))


def test_parameters_are_arguments_and_not_constants():
    params = random_params(QWEN3)
    program = jax.make_jaxpr(partial(total, QWEN3))(params)
    assert sum(np.size(c) for c in program.consts) <= sum(a.size for a in GROUPS)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_logical_axes(family):
    shapes = random_params(FAMILIES[family])
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        axes = models.logical_axes(path, leaf)
        assert len(axes) == leaf.ndim
        is_replicated = all(axis is None for axis in axes)
        assert is_replicated == (path[-1].key == "scale")
        assert (axes[:1] == ("layer",)) == (path[0].key == "layers" and not is_replicated)


def test_leaves_with_another_number_of_axes_are_replicated():
    path = jax.tree_util.tree_leaves_with_path({"query": 0})[0][0]
    assert models.logical_axes(path, np.zeros((2, 3, 4, 5))) == ("layer", "embed", "heads", None)
    assert models.logical_axes(path, np.zeros((2, 3))) == (None, None)
    assert models.logical_axes((), np.zeros(3)) == (None,)
    attribute = jax.tree_util.GetAttrKey("query")
    assert models.logical_axes((attribute,), np.zeros((2, 3, 4, 5))) == (None,) * 4
