"""Layouts: exactly those that divide, in order, until one fits."""

import dataclasses
import math

import jax
import plans
import pytest

from dvaojax.errors import UserError
from dvaojax.plan import compilation, estimate, planning, search
from dvaojax.plan.chips import GIB
from dvaojax.plan.collectives import Collective
from dvaojax.plan.compilation import CompiledFunction, MemoryExceeded

PROFILE = dataclasses.replace(
    plans.profile(), collectives={"all-gather": Collective(1, int(600e9), 1.0)}
)


def test_every_layout_divides_and_uses_every_chip_once():
    job = plans.job("qwen2.5-3b", "v5e:4x4", mesh=(1, 16, 1), prompts=48)
    layouts = search.layouts(job)
    assert len(set(map(str, layouts))) == len(layouts) > 0
    for each in layouts:
        mesh, micro_batches = each.config.mesh, each.config.learning.micro_batches
        assert math.prod((mesh.data, mesh.fsdp, mesh.tensor)) == 16
        assert 48 % (micro_batches * mesh.data * mesh.fsdp) == 0
        assert mesh.tensor in (1, 2)  # two key/value heads
    assert {each.config.model.remat for each in layouts} >= {"none", "layer"}


def test_fitting_layouts_come_first_and_fast_ones_first_among_them():
    job = plans.job("qwen3-8b", "v6e:8x8")
    ranked = search.ranked(search.layouts(job))
    memory = job.slice.chip.memory
    fits = [estimate.peak(each) <= memory for each in ranked]
    assert True in fits
    assert False in fits
    assert fits == sorted(fits, reverse=True)
    needed = [estimate.peak(each) for each in ranked[fits.index(False) :]]
    assert needed == sorted(needed)
    first = ranked[0].config
    assert first.model.remat == "layer" or first.learning.micro_batches > 1


def test_only_free_settings_are_changed():
    job = plans.job(mesh=(1, 16, 4), micro_batches=2)
    unchanged = planning.choose(job, mesh_is_free=False, micro_batches_are_free=False)
    assert unchanged == job
    chosen = planning.choose(job, mesh_is_free=True, micro_batches_are_free=False)
    assert chosen.config.learning == job.config.learning
    assert chosen.config.model == job.config.model


def test_rejects_job_that_divides_over_no_mesh():
    job = plans.job("qwen2.5-3b", "v5e:4x4", prompts=3)
    with pytest.raises(UserError, match=r"3 prompts, 2 key/value heads .* 16 chips of v5e:4x4"):
        planning.choose(job, mesh_is_free=True, micro_batches_are_free=True)


class FakeCompiler:
    """Compiles jobs whose estimated memory is at most a limit."""

    def __init__(self, limit):
        self.limit, self.jobs = limit, []

    def __call__(self, job, devices, notify, *, effort):
        assert effort == compilation.QUICK
        self.jobs.append(job)
        if estimate.peak(job) <= self.limit:
            return planning.Plan(job, plans.phase(), plans.phase())
        return planning.Plan(job, None, MemoryExceeded(estimate.peak(job), 1.0))


def test_search_ends_with_the_first_layout_that_fits(monkeypatch):
    job = plans.job("qwen3-8b", "v6e:8x8")
    compiler = FakeCompiler(estimate.peak(job) - 1)
    monkeypatch.setattr(planning, "compile_plan", compiler)
    plan = planning.find_fitting(job, [], print, tries=30)
    assert plan is not None
    assert plan.fits
    assert plan.job == compiler.jobs[-1] != job
    assert len(compiler.jobs) <= 30


def test_search_ends_after_the_given_number_of_tries(monkeypatch):
    compiler = FakeCompiler(0)
    monkeypatch.setattr(planning, "compile_plan", compiler)
    assert planning.find_fitting(plans.job(), [], print, tries=2) is None
    assert len(compiler.jobs) == 2


def test_rollout_is_not_compiled_if_the_train_step_does_not_fit(monkeypatch):
    job = plans.job()
    monkeypatch.setattr(compilation, "training_program", lambda job, devices: None)
    monkeypatch.setattr(
        compilation, "compile_training", lambda *_, effort: MemoryExceeded(2**40, 1.0)
    )
    lines = []
    plan = planning.compile_plan(job, [], lines.append, effort=compilation.THOROUGH)
    assert (plan.rollout, plan.fits, plan.needed) == (None, False, 2**40)
    assert len(lines) == 1


@pytest.mark.parametrize("effort", [compilation.THOROUGH, compilation.QUICK])
def test_parts_of_the_memory_add_up_to_the_compilers_total(monkeypatch, effort):
    """A quick compilation is not used for estimates of time and communication."""
    job = plans.job(mesh=(1, 64, 1))
    compiled = CompiledFunction(
        arguments=3 * GIB,
        results=GIB,
        temporaries=30 * GIB,
        profile=PROFILE,
        text="HloModule",
        seconds=1.0,
    )
    monkeypatch.setattr(compilation, "training_program", lambda job, devices: None)
    monkeypatch.setattr(compilation, "compile_training", lambda *_, effort: compiled)
    monkeypatch.setattr(compilation, "compile_rollout", lambda *_, effort: compiled)
    monkeypatch.setattr(planning, "_state_bytes", lambda program: (GIB, 2 * GIB))
    kept = {}
    plan = planning.compile_plan(job, [], print, effort=effort, keep=kept.__setitem__)
    assert kept == {"update": "HloModule", "rollout": "HloModule"}
    assert plan.phases is not None
    rollout, training = plan.phases
    assert training.memory.total == 34 * GIB
    assert rollout.memory.total == (34 + 2) * GIB  # includes the resident optimiser state
    assert plan.needed == 36 * GIB
    quick = effort == compilation.QUICK
    assert (training.compiled is None) == quick
    assert (training.roofline.links == 1.0) == (not quick)


def test_the_installed_compiler_knows_both_efforts():
    for effort in (compilation.THOROUGH, compilation.QUICK):
        options = compilation.compiler_options(effort)
        assert jax.jit(lambda x: 2 * x).lower(1.0).compile(compiler_options=options)(1.0) == 2.0
