"""Two slices: between them, the update exchanges gradients and the step's tokens and numbers."""

import dataclasses
import math
from types import SimpleNamespace

import digits_run
import jax
import pytest

from dvaojax import sharding
from dvaojax.config import make_aggregator
from dvaojax.plan.collectives import kind_of, members
from dvaojax.plan.compilation import _experience
from dvaojax.plan.hlo import arrays, dimensions, parse
from dvaojax.train.program import make_program


def traffic(config):
    """(kind, shapes) of the collectives of the update, between halves of the devices and within."""
    program = make_program(config, make_aggregator(config))
    job = SimpleNamespace(config=config, prompt_length=config.task.max_prompt_length)
    update = program.step.lower(program.state_shapes, _experience(job, program), None)
    between, within = [], []
    for computation in parse(update.compile().as_text()).computations.values():
        for instruction in computation.values():
            if (kind := kind_of(instruction)) is None:
                continue
            slices = {device // 4 for device in members(instruction)}
            shapes = [tuple(dimensions(shape)) for shape in arrays(instruction.shape)]
            (between if len(slices) > 1 else within).append((kind, shapes))
    return program, between, within


@pytest.mark.slow
def test_gradients_are_the_only_large_arrays_between_slices():
    """Devices 0 to 3 are one slice, 4 to 7 the other; the parameters are split within a slice.

    Tokens, masks and log-probabilities are gathered: mini-batches are drawn from all groups.
    """
    config = dataclasses.replace(
        digits_run.SPREAD, mesh=sharding.MeshConfig(replica=2, data=1, fsdp=4), pipeline_depth=0
    )
    program, between, within = traffic(config)
    assert program.mesh.devices[0].ravel().tolist() == jax.devices()[:4]
    parts = {
        leaf.sharding.shard_shape(leaf.shape)
        for leaf in jax.tree.leaves(program.state_shapes.learner.params)
    }
    whole = {leaf.shape for leaf in jax.tree.leaves(program.state_shapes.learner.params)}
    sizes = {math.prod(shape) for shape in parts | whole}
    completions = (config.prompts_per_step, config.group_size)
    others = [
        (kind, shape)
        for kind, shapes in between
        for shape in shapes
        if len(shape) > 1 and shape[:2] != completions
    ]
    assert others, "gradients are exchanged"
    assert {kind for kind, _ in others} <= {"all-reduce", "reduce-scatter"}, others
    assert all(math.prod(shape) in sizes for _, shape in others), others
    assert any(kind == "all-gather" for kind, _ in within), "parameters are gathered in a slice"


@pytest.mark.nightly
@pytest.mark.slow
def test_parameters_split_over_both_slices_are_exchanged_between_them():
    """The test above can fail: `fsdp` over both slices gathers parameters between them."""
    config = dataclasses.replace(
        digits_run.SPREAD, mesh=sharding.MeshConfig(data=1, fsdp=8), pipeline_depth=0
    )
    _, between, _ = traffic(config)
    assert any(kind == "all-gather" for kind, _ in between)
