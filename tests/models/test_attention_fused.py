"""Attention by cuDNN: merged parts, with a kernel of the same contract, and calls when lowered."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_cases import random_rows, reference_attention

from dvaojax import sharding
from dvaojax.models.attention import backend, fused, joint_attention, packed_attention
from dvaojax.models.attention.fused import FusedLayout, Kernel
from dvaojax.models.attention.splash import SplashLayout
from dvaojax.models.presets import PRESETS
from dvaojax.plan import described
from dvaojax.plan.chips import parse_slice

ROW = SplashLayout(row=512 + 4 * 256, prompt=512, longest=256, packed=False)


def scores_of(queries, keys, lengths):
    """`[B, H, S, K]` scores, masked as the contract of `Kernel` says."""
    repeated = jnp.repeat(keys, queries.shape[2] // keys.shape[2], axis=2)
    scores = jnp.einsum("bshc,bkhc->bhsk", queries, repeated) * queries.shape[-1] ** -0.5
    columns = jnp.arange(keys.shape[1], dtype=jnp.int32)
    if lengths is None:
        assert queries.shape[1] == keys.shape[1]
        where = (columns[None] <= columns[:, None])[None, None]
    else:
        where = (columns[None] < lengths[:, None])[:, None, None]
    return jnp.where(where, scores, -jnp.inf)


def plain_forward(queries, keys, values, lengths):
    scores = scores_of(queries, keys, lengths)
    repeated = jnp.repeat(values, queries.shape[2] // values.shape[2], axis=2)
    output = jnp.einsum("bhsk,bkhc->bshc", jax.nn.softmax(scores), repeated)
    return output, jax.nn.logsumexp(scores, axis=-1)


def plain_backward(queries, keys, values, lengths, logsumexp, output, cotangent):
    """The backward pass of flash attention: everything from the logsumexp and the result given."""
    ratio = queries.shape[2] // keys.shape[2]
    shared = lambda x: x.reshape(*x.shape[:2], -1, ratio, x.shape[-1]).sum(axis=3)  # noqa: E731
    k, v = (jnp.repeat(x, ratio, axis=2) for x in (keys, values))
    weights = jnp.exp(scores_of(queries, keys, lengths) - logsumexp[..., None])
    delta = jnp.einsum("bshc,bshc->bhs", output, cotangent)[..., None]
    grad_scores = weights * (jnp.einsum("bshc,bkhc->bhsk", cotangent, v) - delta)
    grad_scores *= queries.shape[-1] ** -0.5
    return (
        jnp.einsum("bhsk,bkhc->bshc", grad_scores, k),
        shared(jnp.einsum("bhsk,bshc->bkhc", grad_scores, queries)),
        shared(jnp.einsum("bhsk,bshc->bkhc", weights, cotangent)),
    )


PLAIN = Kernel(plain_forward, plain_backward)


@pytest.fixture
def plain_kernel(monkeypatch):
    """Every call of `attend_fused` uses the kernel written out above, on any machine."""
    monkeypatch.setattr(fused, "obstacle", lambda **_: None)
    monkeypatch.setitem(fused.attend_fused.__kwdefaults__, "kernel", PLAIN)


def value_and_gradients(attention, rows):
    """The result, zero on padding, and the gradients of its weighted sum, in float64."""

    def weighted_sum(*arguments):
        result = attention(*arguments)
        return jnp.sum(result * rows.weights), result

    gradient = jax.jit(jax.value_and_grad(weighted_sum, argnums=(0, 1, 2), has_aux=True))
    (_, result), gradients = gradient(*rows[:3])
    real = np.concatenate([rows.prompt_where, rows.segments >= 0], axis=1)
    return np.where(real[..., None, None], np.asarray(result), 0), jax.device_get(gradients)


@pytest.mark.usefixtures("plain_kernel")
@pytest.mark.parametrize("heads", [(6, 2), (3, 3)])
def test_merged_parts_equal_reference_attention(heads):
    sizes = {"num_heads": heads[0], "num_kv_heads": heads[1]}
    lengths = [[5, 5, 5], [5, 5, 5]]
    rows = random_rows([7, 3], lengths, prompt_width=7, completion_width=15, **sizes)
    options = {"prompt_where": rows.prompt_where, "implementation": "cudnn"}
    with jax.enable_x64(True):
        actual = value_and_gradients(partial(joint_attention, group_size=3, **options), rows)
    chex.assert_trees_all_close(actual, reference_attention(rows), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("plain_kernel")
def test_packed_completions_equal_reference_attention():
    lengths = [[3, 6, 1, 4], [6, 6], [1, 5]]
    rows = random_rows([5, 2, 4], lengths, prompt_width=5, completion_width=17)
    options = {"prompt_where": rows.prompt_where, "implementation": "cudnn"}
    packed = partial(packed_attention, segments=rows.segments, longest=6, **options)
    with jax.enable_x64(True):
        actual = value_and_gradients(packed, rows)
    chex.assert_trees_all_close(actual, reference_attention(rows), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("plain_kernel")
def test_a_row_without_completions_is_attention_of_the_prompt():
    rows = random_rows([5, 4], [[], []], prompt_width=5, completion_width=0)
    options = {"prompt_where": rows.prompt_where, "implementation": "cudnn"}
    with jax.enable_x64(True):
        actual = value_and_gradients(partial(joint_attention, group_size=1, **options), rows)
    chex.assert_trees_all_close(actual, reference_attention(rows), rtol=1e-12, atol=1e-12)


def lowered(own, group_size, **options):
    """The program for CUDA of the gradient of attention in a layer that recomputes it."""
    row = 512 + 4 * 256
    queries, keys = (jax.ShapeDtypeStruct((2, row, n, 128), jnp.bfloat16) for n in (4, 2))
    lengths = jax.ShapeDtypeStruct((2,), jnp.int32)
    layout = FusedLayout(prompt=512, group_size=group_size, longest=256, max_scores=1 << 20)

    def total(queries, keys, values, lengths):
        attend = partial(fused.attend_fused, own=own, layout=layout)
        attend = jax.checkpoint(attend, **options)
        return jnp.sum(attend(queries, keys, values, lengths).astype(jnp.float32))

    gradient = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))
    traced = gradient.trace(queries, keys, keys, lengths)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def calls(program):
    """Numbers of forward and backward calls of cuDNN."""
    return tuple(program.count(f"@__cudnn$fmhaSoftmax{kind}(") for kind in ("", "Backward"))


@pytest.mark.skipif(fused.cudnn is None, reason="JAX has no cuDNN attention")
def test_lowered_for_cuda_on_a_machine_without_gpu():
    """Three calls forward, three backward; the names and arguments of JAX's private calls hold."""
    keep = jax.checkpoint_policies.save_only_these_names("attention")
    program = lowered(None, 4, policy=keep)
    assert calls(program) == (3, 3)
    assert program.count("PADDING") == 2
    assert program.count("CAUSAL") == 4
    assert calls(lowered(None, 4)) == (6, 3)  # recomputed where nothing is kept
    columns = jnp.arange(1024, dtype=jnp.int32)[None, None, None]
    own = fused.ColumnRange(columns // 256 * 256, columns)
    assert calls(lowered(own, 0, policy=keep)) == (2, 2)  # packed completions blockwise


def test_chosen_by_device_and_shape(monkeypatch):
    device = {"capability": (8, 0)}
    monkeypatch.setattr(backend, "_capability", lambda: device["capability"])
    monkeypatch.setattr(fused, "_is_installed", lambda: device.get("cudnn", True))

    def choose(requested="auto", platform="gpu", head_width=128, dtype="bfloat16"):
        return backend.choose(requested, platform, ROW, head_width=head_width, dtype=dtype)

    assert choose() == choose("cudnn") == "cudnn"
    assert choose("blocks") == "blocks"
    assert choose(head_width=256) == "blocks"
    line = backend.describe(PRESETS["qwen3-0.6b"], "gpu", ROW)
    assert line == "attention: cudnn on gpu (rows of 1536 tokens, heads of 128)"
    for change, head_width, dtype, reason in (
        ({}, 132, "bfloat16", "heads of a multiple of 8 up to 128, not of 132"),
        ({}, 256, "bfloat16", "heads of a multiple of 8 up to 128, not of 256"),
        ({}, 128, "float32", "it needs bfloat16, not float32"),
        ({"capability": (7, 5)}, 128, "bfloat16", "8.0 .Ampere. or later, not 7.5"),
        ({"capability": ()}, 128, "bfloat16", "a GPU of NVIDIA"),
        ({"capability": (9, 0), "cudnn": False}, 128, "bfloat16", "cuDNN, which JAX does not find"),
    ):
        device.update(change)
        assert choose(head_width=head_width, dtype=dtype) == "blocks"
        with pytest.raises(ValueError, match=f"model.attention='cudnn' cannot be used: .*{reason}"):
            choose("cudnn", head_width=head_width, dtype=dtype)
    line = backend.describe(PRESETS["qwen3-0.6b"], "gpu", ROW)
    assert line.endswith("heads of 128; not cudnn: it needs cuDNN, which JAX does not find)")
    device.update(cudnn=True)
    assert choose(head_width=256) == "cudnn"  # Hopper
    for platform in ("cpu", "tpu"):
        with pytest.raises(ValueError, match=f"needs an NVIDIA GPU, not {platform}"):
            choose("cudnn", platform)


def test_capability_of_this_machines_gpu(monkeypatch):
    class Device:
        compute_capability = "9.0"

    monkeypatch.setattr(jax, "local_devices", lambda backend: [Device()])
    assert backend._capability() == (9, 0)
    Device.compute_capability = "gfx942"  # of another maker
    assert backend._capability() == ()
    monkeypatch.undo()
    assert backend._capability() == backend.DESCRIBED_CAPABILITY


@pytest.mark.slow
@pytest.mark.parametrize("name", ["h100:4", "a100:4", "l4:4"])
def test_compiled_for_described_gpus(name):
    """Groups and heads on a mesh of 2 x 2: cuDNN on every GPU, nothing is gathered."""
    pytest.importorskip("jax_cuda13_plugin", reason="JAX's CUDA plugin is absent (extra plan-cuda)")
    pytest.importorskip("nvidia.cudnn", reason="cuDNN is absent (extra plan-cuda)")
    gpus = described.slice_devices(parse_slice(name))
    mesh = sharding.make_mesh(sharding.MeshConfig(data=1, fsdp=2, tensor=2), devices=gpus)
    by_head = sharding.named(mesh, "group", None, "heads", None)
    queries, keys = (
        jax.ShapeDtypeStruct((4, ROW.row, heads, 128), jnp.bfloat16, sharding=by_head)
        for heads in (4, 2)
    )
    where = jax.ShapeDtypeStruct((4, 512), bool, sharding=sharding.named(mesh, "group", None))
    segments = jax.ShapeDtypeStruct((4, 1024), jnp.int32, sharding=where.sharding)

    def total(queries, keys, values, where, segments):
        options = {"prompt_where": where}
        joint = joint_attention(queries, keys, values, group_size=4, **options)
        packed = packed_attention(queries, keys, values, segments=segments, longest=256, **options)
        return jnp.sum(joint.astype(jnp.float32)), jnp.sum(packed.astype(jnp.float32))

    for packed, number in ((0, 3), (1, 2)):
        one = lambda *arguments, packed=packed: total(*arguments)[packed]  # noqa: E731
        gradient = sharding.on_mesh(mesh, jax.value_and_grad(one, argnums=(0, 1, 2)))
        text = jax.jit(gradient).lower(queries, keys, keys, where, segments).compile().as_text()
        assert text.count('custom_call_target="__cudnn$fmhaSoftmax"') == number
        assert text.count('custom_call_target="__cudnn$fmhaSoftmaxBackward"') == number
        assert "all-gather" not in text
        assert "all-to-all" not in text
