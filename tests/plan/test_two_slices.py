"""Two slices: between them, the update exchanges gradients and the step's statistics, no tokens."""

import dataclasses
import math
from types import SimpleNamespace

import digits_run
import jax
import plans
import pytest
from compiled_text import devices, needs_libtpu

from dvaojax import sharding
from dvaojax.config import make_aggregator
from dvaojax.learning.preparation import joined_once
from dvaojax.learning.train_step import LearningConfig
from dvaojax.plan.collectives import BETWEEN_SLICES, kind_of, members
from dvaojax.plan.compilation import QUICK, _experience, compile_training, training_program
from dvaojax.plan.hlo import arrays, dimensions, parse
from dvaojax.train.program import make_program

SLICES = sharding.MeshConfig(replica=2, data=1, fsdp=4)


def configured(mesh, **learning):
    # No number of groups, completions or tokens is that of a parameter's elements.
    return dataclasses.replace(
        digits_run.SPREAD,
        mesh=mesh,
        pipeline_depth=0,
        prompts_per_step=80,
        learning=LearningConfig(micro_batches=2, **learning),
    )


def traffic(config):
    """(kind, shape) of what the update's collectives send, between halves of the devices and
    within."""
    program = make_program(config, make_aggregator(config))
    job = SimpleNamespace(config=config, prompt_length=config.task.max_prompt_length)
    update = program.step.lower(program.state_shapes, _experience(job, program), None)
    between, within = [], []
    for computation in parse(update.compile().as_text()).computations.values():
        for instruction in computation.values():
            if (kind := kind_of(instruction)) is None:
                continue
            slices = {device // 4 for device in members(instruction)}
            sent = [(kind, tuple(dimensions(shape))) for shape in arrays(instruction.shape)]
            (between if len(slices) > 1 else within).extend(sent)
    return program, between, within


def gradient_sizes(config, shapes):
    """Elements of gradients and of their quarters: of parameters, also of joined matrices."""
    joined = jax.eval_shape(lambda params: joined_once(config.model).join(params, None), shapes)
    whole = {math.prod(leaf.shape) for leaf in jax.tree.leaves((shapes, joined))}
    return whole | {size // 4 for size in whole}


@pytest.mark.newest
@pytest.mark.slow
def test_gradients_are_the_only_traffic_between_slices():
    """Devices 0 to 3 are one slice, 4 to 7 the other; the parameters are split within a slice.

    Next to gradients: statistics, of one number or one per objective.
    """
    config = configured(SLICES)
    program, between, within = traffic(config)
    assert program.mesh.devices[0].ravel().tolist() == jax.devices()[:4]
    assert {kind for kind, _ in between} <= {"all-reduce", "reduce-scatter"}
    reduced = [shape for _, shape in between]
    sizes = gradient_sizes(config, program.state_shapes.learner.params)
    statistics = [shape for shape in reduced if shape in ((), (len(config.objectives),))]
    gradients = [shape for shape in reduced if shape not in statistics]
    assert gradients
    assert all(math.prod(shape) in sizes for shape in gradients), gradients
    assert any(kind == "all-gather" for kind, _ in within), "parameters are gathered in a slice"


@pytest.mark.nightly
@pytest.mark.slow
def test_what_else_is_exchanged_between_slices():
    """The test above can fail: `fsdp` over both slices gathers parameters between them, and
    mini-batches, which are drawn from all groups, tokens."""
    _, between, _ = traffic(configured(sharding.MeshConfig(data=1, fsdp=8)))
    assert sum(kind == "all-gather" for kind, _ in between) > 1
    config = configured(SLICES, mini_batches=2)
    _, between, _ = traffic(dataclasses.replace(config, prompts_per_step=160))
    assert any(shape[-1:] == (config.max_new_tokens,) for _, shape in between)


@needs_libtpu
@pytest.mark.slow
def test_an_update_compiled_for_two_slices_sends_gradients_between_them():
    """Each chip sends its part of the gradients once per micro-batch."""
    job = plans.job("tiny", "2xv5e:2x2", mesh=(1, 4, 1, 2), prompts=16, micro_batches=2)
    model = dataclasses.replace(job.config.model, num_layers=1)
    job = dataclasses.replace(
        job, config=dataclasses.replace(job.config, model=model, max_new_tokens=16)
    )
    program = training_program(job, devices("2xv5e:2x2"))
    update = compile_training(job, program, effort=QUICK)
    sent = {
        kind.removesuffix(BETWEEN_SLICES): each
        for kind, each in update.profile.collectives.items()
        if kind.endswith(BETWEEN_SLICES)
    }
    assert sent.keys() == {"all-reduce"}
    gradients = 2 * 4 * job.parameters
    assert gradients <= sent["all-reduce"].sent < 1.2 * gradients
    seconds = sent["all-reduce"].sent / job.slice.chip.slices_bandwidth
    assert sent["all-reduce"].seconds == pytest.approx(seconds)
