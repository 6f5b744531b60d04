"""Layouts: all that divide and no other, the promising first, and one that fits is found."""

import math

import plans
import pytest

from dvaojax.errors import UserError
from dvaojax.plan import compilation, estimate, planning, search
from dvaojax.plan.chips import GIB
from dvaojax.plan.compilation import Compiled, TooLarge
from dvaojax.plan.hlo import Collective, Profile

PROFILE = Profile({"all-gather": Collective(1, int(600e9))}, cycles=1)


def test_every_layout_divides_and_uses_every_chip_once():
    job = plans.job("qwen2.5-3b", "v5e:4x4", mesh=(1, 16, 1), prompts=48)
    found = search.layouts(job)
    assert len(set(map(str, found))) == len(found) > 0
    for each in found:
        mesh, micro_batches = each.config.mesh, each.config.learning.micro_batches
        assert math.prod((mesh.data, mesh.fsdp, mesh.tensor)) == 16
        assert 48 % (micro_batches * mesh.data * mesh.fsdp) == 0
        assert mesh.tensor in (1, 2)  # two key/value heads
    assert {each.config.model.remat for each in found} >= {"none", "layer"}


def test_what_fits_comes_first_and_the_faster_of_it_before():
    job = plans.job("qwen3-8b", "v6e:8x8")
    found = search.ranked(search.layouts(job))
    memory = job.slice.chip.memory
    fits = [estimate.peak(each) <= memory for each in found]
    assert True in fits
    assert False in fits
    assert fits == sorted(fits, reverse=True)
    needed = [estimate.peak(each) for each in found[fits.index(False) :]]
    assert needed == sorted(needed)
    first = found[0].config
    assert first.model.remat == "layer" or first.learning.micro_batches > 1


def test_only_what_is_free_is_chosen():
    job = plans.job(mesh=(1, 16, 4), micro_batches=2)
    same = planning.choose(job, mesh_is_free=False, micro_batches_are_free=False)
    assert same == job
    chosen = planning.choose(job, mesh_is_free=True, micro_batches_are_free=False)
    assert chosen.config.learning == job.config.learning
    assert chosen.config.model == job.config.model


def test_a_job_that_divides_nowhere_is_refused_with_its_numbers():
    job = plans.job("qwen2.5-3b", "v5e:4x4", prompts=3)
    with pytest.raises(UserError, match=r"3 prompts, 2 key/value heads .* 16 chips of v5e:4x4"):
        planning.choose(job, mesh_is_free=True, micro_batches_are_free=True)


class Judge:
    """A compiler that takes what needs less, by the estimate, than it was told."""

    def __init__(self, limit):
        self.limit, self.asked = limit, []

    def __call__(self, job, devices, tell, *, effort):
        assert effort == compilation.QUICK
        self.asked.append(job)
        if estimate.peak(job) <= self.limit:
            return planning.Plan(job, plans.half(), plans.half())
        return planning.Plan(job, None, TooLarge(estimate.peak(job), 1.0))


def test_the_search_ends_with_the_first_that_fits(monkeypatch):
    job = plans.job("qwen3-8b", "v6e:8x8")
    judge = Judge(estimate.peak(job) - 1)
    monkeypatch.setattr(planning, "compile_plan", judge)
    plan = planning.find_fitting(job, [], print, tries=30)
    assert plan is not None
    assert plan.fits
    assert plan.job == judge.asked[-1] != job
    assert len(judge.asked) <= 30


def test_the_search_gives_up_after_so_many(monkeypatch):
    judge = Judge(0)
    monkeypatch.setattr(planning, "compile_plan", judge)
    assert planning.find_fitting(plans.job(), [], print, tries=2) is None
    assert len(judge.asked) == 2


def test_the_rollout_is_not_compiled_where_the_train_step_does_not_fit(monkeypatch):
    job = plans.job()
    monkeypatch.setattr(compilation, "program_of", lambda job, devices: None)
    monkeypatch.setattr(compilation, "compile_training", lambda *_, effort: TooLarge(2**40, 1.0))
    lines = []
    plan = planning.compile_plan(job, [], lines.append, effort=compilation.THOROUGH)
    assert (plan.rollout, plan.fits, plan.needed) == (None, False, 2**40)
    assert len(lines) == 1


@pytest.mark.parametrize("effort", [compilation.THOROUGH, compilation.QUICK])
def test_the_parts_of_the_memory_add_up_to_what_the_compiler_says(monkeypatch, effort):
    """And a quick compilation has no say in time and traffic."""
    job = plans.job(mesh=(1, 64, 1))
    compiled = Compiled(
        arguments=3 * GIB, results=GIB, temporaries=30 * GIB, profile=PROFILE, seconds=1.0
    )
    monkeypatch.setattr(compilation, "program_of", lambda job, devices: None)
    monkeypatch.setattr(compilation, "compile_training", lambda *_, effort: compiled)
    monkeypatch.setattr(compilation, "compile_rollout", lambda *_, effort: compiled)
    monkeypatch.setattr(planning, "_state_bytes", lambda program: (GIB, 2 * GIB))
    plan = planning.compile_plan(job, [], print, effort=effort)
    assert plan.halves is not None
    rollout, training = plan.halves
    assert training.memory.total == 34 * GIB
    assert rollout.memory.total == (34 + 2) * GIB  # the optimiser's state stays beside it
    assert plan.needed == 36 * GIB
    quick = effort == compilation.QUICK
    assert (training.compiler_seconds is None) == quick
    assert (training.roofline.links == 1.0) == (not quick)
