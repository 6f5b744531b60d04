"""The sampler compiled for accelerators: no decode loop copies a cache of keys or values."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from compiled_text import copies, devices, loops_with, needs_cuda_compiler, needs_libtpu, parse

from dvaojax import models, sharding
from dvaojax.models.presets import PRESETS
from dvaojax.rollout import rollout
from dvaojax.rollout.generate import Stage, stages
from dvaojax.rollout.sampling import Sampling

BATCH, GROUP, PROMPT = 2, 16, 128
QUICK = -1.0  # of XLA's `exec_time_optimization_effort`; a third of the time
SMALL = {"vocab_size": 2048, "width": 512, "ff_width": 512, "num_layers": 1}


def compile_rollout(device, config, *, length, max_stages, effort=0.0):
    """The compiled text of a rollout on one device."""
    mesh = sharding.make_mesh(sharding.MeshConfig(), [device])
    replicated = sharding.named(mesh)

    def described(a):
        return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=replicated)

    def sample(params, prompts, lengths, keys):
        options = {"sampling": Sampling(), "stop_tokens": (3,), "pad_token": 0}
        return rollout(
            params, prompts, lengths, keys,
            config=config, max_new_tokens=length, max_stages=max_stages, **options,
        )  # fmt: skip

    arguments = (
        jax.eval_shape(partial(models.init, config), jax.random.key(0)),
        jax.ShapeDtypeStruct((BATCH, PROMPT), jnp.int32),
        jax.ShapeDtypeStruct((BATCH,), jnp.int32),
        jax.eval_shape(lambda: jax.random.split(jax.random.key(0), (BATCH, GROUP))),
    )
    lowered = jax.jit(sharding.on_mesh(mesh, sample)).lower(*jax.tree.map(described, arguments))
    options = {"exec_time_optimization_effort": effort}
    return lowered.compile(compiler_options=options).as_text()


def assert_no_cache_is_copied(text, config, *, length, max_stages):
    program = parse(text)
    schedule = stages(length, GROUP, max_stages)
    if config.decode_attention != "einsum":
        schedule = [Stage(length, (GROUP,))]
    for stage in schedule:
        for size in stage.group_sizes:
            cache = (BATCH, config.num_kv_heads, size, config.head_width, stage.end)
            bodies = list(loops_with(program, cache))
            assert bodies, f"no loop with caches of {cache}"
            number = BATCH * config.num_kv_heads * size * config.head_width * stage.end
            for body in bodies:
                assert not copies(program, body, least=number), (body, cache)


def qwen3_4b(**changes):
    return dataclasses.replace(
        PRESETS["qwen3-4b"], param_dtype="bfloat16", compute_dtype="bfloat16", **changes
    )


CASES = [
    pytest.param("v5p:2x2x1", "einsum", marks=needs_libtpu, id="tpu-einsum"),
    pytest.param("v5p:2x2x1", "pallas", marks=needs_libtpu, id="tpu-pallas"),
    pytest.param("h100:1", "einsum", marks=needs_cuda_compiler, id="gpu-einsum"),
    pytest.param("h100:1", "cudnn", marks=needs_cuda_compiler, id="gpu-cudnn"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("topology", "backend"), CASES)
def test_no_cache_is_copied(topology, backend):
    # Half the caches are filled in the first of two stages.
    config = qwen3_4b(**SMALL, decode_attention=backend)
    text = compile_rollout(devices(topology)[0], config, length=256, max_stages=2, effort=QUICK)
    assert_no_cache_is_copied(text, config, length=256, max_stages=2)


@pytest.mark.nightly
@pytest.mark.parametrize(("topology", "backend"), CASES)
def test_no_cache_is_copied_at_full_width(topology, backend):
    config = qwen3_4b(num_layers=2, decode_attention=backend)
    text = compile_rollout(devices(topology)[0], config, length=1024, max_stages=4)
    assert_no_cache_is_copied(text, config, length=1024, max_stages=4)
