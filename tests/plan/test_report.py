"""A plan as text and as JSON."""

import io
import json
import re

import plans
import pytest
from rich.console import Console

from dvaojax.plan import estimate, report
from dvaojax.plan.chips import GIB
from dvaojax.plan.compilation import MemoryExceeded
from dvaojax.plan.planning import Plan


@pytest.fixture(autouse=True)
def libtpu_version(monkeypatch):
    monkeypatch.setattr(report.importlib.metadata, "version", lambda name: f"1.2 ({name})")


def rendered(*arguments, **named):
    out = io.StringIO()
    console = Console(file=out, highlight=False, soft_wrap=True, width=120)
    console.print(report.render(*arguments, **named))
    return out.getvalue()


def test_plan_that_fits():
    text = rendered(plans.fitting(), None, steps=500)
    assert "It fits: 11.0 of 95.7 GiB on every chip." in text
    assert "v5p:4x4x4, 64 chips: 128 prompts x 16 completions, 512 + 1024 tokens" in text
    assert "compiled ahead of time with libtpu 1.2 (libtpu); estimates, nothing was run" in text
    for label in ("parameters", "optimiser", "cache", "activations", "temporaries", "all-gather"):
        assert label in text
    assert re.search(r"share of the roofline +33% +33% +33%", text)
    assert re.search(r"times the attainable +\d+\.\d\d +\d+\.\d\d", text)
    assert "decoding: 1,023 tokens of 5.00 ms, 730 instructions that take time" in text
    assert "Warning" not in text
    tokens = 128 * 16 * 1024
    assert f"roofline: {tokens / 4:,.0f} completion tokens per second, 0.6 hours for 500" in text
    assert f"compiler: {tokens / 12:,.0f} completion tokens per second, 1.7 hours" in text


def test_quick_compilation_shows_no_compiler_estimate():
    quick = plans.phase()._replace(compiled=None)
    plan = Plan(plans.job(), quick, quick)
    assert "compiler:" not in rendered(plan, None, steps=500)
    assert set(report.to_json(plan, None, steps=500)["hours"]) == {"roofline"}


def test_hours_are_printed_only_if_steps_are_given():
    assert "hours" not in rendered(plans.fitting(), None, steps=None)


def test_plan_that_does_not_fit_suggests_one_that_fits():
    plan = Plan(plans.job(mesh=(64, 1, 1)), None, MemoryExceeded(120 * GIB, 1.0))
    text = rendered(plan, plans.fitting(mesh=(1, 64, 1)), steps=None)
    assert "It does not fit: the train step needs 120.0 of 95.7 GiB" in text
    assert "This layout fits in 11.0 GiB: --set mesh.data=1 mesh.fsdp=64\n" in text
    assert "None of the layouts" in rendered(plan, None, steps=None)


def test_compiled_phases_may_not_fit_together_with_the_state():
    plan = Plan(plans.job(), plans.phase(temporaries=100 * GIB), plans.phase())
    assert not plan.fits
    assert "It does not fit: the rollout needs 108.0 of 95.7" in rendered(plan, None, steps=None)


def test_json_has_the_same_numbers():
    summary = json.loads(json.dumps(report.to_json(plans.fitting(), None, steps=100)))
    assert summary["fits"] is True
    assert summary["memory_needed"] == 11 * GIB == summary["rollout"]["memory"]["total"]
    gathers = {"calls": 36, "bytes_sent": 4 * GIB, "seconds": 0.0}
    assert summary["training"]["collectives"]["all-gather"] == gathers
    assert summary["seconds_per_step"] == {"roofline": 4.0, "compiler": 12.0}
    assert summary["hours"]["compiler"] == pytest.approx(1 / 3)
    assert summary["attainable_seconds"] == estimate.attainable(plans.job())._asdict()
    assert summary["flops"]["training"] > summary["flops"]["rollout"] > 0


def test_json_of_a_plan_that_does_not_fit_has_one_that_fits():
    plan = Plan(plans.job(), None, MemoryExceeded(120 * GIB, 1.0))
    summary = report.to_json(plan, plans.fitting(mesh=(2, 32, 1)), steps=None)
    assert not summary["fits"]
    assert summary["rollout"] is None
    assert summary["training"]["needed"] == 120 * GIB
    assert summary["would_fit"]["layout"].startswith("mesh.replica=1 mesh.data=2 mesh.fsdp=32")


def test_operations_are_listed_with_their_lines_of_source_code():
    text = rendered(plans.fitting(), None, steps=None, operations=1)
    row = re.search(r"4500.0 +75.0% +36 +fusion +bf16\[4,8\] +layers.py:12 +dot_general", text)
    assert row
    assert "splash" not in text.replace("splash attention", "")
    assert "splash" in rendered(plans.fitting(), None, steps=None, operations=2).splitlines()[-2]
    summary = report.to_json(plans.fitting(), None, steps=None)
    assert summary["training"]["compiled"]["operations"][0]["source"] == "layers.py:12"


def test_recomputation_by_the_compiler_is_a_warning():
    plan = Plan(plans.job(), plans.phase(), plans.phase(recomputed=7))
    text = rendered(plan, None, steps=None)
    assert "XLA recomputes 7 instructions of the train step by itself, 10.0% of its time" in text
    assert "rollout by itself" not in text


def test_gpus_have_an_estimate_by_kernels_and_a_limit_of_reserved_memory():
    job = plans.job("qwen3-1.7b", "h100:8", mesh=(1, 8, 1))
    text = rendered(Plan(job, plans.phase(), plans.phase(temporaries=60 * GIB)), None, steps=None)
    assert "h100:8, 8 chips" in text
    assert "compiled ahead of time with jax-cuda13-plugin 1.2" in text
    assert re.search(r"kernels +6.00 +6.00 +12.00", text)
    assert "It fits: 68.0 of 75.1 GiB" in text
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION=0.95: by default JAX reserves 59.3 GiB" in text
    small = rendered(Plan(job, plans.phase(), plans.phase()), None, steps=None)
    assert "XLA_PYTHON" not in small
