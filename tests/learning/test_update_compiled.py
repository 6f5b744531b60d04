"""The update compiled for TPUs and GPUs: cycles and kernels of a layer."""

import dataclasses
import re
from collections import Counter

import plans
import pytest
from compiled_text import devices, needs_cuda_compiler, needs_libtpu

from dvaojax.config import make_aggregator
from dvaojax.plan import hlo
from dvaojax.plan.chips import parse_slice
from dvaojax.plan.compilation import QUICK, THOROUGH, compile_training
from dvaojax.train.program import make_program


def compiled(topology, *, prompts, effort, length=1024, prompt=1024, group=16, fsdp=1, **changes):
    """The update of a shortened Qwen3-4B."""
    job = plans.job("qwen3-4b", topology, mesh=(1, fsdp, 1), prompts=prompts)
    model = dataclasses.replace(job.config.model, compute_dtype="bfloat16", **changes)
    config = dataclasses.replace(job.config, model=model, max_new_tokens=length, group_size=group)
    job = dataclasses.replace(job, config=config, prompt_length=prompt)
    program = make_program(config, make_aggregator(config), devices=devices(topology))
    return compile_training(job, program, effort=effort)


@needs_libtpu
@pytest.mark.slow
def test_heads_of_a_layer_are_prepared_and_merged_by_kernels():
    """Forward, again for the recomputation, and backward, which fit into a v5e's fast memory.

    Nothing else transposes heads, and no chip has the residual stream of the other chips' tokens.
    """
    small = {"vocab_size": 1152, "width": 256, "ff_width": 256, "num_layers": 2}
    small |= {"num_heads": 4, "num_kv_heads": 2}
    shape = {"prompts": 4, "fsdp": 4, "prompt": 128, "group": 2, "length": 65}
    text = compiled("v5e:2x2", effort=QUICK, **shape, **small).text
    kernels = Counter(
        each.name.partition(".")[0]
        for computation in hlo.parse(text).computations.values()
        for each in computation.values()
        if "tpu_custom_call" in each.rest
    )
    assert (kernels["heads"], kernels["heads_backward"]) == (2, 1)
    assert (kernels["merge_heads"], kernels["divide_heads"]) == (2, 1)
    assert "shard_map/transpose" not in text
    assert "[256,256]{1,0" in text
    assert "[1024,256]" not in text


@needs_cuda_compiler
@pytest.mark.slow
def test_no_kernel_slices_the_scales_of_a_layer_that_is_computed_again():
    """Their consumers read the stacked scales, which are the only arrays of this width."""
    small = {"vocab_size": 512, "width": 320, "ff_width": 256, "num_layers": 2}
    small |= {"num_heads": 2, "num_kv_heads": 1, "remat": "products_and_attention"}
    shape = {"prompts": 1, "prompt": 64, "group": 2, "length": 64}
    program = hlo.parse(compiled("h100:1", effort=QUICK, **shape, **small).text)
    sliced = [
        each
        for computation in program.computations.values()
        for each in computation.values()
        if each.opcode == "fusion"
        and re.match(r"f32\[(1,)?320\]", each.shape)
        and "slice" in each.rest
    ]
    assert not sliced


@needs_libtpu
@pytest.mark.nightly
def test_cycles_of_a_token_in_a_layer():
    """At most 3,850 without the kernels of splash attention, which are counted by their products.

    The copies around them are included.
    """
    layers, tokens = 3, 2 * (1024 + 16 * 1023)
    update = compiled("v5p:2x2x1", prompts=8, fsdp=4, num_layers=layers, effort=THOROUGH)
    # Operations that run once a layer; the logits have eight chunks.
    seconds = sum(
        each.seconds
        for each in update.profile.operations
        if each.calls % layers == 0
        and not (each.opcode == "tpu_custom_call" and "splash" in each.name)
    )
    clock = parse_slice("v5p:2x2x1").chip.clock
    assert seconds * clock / layers / tokens < 3850
