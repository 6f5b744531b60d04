"""Projections of the gradients of groups: an explicit matrix, float64 loops, memory, and errors."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits_run import MODEL
from learning_cases import (
    VOCABULARY,
    gradient_by_loop,
    ragged_experience,
    table_loss,
    table_params,
)
from slowness import slow_but

from dvaojax import models, sharding
from dvaojax.data.packing import CompletionLayout, pack
from dvaojax.learning import projected_gradients as module
from dvaojax.learning.gradients import gradient_of
from dvaojax.learning.micro_batches import own_rows
from dvaojax.learning.policy_logprobs import policy_logprobs
from dvaojax.learning.policy_loss import LossConfig, PolicyBatch, make_policy_loss
from dvaojax.learning.preparation import joined_once
from dvaojax.learning.projected_gradients import project, projected_gradients
from dvaojax.sharding import MeshConfig, make_mesh, named

D = 16
KEY = jax.random.key(3)


def matrix(shapes, key, *, dimension=D):
    """`[D, P]`, the projection of each parameter alone."""
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    units = np.split(np.eye(sum(sizes), dtype=np.float32), np.cumsum(sizes)[:-1], axis=1)
    named_units = zip(shapes.items(), units, strict=True)
    leaves = {name: jnp.asarray(u.reshape(len(u), *shape)) for (name, shape), u in named_units}
    return np.asarray(jax.jit(functools.partial(project, dimension=dimension))(leaves, key)).T


SHAPES = {"a": (3, 7), "b": (61,), "c": (2, 2, 4)}


@pytest.mark.parametrize("block", slow_but([32], [1, 32, 2**20]))
def test_every_parameter_enters_one_sum_with_a_sign_and_the_map_is_linear(block):
    with mock.patch.object(module, "_BLOCK", block):
        sketch = matrix(SHAPES, KEY)
        assert (np.abs(sketch).sum(axis=0) == 1).all()
        assert set(np.unique(sketch)) == {-1, 0, 1}
        rng = np.random.default_rng(0)
        leaves = {name: rng.normal(size=(4, *s)).astype(np.float32) for name, s in SHAPES.items()}
        flat = np.concatenate([leaf.reshape(4, -1) for leaf in leaves.values()], axis=1)
        np.testing.assert_allclose(
            project(leaves, KEY, dimension=D), flat @ sketch.T, rtol=1e-5, atol=1e-5
        )


def test_inner_products_are_unbiased_and_their_variance_is_below_the_bound():
    """Also for a gradient whose entries are in one column of a matrix, as of one output."""
    rng = np.random.default_rng(1)
    x = {"w": rng.normal(size=(64, 8)).astype(np.float32) * (np.arange(8) == 3)}
    y = {"w": x["w"] + rng.normal(size=(64, 8)).astype(np.float32)}
    pair = jax.tree.map(lambda a, b: np.stack([a, b]), x, y)
    keys = jax.random.split(jax.random.key(0), 1500)
    both = jax.jit(jax.vmap(lambda key: project(pair, key, dimension=D)))(keys)
    products = np.einsum("kd,kd->k", *np.moveaxis(np.asarray(both, np.float64), 1, 0))
    exact = float((x["w"] * y["w"]).sum())
    bound = (np.square(x["w"]).sum() * np.square(y["w"]).sum() + exact**2) / D
    assert abs(products.mean() - exact) < 4 * np.sqrt(bound / len(keys))
    assert 0.5 * bound < products.var() < 1.15 * bound


def batch_of(experience):
    advantages = np.random.default_rng(5).normal(size=experience.rewards.shape[:2])
    return PolicyBatch(
        experience, jnp.asarray(advantages, jnp.float32), jnp.zeros_like(experience.logprobs)
    )


def table_projections(batch, rows, **how):
    function = functools.partial(projected_gradients, gradient_of(table_loss()), dimension=D, **how)
    return jax.jit(function)(table_params(), batch, rows, KEY)


def by_loop(batch):
    """`[B, P]` in float64, the gradient of each group alone."""
    groups = [jax.tree.map(lambda a, b=b: a[b : b + 1], batch) for b in range(8)]
    return np.stack(
        [
            gradient_by_loop(g.experience, g.advantages, reduction="token_mean").ravel()
            for g in groups
        ]
    )


def expect(result, batch):
    gradients = by_loop(batch)
    sketch = matrix({"table": (VOCABULARY, VOCABULARY)}, KEY)
    np.testing.assert_allclose(result.projections, gradients @ sketch.T, rtol=1e-4, atol=1e-5)
    norms = np.sqrt(np.square(gradients).sum(axis=1))
    assert norms.min() > 0.01
    np.testing.assert_allclose(result.norms, norms, rtol=1e-4)


def test_projections_are_those_of_a_float64_loop_for_any_micro_batches():
    """Shuffled groups come back in their order; each group has its own mean."""
    batch = batch_of(ragged_experience())
    order = np.random.default_rng(0).permutation(8)
    for rows in (order.reshape(2, 4), order.reshape(8, 1)):
        expect(table_projections(batch, jnp.asarray(rows)), batch)


@pytest.mark.slow
def test_groups_on_eight_devices_have_the_same_projections():
    batch, mesh = batch_of(ragged_experience()), make_mesh(MeshConfig(), jax.devices()[:8])
    by_group = named(mesh, "group")
    function = functools.partial(
        projected_gradients,
        gradient_of(table_loss()),
        dimension=D,
        constrain=lambda piece: jax.lax.with_sharding_constraint(piece, by_group),
    )
    params = jax.device_put(table_params(), named(mesh))
    spread = jax.device_put(batch, by_group)
    compiled = jax.jit(sharding.on_mesh(mesh, function))
    rows = jnp.zeros((1, 8), jnp.int32)  # every device has one group
    expect(compiled(params, spread, rows, KEY), batch)


@pytest.mark.slow
def test_a_group_without_completions_has_no_gradient():
    experience = ragged_experience()
    mask = experience.completion_mask.at[2].set(False)
    result = table_projections(
        batch_of(experience._replace(completion_mask=mask)), jnp.arange(8)[None]
    )
    assert (result.projections[2] == 0).all()
    assert result.norms[2] == 0
    assert (result.norms[jnp.arange(8) != 2] > 0).all()


@pytest.mark.slow
def test_memory_is_that_of_the_gradients_of_one_micro_batch():
    """By the compiler: it does not grow with the number of groups, only with a micro-batch."""
    size = 256
    params = {"table": jax.ShapeDtypeStruct((size, size), jnp.float32)}
    gradient_bytes = 4 * size**2
    function = functools.partial(projected_gradients, gradient_of(table_loss()), dimension=D)

    def temporaries(prompts, rows):
        batch = batch_of(ragged_experience(prompts=prompts))
        order = jnp.arange(prompts).reshape(-1, rows)
        compiled = jax.jit(function).lower(params, batch, order, KEY).compile()
        return compiled.memory_analysis().temp_size_in_bytes / gradient_bytes

    few, many, together = temporaries(8, 1), temporaries(64, 1), temporaries(8, 4)
    assert 1 <= few < LARGEST
    assert abs(many - few) < 0.5
    assert 3 <= together - few < 3 * LARGEST


LARGEST = 5  # of one group, in gradients; measured: 4, as the copies of its only leaf count


@functools.cache
def decoder_loss():
    return make_policy_loss(LossConfig(), model=MODEL, temperature=1.0, max_new_tokens=9)


@functools.cache
def decoder_params():
    return jax.device_get(models.init(MODEL, jax.random.key(0)))


def decoder_projections(batch, rows, *, dimension, wrap=lambda function: function, **how):
    """Projections of the gradients of the decoder."""
    gradient, prepare = gradient_of(decoder_loss()), joined_once(MODEL)
    function = functools.partial(
        projected_gradients, gradient, dimension=dimension, prepare=prepare, **how
    )
    return jax.jit(wrap(function))(decoder_params(), batch, rows, KEY)


def decoder_batch(**changes):
    """A batch at ratio 1, where nothing is clipped."""
    experience = ragged_experience()
    logprobs, _ = policy_logprobs(decoder_params(), experience, model=MODEL, temperature=1.0)
    return batch_of(experience._replace(logprobs=logprobs, **changes))


def exact_gradients(batch):
    """`[B, P]`, the gradients of the decoder for each group alone, one after the other."""

    @jax.jit
    @jax.grad
    def gradient(params, group):
        total, metrics = decoder_loss()(params, group)
        return total / metrics["loss"].count

    groups = [jax.tree.map(lambda a, b=b: a[b : b + 1], batch) for b in range(8)]
    trees = [jax.tree.leaves(gradient(decoder_params(), group)) for group in groups]
    return np.stack([np.concatenate([np.ravel(leaf) for leaf in tree]) for tree in trees])


def cosines(vectors):
    vectors = np.asarray(vectors, np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return (unit @ unit.T)[np.triu_indices(len(vectors), 1)]


@functools.partial(jax.jit, static_argnames="dimension")
def every_projection(gradients, *, dimension):
    """`[24, B, D]`, by as many keys."""
    keys = jax.random.split(jax.random.key(1), 24)
    return jax.vmap(lambda key: project(gradients, key, dimension=dimension))(keys)


@pytest.mark.nightly
def test_error_of_the_cosines_of_a_decoder_is_below_the_prediction():
    """The root mean square over all pairs of groups and 24 projections."""
    batch = decoder_batch()
    exact = exact_gradients(batch)
    expected = cosines(exact)
    assert expected.max() - expected.min() > 0.5
    for dimension in (8, 32):
        every = every_projection([exact.astype(np.float32)], dimension=dimension)
        errors = np.stack([cosines(projections) - expected for projections in every])
        measured = np.sqrt(np.mean(np.square(errors)))
        predicted = np.sqrt(np.mean((1 - expected**2) ** 2) / dimension)
        print(f"{dimension} numbers: error {measured:.4f}, predicted {predicted:.4f}")
        assert 0.6 * predicted < measured < 1.1 * predicted
    result = decoder_projections(batch, jnp.arange(8)[:, None], dimension=2048)
    np.testing.assert_allclose(result.norms, np.linalg.norm(exact, axis=1), rtol=1e-3)
    assert np.abs(cosines(result.projections) - expected).max() < 4 / np.sqrt(2048)


@pytest.mark.nightly
def test_packed_groups_have_the_same_projections():
    batch, rows = decoder_batch(), jnp.arange(8).reshape(4, 2)
    lengths = np.asarray(batch.experience.completion_mask).sum(-1)
    packed = jnp.asarray(pack(lengths, CompletionLayout(width=7, slots=28)))
    plain = decoder_projections(batch, rows, dimension=D)
    expect_equal(decoder_projections(decoder_batch(packed=packed), rows, dimension=D), plain)


@pytest.mark.nightly
@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1), (2, 2, 2)], ids=str)
def test_groups_of_a_decoder_on_eight_devices_have_the_same_projections(shape):
    batch = decoder_batch()
    plain = decoder_projections(batch, jnp.arange(8).reshape(4, 2), dimension=D)
    mesh = make_mesh(MeshConfig(*shape), jax.devices()[:8])
    spread = functools.partial(jax.lax.with_sharding_constraint, shardings=named(mesh, "group"))
    wrap = functools.partial(sharding.on_mesh, mesh)
    rows = jax.jit(wrap(lambda: own_rows(8, micro_batches=1)))()
    expect_equal(decoder_projections(batch, rows, dimension=D, wrap=wrap, constrain=spread), plain)


def expect_equal(result, plain):
    largest = np.abs(plain.projections).max()
    np.testing.assert_allclose(result.projections, plain.projections, atol=1e-4 * largest)
    np.testing.assert_allclose(result.norms, plain.norms, rtol=1e-3)
