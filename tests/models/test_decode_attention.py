"""Attention to caches: the backends against the einsums, their blocks, and the choice of one."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled_text import needs_cuda_compiler

from dvaojax import sharding
from dvaojax.models.attention import attend, decode_cudnn
from dvaojax.models.attention.decode_backend import choose, describe
from dvaojax.models.attention.decode_kernel import filled_blocks
from dvaojax.models.cache import (
    BLOCK,
    BlockedCompletionCache,
    BlockedPromptCache,
    CompletionCache,
    PromptCache,
    whole_blocks,
)
from dvaojax.models.presets import PRESETS

BATCH, GROUP, HEADS, KV_HEADS, WIDTH = 3, 2, 4, 2, 128
PROMPT, CAPACITY = 40, 300
PROMPT_LENGTHS = np.array([7, 40, 1], np.int32)
# Of the second group all completions have ended, of the third one of two.
ENDS = np.array([[300, 9], [0, 0], [0, 257]], np.int32)
STARTS = np.array([[280, 3], [0, 0], [0, 256]], np.int32)
GOING = ENDS > 0


def random_case(window, *, fill=0.0):
    """Queries, and the keys and values of prompts and completions; `fill` is where none is read."""
    draw = partial(np.random.default_rng(window).normal, size=None)
    queries = draw(size=(BATCH, GROUP, window, HEADS, WIDTH))
    prompt = draw(size=(2, BATCH, PROMPT, KV_HEADS, WIDTH))
    own = draw(size=(2, BATCH, GROUP, CAPACITY, KV_HEADS, WIDTH))
    prompt[:, np.arange(PROMPT)[None] >= PROMPT_LENGTHS[:, None]] = fill
    columns = np.arange(CAPACITY)
    own[:, (columns < STARTS[..., None]) | (columns >= ENDS[..., None])] = fill
    return tuple(jnp.asarray(a, jnp.float32) for a in (queries, prompt, own))


def caches(prompt, own, *, blocked):
    """The caches of both kinds, with the columns in order."""
    batch, group, capacity = own.shape[1:4]
    column = jnp.int32(0)
    if blocked:
        empty = jnp.zeros((batch, group, KV_HEADS, whole_blocks(capacity), WIDTH), own.dtype)
        cache = BlockedCompletionCache(empty, empty).write(*own, column)
        return BlockedPromptCache.of(*prompt), cache
    empty = jnp.zeros((batch * group, KV_HEADS, capacity, WIDTH), own.dtype)
    cache = CompletionCache(jnp.swapaxes(empty, 2, 3), empty).write(*own, column)
    return PromptCache.of(*prompt), cache


def attended(backend, queries, prompt, own, *, starts=STARTS, ends=ENDS):
    limits = {"prompt_lengths": PROMPT_LENGTHS, "starts": starts, "ends": ends}
    limits = jax.tree.map(jnp.asarray, limits)
    both = caches(prompt, own, blocked=backend != "einsum")
    return attend(queries, *both, backend=backend, **limits)


def reference(queries, prompt, own):
    """Attention in float64, one query at a time; zeros for completions that have ended."""
    queries, prompt, own = (np.asarray(a, np.float64) for a in (queries, prompt, own))
    result, window = np.zeros(queries.shape), queries.shape[2]
    for b, g, w, h in np.ndindex(queries.shape[:4]):
        if not GOING[b, g]:
            continue
        visible = slice(STARTS[b, g], ENDS[b, g] - window + w + 1)
        head = h * KV_HEADS // HEADS
        keys, values = (
            np.concatenate([p[b, : PROMPT_LENGTHS[b], head], o[b, g, visible, head]])
            for p, o in zip(prompt, own, strict=True)
        )
        weights = np.exp(keys @ queries[b, g, w, h] / np.sqrt(WIDTH))
        result[b, g, w, h] = weights @ values / weights.sum()
    return result


@pytest.mark.parametrize("backend", ["einsum", "pallas"])
@pytest.mark.parametrize("window", [1, 3])
def test_each_query_attends_to_its_prompt_and_its_own_tokens(backend, window):
    case = random_case(window)
    actual = np.asarray(jax.jit(partial(attended, backend))(*case))
    np.testing.assert_allclose(actual[GOING], reference(*case)[GOING], atol=2e-6)
    assert np.isfinite(actual).all()
    poisoned = jax.jit(partial(attended, backend))(*random_case(window, fill=1e30))
    np.testing.assert_array_equal(np.asarray(poisoned)[GOING], actual[GOING])


def test_each_device_attends_for_its_groups_and_heads():
    whole = [
        jnp.concatenate([a, a[..., ::-1]], axis=axis)
        for a, axis in zip(random_case(1), (0, 1, 1), strict=True)
    ]
    mesh = sharding.make_mesh(sharding.MeshConfig(data=2, tensor=2), devices=jax.devices()[:4])
    axes = [("group", None, None, "heads"), *[(None, "group")] * 2]
    split = [
        jax.device_put(a, sharding.named(mesh, *names))
        for a, names in zip(whole, axes, strict=True)
    ]

    def both(queries, prompt, own):
        limits = {"prompt_lengths": PROMPT_LENGTHS, "starts": STARTS, "ends": ENDS}
        limits = {name: jnp.concatenate([jnp.asarray(a)] * 2) for name, a in limits.items()}
        return attend(queries, *caches(prompt, own, blocked=True), backend="pallas", **limits)

    actual = jax.jit(sharding.on_mesh(mesh, both))(*split)
    assert actual.sharding.is_equivalent_to(split[0].sharding, actual.ndim)
    expected = jax.jit(both)(*whole)
    chex.assert_trees_all_close(np.asarray(actual), np.asarray(expected), atol=1e-6)


def test_the_kernel_reads_what_is_filled_and_nothing_of_what_has_ended():
    generator = np.random.default_rng(0)
    for case in range(50):
        lengths = generator.integers(1, 3 * BLOCK, 4)
        ends = generator.integers(0, 3 * BLOCK, (4, 3)) * (generator.random((4, 3)) < 0.5 + case)
        ends = ends * (generator.random((4, 1)) < 0.7)
        starts = generator.integers(0, np.maximum(ends, 1))
        arguments = (jnp.asarray(a, jnp.int32) for a in (lengths, starts, ends))
        blocks, count = jax.device_get(filled_blocks(*arguments, steps=4 * 4 * 3))
        expected = []
        for b in np.flatnonzero(ends.any(axis=1)):
            expected += [(b, -1, i) for i in range(-(-lengths[b] // BLOCK))]
            for g in np.flatnonzero(ends[b]):
                filled = range(starts[b, g] // BLOCK, -(-ends[b, g] // BLOCK))
                expected += [(b, g, i) for i in filled]
        assert count == max(len(expected), 1)
        listed = [tuple(step) for step in np.stack(blocks[:3], axis=1)[: len(expected)]]
        assert listed == expected
        # Between two blocks of one kind, the last one stays in fast memory.
        for step, (_, member, _) in enumerate(expected):
            own, prompt = blocks.own_steps[step], blocks.prompt_steps[step]
            assert (own == step) == (member >= 0)
            assert (prompt == step) == (member < 0)
            held = own if member < 0 else prompt
            assert held < step or not any((m < 0) != (member < 0) for _, m, _ in expected[:step])


def softmax_of_a_part(queries, keys, values, lengths):
    """The attention to the first `lengths` keys, and its softmax's total."""
    scores = jnp.einsum("xnqc,xnsc->xnqs", queries, keys) * queries.shape[-1] ** -0.5
    columns = jnp.arange(keys.shape[2])[None, None, None]
    scores = jnp.where(columns < lengths[:, None, None, None], scores, -jnp.inf)
    total = jax.nn.logsumexp(scores, axis=-1)
    weights = jnp.exp(scores - total[..., None])
    return jnp.einsum("xnqs,xnsc->xnqc", weights, values), total


@pytest.mark.slow
def test_parts_of_cudnn_are_merged_to_one_softmax(monkeypatch):
    monkeypatch.setattr(decode_cudnn, "partial_attention", softmax_of_a_part)
    case = random_case(1)
    actual = np.asarray(attended("cudnn", *case, starts=None))
    expected = np.asarray(attended("einsum", *case, starts=None))
    np.testing.assert_allclose(actual[GOING], expected[GOING], atol=2e-6)
    assert np.isfinite(actual).all()
    with pytest.raises(ValueError, match="'cudnn' takes one token at a time"):
        attended("cudnn", *random_case(2), starts=None)
    with pytest.raises(ValueError, match="begin in column 0"):
        attended("cudnn", *case)


@needs_cuda_compiler
def test_cudnn_is_called_twice():
    case = [jax.ShapeDtypeStruct(a.shape, jnp.bfloat16) for a in random_case(1)]
    traced = jax.jit(partial(attended, "cudnn", starts=None)).trace(*case)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("@__cudnn$fmhaSoftmax(") == 2


@needs_cuda_compiler
def test_cudnn_is_used_where_it_is_asked_for():
    config = dataclasses.replace(
        PRESETS["qwen3-0.6b"], compute_dtype="bfloat16", decode_attention="cudnn"
    )
    assert choose(config, "gpu") == "cudnn"


def test_backend_depends_on_platform_and_shape():
    config = dataclasses.replace(PRESETS["qwen3-0.6b"], compute_dtype="bfloat16")
    change = partial(dataclasses.replace, config)
    for platform, expected in (("tpu", "pallas"), ("gpu", "einsum"), ("cpu", "einsum")):
        assert choose(config, platform) == expected
    line = "attention of decoding: pallas on tpu (heads of 128)"
    assert describe(config, "tpu") == line
    assert choose(change(head_width=64), "tpu") == "einsum"
    assert choose(change(compute_dtype="float64"), "tpu") == "einsum"
    assert choose(change(decode_attention="einsum"), "tpu") == "einsum"
    assert choose(change(decode_attention="pallas"), "cpu") == "pallas"
    for backend, platform, changes in (
        ("cudnn", "cpu", {}),
        ("cudnn", "tpu", {}),
        ("cudnn", "gpu", {"compute_dtype": "float32"}),
        ("pallas", "gpu", {}),
        ("pallas", "tpu", {"head_width": 64}),
    ):
        with pytest.raises(
            ValueError, match=f"decode_attention='{backend}' does not .* {platform}"
        ):
            choose(change(decode_attention=backend, **changes), platform)
    with pytest.raises(ValueError, match="must be one of: auto, einsum, pallas, cudnn"):
        change(decode_attention="flash")
