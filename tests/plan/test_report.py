"""What a person reads and what a program reads say the same."""

import io
import json

import plans
import pytest
from rich.console import Console

from dvaojax.plan import report
from dvaojax.plan.chips import GIB
from dvaojax.plan.compilation import TooLarge
from dvaojax.plan.planning import Plan


@pytest.fixture(autouse=True)
def _libtpu(monkeypatch):
    monkeypatch.setattr(report.importlib.metadata, "version", lambda name: f"of {name}")


def text_of(*arguments, **named):
    out = io.StringIO()
    console = Console(file=out, highlight=False, soft_wrap=True, width=120)
    console.print(report.render(*arguments, **named))
    return out.getvalue()


def test_a_plan_that_fits():
    text = text_of(plans.fitting(), None, steps=500)
    assert "It fits: 11.0 of 95.7 GiB on every chip." in text
    assert "v5p:4x4x4, 64 chips: 128 prompts x 16 completions, 512 + 1024 tokens" in text
    assert "compiled ahead of time with libtpu of libtpu; estimated, not run" in text
    for words in ("parameters", "optimiser", "cache", "activations", "temporaries", "all-gather"):
        assert words in text
    tokens = 128 * 16 * 1024
    assert f"roofline: {tokens / 4:,.0f} completion tokens a second, 0.6 hours for 500" in text
    assert f"compiler: {tokens / 12:,.0f} completion tokens a second, 1.7 hours" in text


def test_cycles_of_a_quick_compilation_are_not_shown():
    quick = plans.half()._replace(compiler_seconds=None)
    plan = Plan(plans.job(), quick, quick)
    assert "compiler:" not in text_of(plan, None, steps=500)
    assert set(report.to_json(plan, None, steps=500)["hours"]) == {"roofline"}


def test_hours_need_steps():
    assert "hours" not in text_of(plans.fitting(), None, steps=None)


def test_what_does_not_fit_says_what_would():
    plan = Plan(plans.job(mesh=(64, 1, 1)), None, TooLarge(120 * GIB, 1.0))
    text = text_of(plan, plans.fitting(mesh=(1, 64, 1)), steps=None)
    assert "It does not fit: the train step needs 120.0 of 95.7 GiB" in text
    assert "This would fit, in 11.0 GiB: --set mesh.data=1 mesh.fsdp=64\n" in text
    assert "No layout" in text_of(plan, None, steps=None)


def test_two_halves_that_compile_may_still_not_fit_beside_the_state():
    plan = Plan(plans.job(), plans.half(temporaries=100 * GIB), plans.half())
    assert not plan.fits
    assert "It does not fit: the rollout needs 108.0 of 95.7" in text_of(plan, None, steps=None)


def test_json_holds_the_same_numbers():
    found = json.loads(json.dumps(report.to_json(plans.fitting(), None, steps=100)))
    assert found["fits"] is True
    assert found["memory_needed"] == 11 * GIB == found["rollout"]["memory"]["total"]
    assert found["training"]["collectives"]["all-gather"] == {"calls": 36, "bytes_sent": 4 * GIB}
    assert found["seconds_per_step"] == {"roofline": 4.0, "compiler": 12.0}
    assert found["hours"]["compiler"] == pytest.approx(1 / 3)
    assert found["flops"]["training"] > found["flops"]["rollout"] > 0


def test_json_of_what_does_not_fit_holds_what_would():
    plan = Plan(plans.job(), None, TooLarge(120 * GIB, 1.0))
    found = report.to_json(plan, plans.fitting(mesh=(2, 32, 1)), steps=None)
    assert not found["fits"]
    assert found["rollout"] is None
    assert found["training"]["needed"] == 120 * GIB
    assert found["would_fit"]["layout"].startswith("mesh.replica=1 mesh.data=2 mesh.fsdp=32")
