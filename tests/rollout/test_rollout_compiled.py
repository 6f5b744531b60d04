"""The sampler compiled for accelerators: no decode loop copies a cache of keys or values."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import plans
import pytest
from compiled_text import copies, devices, loops_with, needs_cuda_compiler, needs_libtpu, parse
from tiny_run import TINY

from dvaojax import models, sharding
from dvaojax.config import Config, make_aggregator, overrides
from dvaojax.models.presets import PRESETS
from dvaojax.plan.chips import parse_slice
from dvaojax.plan.compilation import QUICK, THOROUGH, compile_rollout, compiler_options
from dvaojax.rollout import rollout
from dvaojax.rollout.generate import Stage, stages
from dvaojax.rollout.sampling import Sampling
from dvaojax.train.program import make_program

# A single prompt: XLA removes axes of size 1 from products, not from the caches that they read.
BATCH, GROUP, PROMPT = 1, 16, 128
SMALL = {"vocab_size": 2048, "width": 512, "ff_width": 512, "num_layers": 1}


def compiled_text(device, config, *, length, max_stages, effort=THOROUGH):
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
    return lowered.compile(compiler_options=compiler_options(effort)).as_text()


def assert_no_cache_is_copied(text, config, *, length, max_stages):
    program = parse(text)
    schedule = stages(length, GROUP, max_stages)
    if config.decode_attention != "einsum":
        schedule = [Stage(length, (GROUP,))]
    for stage in schedule:
        for size in stage.group_sizes:
            completions = (BATCH * size,) if config.decode_attention == "einsum" else (BATCH, size)
            cache = (*completions, config.num_kv_heads, config.head_width, stage.end)
            bodies = list(loops_with(program, cache))
            assert bodies, f"no loop with caches of {cache}"
            number = BATCH * config.num_kv_heads * size * config.head_width * stage.end
            for body in bodies:
                assert not copies(program, body, size=number), (body, cache)


def qwen3_4b(**changes):
    return dataclasses.replace(
        PRESETS["qwen3-4b"], param_dtype="bfloat16", compute_dtype="bfloat16", **changes
    )


CASES = [
    pytest.param(
        *("v5p:2x2x1", "einsum"), marks=[needs_libtpu, pytest.mark.nightly], id="tpu-einsum"
    ),
    pytest.param("v5p:2x2x1", "pallas", marks=needs_libtpu, id="tpu-pallas"),
    pytest.param(
        *("h100:1", "einsum"), marks=[needs_cuda_compiler, pytest.mark.nightly], id="gpu-einsum"
    ),
    pytest.param("h100:1", "cudnn", marks=needs_cuda_compiler, id="gpu-cudnn"),
]


def test_no_cache_is_copied_on_a_cpu():
    small = {"vocab_size": 64, "width": 32, "ff_width": 32, "num_layers": 1, "head_width": 16}
    config = dataclasses.replace(PRESETS["tiny"], **small, decode_attention="einsum")
    text = compiled_text(jax.devices("cpu")[0], config, length=32, max_stages=2)
    assert_no_cache_is_copied(text, config, length=32, max_stages=2)


@pytest.mark.slow
@pytest.mark.parametrize(("topology", "backend"), CASES)
def test_no_cache_is_copied(topology, backend):
    # Half the caches are filled in the first of two stages.
    config = qwen3_4b(**SMALL, decode_attention=backend)
    text = compiled_text(devices(topology)[0], config, length=256, max_stages=2, effort=QUICK)
    assert_no_cache_is_copied(text, config, length=256, max_stages=2)


@pytest.mark.slow
@needs_cuda_compiler
@pytest.mark.parametrize("loop", ["graph", "host"])
def test_the_loop_over_tokens_is_part_of_a_cuda_graph(loop, tmp_path):
    config = overrides.apply(Config(), [*TINY, "rollout_stages=1", f"rollout_loop={loop}"])
    program = make_program(config, make_aggregator(config), devices=devices("h100:1"))
    params = program.state_shapes.learner.params
    replicated = sharding.named(program.mesh)
    key = jax.eval_shape(lambda: jax.random.key(0))
    tokens, lengths, key = (
        jax.ShapeDtypeStruct(shape, dtype, sharding=replicated)
        for shape, dtype in (((8, 4), jnp.int32), ((8,), jnp.int32), (key.shape, key.dtype))
    )
    lowered = program.sample.lower(params, tokens, lengths, key, lengths)
    lowered.compile(compiler_options={"xla_dump_to": str(tmp_path), "xla_dump_hlo_as_text": True})
    (path,) = tmp_path.glob("*thunk_sequence_after_thunk_passes.txt")
    # Operations of a graph are indented. The first loop is that of the layers in prefill.
    *_, decoding = [line for line in path.read_text().splitlines() if " kWhile " in line]
    assert decoding.startswith(" ") == (loop == "graph")


@pytest.mark.nightly
@pytest.mark.parametrize(("topology", "backend"), CASES)
def test_no_cache_is_copied_at_full_width(topology, backend):
    config = qwen3_4b(num_layers=2, decode_attention=backend)
    text = compiled_text(devices(topology)[0], config, length=1024, max_stages=4)
    assert_no_cache_is_copied(text, config, length=1024, max_stages=4)


def decode_loop(model, topology, *, num_layers, length, prompt, fsdp, backend):
    """The cost of a rollout's only decode loop, for 8 x 16 completions."""
    job = plans.job(model, topology, mesh=(1, fsdp, 1), prompts=8, max_new_tokens=length)
    model_config = dataclasses.replace(
        job.config.model,
        num_layers=num_layers,
        compute_dtype="bfloat16",
        decode_attention=backend,
    )
    config = dataclasses.replace(job.config, model=model_config)
    job = dataclasses.replace(job, config=config, prompt_length=prompt)
    program = make_program(config, make_aggregator(config), devices=devices(topology))
    compiled = compile_rollout(job, program, effort=THOROUGH)
    (loop,) = compiled.profile.decode_loops
    return loop


@pytest.mark.nightly
@needs_libtpu
def test_cycles_of_a_token_on_a_tpu():
    # On average half of 2,048 tokens are filled. A kernel counts by the bytes that it reads.
    shape = {"num_layers": 4, "length": 2048, "prompt": 1024, "fsdp": 4}
    loop = decode_loop("qwen3-4b", "v5p:2x2x1", backend="pallas", **shape)
    assert loop.seconds * parse_slice("v5p:2x2x1").chip.clock < 2.6e6


@pytest.mark.nightly
@needs_cuda_compiler
def test_kernels_of_a_layer_on_a_gpu():
    shape = {"length": 1024, "prompt": 512, "fsdp": 1, "backend": "cudnn"}
    two, four = (decode_loop("qwen3-1.7b", "h100:1", num_layers=n, **shape) for n in (2, 4))
    assert four.kernels - two.kernels <= 2 * 16
