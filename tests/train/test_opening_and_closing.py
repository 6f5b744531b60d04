"""Lines of a run: the first ones, those while it compiles, warnings, and the last ones."""

import dataclasses
import io
import json
import types
from typing import Any

import jax
import pytest
from digits_run import CONFIG, digits_config
from rich.console import Console

from dvaojax.config import Config
from dvaojax.models.flops import num_params
from dvaojax.models.presets import PRESETS
from dvaojax.run.directory import RunDirectory
from dvaojax.run.display import Display
from dvaojax.tasks.arithmetic import Arithmetic
from dvaojax.train import closing, compiling, duration, opening, zero_variance
from dvaojax.train.duration import Rates
from dvaojax.train.program import Program
from dvaojax.train.zero_variance import ZeroVarianceWatch


@pytest.fixture
def session(tmp_path, monkeypatch) -> Any:
    """The parts of a session that the lines are about."""
    monkeypatch.setattr(opening, "rates_of", lambda devices: Rates(1e9, 1e9))
    devices = types.SimpleNamespace(devices=types.SimpleNamespace(flat=()))
    return lambda config: types.SimpleNamespace(
        config=config,
        program=types.SimpleNamespace(mesh=devices),
        directory=RunDirectory(tmp_path / "runs" / config.name),
    )


def test_a_run_begins_with_four_lines(session):
    what, how_long, where, stop = opening.opening(session(CONFIG), done=0)
    assert "a decoder" in what
    assert "on digits, 5 problems" in what
    assert "digits 1, largest 0.5, brevity 2, by dvao" in what
    assert "6 steps of 2 prompts x 4 completions of at most 8 tokens" in how_long
    assert "learning rate 0.02, linear to 0 after a warm-up of 1 updates" in how_long
    assert "warm start of 2 updates at 0.003" in how_long
    assert "under 1 min after compiling, at a rough estimate" in how_long
    assert "runs/mini: metrics.jsonl" in where
    assert "a checkpoint every 20 steps" in where
    assert "Ctrl-C" in stop
    assert "--resume" in stop


def test_published_weights_and_their_settings_are_named(session):
    config = Config(pretrained="owner/name", model=PRESETS["qwen3-4b"], task=Arithmetic())
    what, how_long, *_ = opening.opening(session(config), done=0)
    assert "the weights of owner/name, 4.02 B parameters" in what
    assert num_params(config.model) == pytest.approx(4.02e9, rel=0.01)
    assert "learning rate 1e-06 after a warm-up of 10 updates; no warm start; about" in how_long


def test_a_resumed_run_says_which_steps_are_left(session):
    _, how_long, *_ = opening.opening(session(CONFIG), done=4)
    assert how_long.startswith("steps 5 to 6 of 2 prompts")
    _, finished, *_ = opening.opening(session(CONFIG), done=6)
    assert finished.startswith("all 6 steps are done")


def test_the_estimate_counts_arithmetic_and_memory():
    """Against 6 operations per parameter and token, and the bytes of the weights per token."""
    no_warm_start = dataclasses.replace(Config().warm_start, num_steps=0)
    config = Config(
        model=dataclasses.replace(PRESETS["qwen3-4b"], logits_chunk=1024),
        num_steps=10,
        prompts_per_step=2,
        group_size=4,
        max_new_tokens=2048,
        warm_start=no_warm_start,
        evaluation=dataclasses.replace(Config().evaluation, num_prompts=1),
    )
    tokens = 10 * 8 * 1024
    parameters = num_params(config.model)
    slow_arithmetic = duration.estimated_seconds(config, Rates(1e12, 1e30), steps=10)
    assert slow_arithmetic == pytest.approx(8 * parameters * tokens / 0.25e12, rel=0.35)
    slow_memory = duration.estimated_seconds(config, Rates(1e30, 1e12), steps=10)
    weights_alone = 10 * 1024 * 2 * parameters / 0.4e12
    assert 0.9 * weights_alone < slow_memory < 1.5 * weights_alone
    half = duration.estimated_seconds(config, Rates(1e12, 1e12), steps=5)
    assert half == pytest.approx(
        duration.estimated_seconds(config, Rates(1e12, 1e12), steps=10) / 2, rel=0.05
    )


def test_the_rates_of_this_machine_are_measured():
    rates = duration.rates_of(jax.devices())
    assert 1e8 < rates.flops < 1e16
    assert 1e7 < rates.bandwidth < 1e15
    default = duration.estimated_seconds(Config(), Rates(50e9, 10e9), steps=120)
    assert 60 < default < 1800  # four minutes were measured on such a machine


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3, "under 1 min"),
        (100, "about 1.7 min"),
        (260, "about 4.3 min"),
        (1500, "about 20 min"),
        (5399, "about 90 min"),
        (9000, "about 2.5 h"),
        (180_000, "about 50 h"),
    ],
)
def test_durations_have_two_digits(seconds, words):
    assert duration.in_words(seconds) == words


def fake_program(calls):
    """A program whose functions note their names."""
    fields = {field.name: None for field in dataclasses.fields(Program)}
    functions = {
        name: lambda *arguments, name=name: calls.append((name, arguments)) or name
        for name in ("warm_start", "evaluate", "sample", "step")
    }
    return Program(**fields | functions)  # type: ignore[arg-type]


def test_only_the_first_call_of_a_function_is_announced():
    calls, out = [], io.StringIO()
    display = Display(["a"], [1.0], 3, Console(file=out, width=80))
    program: Any = compiling.announced(fake_program(calls), display)
    assert program.step(1, 2, 3) == "step"
    assert program.step(4, 5, 6) == "step"
    assert program.sample(7) == "sample"
    assert calls == [("step", (1, 2, 3)), ("step", (4, 5, 6)), ("sample", (7,))]
    assert out.getvalue() == "compiling the update ... 0 s\ncompiling the sampler ... 0 s\n"


def warnings(config, shares):
    watch = ZeroVarianceWatch(config)
    noted = ((step, watch.note(step, share)) for step, share in enumerate(shares, start=1))
    return {step: text for step, text in noted if text}


def test_groups_that_teach_nothing_are_warned_of_ever_less_often():
    printed = warnings(digits_config(num_steps=400), [1.0] * 400)
    assert list(printed) == [10, 20, 40, 80, 160, 320]
    assert "step 10: in 100% of the groups of the last 10 steps" in printed[10]
    for remedy in ("group_size", "sampling.temperature", "allocation.refills"):
        assert remedy in printed[10]
    assert list(warnings(CONFIG, [0.0] * 30 + [1.0] * 15)) == [39]
    assert warnings(CONFIG, [1.0] * 9) == {}
    assert warnings(CONFIG, [0.8] * 100) == {}
    assert warnings(CONFIG, [float("nan")] * 20) == {}


def test_methods_that_learn_from_equal_rewards_are_not_warned_of(monkeypatch):
    monkeypatch.setattr(zero_variance, "compares_within_groups", lambda *_, **__: False)
    assert warnings(CONFIG, [1.0] * 50) == {}


def summary(**changes):
    interval = {"mean": 0.5, "low": 0.25, "high": 0.75}
    later = {"mean": 0.875, "low": 0.8, "high": 0.95}
    return {
        "wall_seconds": 12.3,
        "problems": 64,
        "samples": 2,
        "before": {"accuracy": interval, "format": None},
        "after": {"accuracy": later, "format": later},
        **changes,
    }


def test_a_run_ends_with_its_result_next_to_its_start_and_the_next_commands(session):
    finished = session(CONFIG)
    finished.directory.path.mkdir(parents=True)
    finished.directory.metrics.write_text("")
    lines = closing.closing(finished, summary(), [])
    path = finished.directory.path
    at = lines.index("64 held-out problems, 2 completion(s) each, with 95 % intervals:")
    assert lines[at + 2] == "accuracy  0.500 [0.250, 0.750]  0.875 [0.800, 0.950]  +0.375"
    assert lines[at + 3].split() == ["format", "-", "0.875", "[0.800,", "0.950]", "-"]
    assert lines[-3:] == [
        "next:",
        f"  dvaojax report {path}",
        # The class of this task is defined in a file of its own.
        f"  dvaojax evaluate {path} --samples 8 --experiment EXPERIMENT.py",
    ]
    built_in = closing.next_commands(finished.directory, task=Arithmetic)
    assert built_in[-1] == f"  dvaojax evaluate {path} --samples 8"


def test_steps_that_taught_nothing_are_counted_at_the_end(session):
    finished = session(CONFIG)
    finished.directory.path.mkdir(parents=True)

    def first_line(useless):
        rows = [
            {
                "step": i,
                "zero_variance_groups": float(useless),
                "advantage_mean_square": 1 - useless,
            }
            for i, useless in enumerate(useless, start=1)
        ]
        finished.directory.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return closing.closing(finished, summary(), [])[0]

    assert first_line([1, 1, 0, 1]).startswith("3 of 4 steps taught nothing")
    assert first_line([0] * 19 + [1]).startswith("12 s; ")
