"""Rows and tables of the accelerator benchmark; a complete run is a slow test."""

import json
import subprocess
import sys
from pathlib import Path

import accelerator
import pytest
import systems
from ceilings import Ceilings
from systems import OURS, Outcome
from workload_cases import make

from dvaojax.devices import PEAKS
from dvaojax.models.presets import PRESETS

SCRIPT = Path(__file__).parents[2] / "experiments" / "benchmarks" / "accelerator.py"
GPU = "NVIDIA H200"
SHEET = Ceilings(*PEAKS[GPU])
REPORT = {
    "version": "0.1.0",
    "device": GPU,
    "micro_batches": 4,
    "step_seconds": [3.0] * 5,
    "rollout_seconds": [1.0] * 5,
    "reward_seconds": [0.5] * 5,
    "train_seconds": [1.5] * 5,
    "peak_bytes": 3 * 2**30,
    "update_bytes": None,
    "ceilings": {"flops_per_second": 1e9, "bytes_per_second": 1e8},
}


def test_unknown_device_has_measured_limits():
    assert accelerator.sheet_of("cpu") is None
    report = REPORT | {"device": "cpu"}
    assert accelerator.limits_of(Outcome(OURS, report, "")) == Ceilings(1e9, 1e8)
    assert accelerator.limits_of(Outcome(OURS, REPORT, "")) == SHEET


@pytest.mark.parametrize("option", ["--json", "--markdown"])
def test_refuses_unwritable_output_before_measuring(run, monkeypatch, capsys, option):
    monkeypatch.setattr(sys, "argv", ["accelerator.py", option, "nowhere/at/all"])
    with pytest.raises(SystemExit) as stopped:
        accelerator.main()
    assert stopped.value.code == 2
    assert f"argument {option}: there is no directory nowhere/at" in capsys.readouterr().err
    assert run[1] == []


def test_plan_has_known_models():
    assert set(accelerator.FULL.models) | set(accelerator.SMALL.models) <= set(PRESETS)


@pytest.fixture
def run(monkeypatch):
    """A stub of `systems.run` that returns given outcomes and records its calls."""
    outcomes, calls = [], []

    def stub(system, path, *, python=sys.executable, options=()):
        calls.append((system, *options))
        return outcomes.pop(0)

    monkeypatch.setattr(systems, "run", stub)
    return outcomes, calls


def test_out_of_memory_is_retried_and_then_reported(run):
    outcomes, calls = run
    full = Outcome(OURS, {}, systems.OUT_OF_MEMORY, failed=True)
    missing = Outcome("tunix", {}, "not installed")
    outcomes += [full, full, missing]
    ours, peer = accelerator.measure("tiny", accelerator.SMALL, sys.executable)
    assert calls == [(OURS,), (OURS, "--micro-batches", "2"), ("tunix", "--micro-batches", "2")]
    assert ours["complaint"] == systems.OUT_OF_MEMORY
    assert peer["complaint"] == "not installed"


def test_row_has_data_sheet_shares_and_memory(run):
    outcomes, _ = run
    outcomes += [Outcome(OURS, REPORT, ""), Outcome("tunix", {}, "not installed")]
    row, _ = accelerator.measure("tiny", accelerator.SMALL, sys.executable)
    assert row["sampled_tokens_per_second"] == 2 * 4 * 16
    assert row["peak_gib"] == 3
    measured = accelerator.as_row("m", Outcome(OURS, REPORT, ""), make(), Ceilings(1e9, 1e8))
    from_data_sheet = accelerator.as_row("m", Outcome(OURS, REPORT, ""), make(), SHEET)
    ratio = measured["train_arithmetic_share"] / from_data_sheet["train_arithmetic_share"]
    assert ratio == pytest.approx(989.4e12 / 1e9)


def test_tables_name_device_versions_date_and_commit(run):
    outcomes, _ = run
    outcomes += [Outcome(OURS, REPORT, ""), Outcome("tunix", {}, "not installed: pip install it")]
    rows = list(accelerator.measure("tiny", accelerator.SMALL, sys.executable))
    header = accelerator.circumstances(rows)
    text = accelerator.as_markdown(
        {**header, "shape": accelerator.SMALL.shape, "rows": rows, "aggregators": {}}
    )
    for expected in (GPU, header["date"], header["commit"], "jax", "data sheet", "pip install it"):
        assert expected in text
    tables = [line for line in text.splitlines() if line.startswith("| tiny")]
    assert len(tables) == 2
    assert len({line.count("|") for line in tables}) == 1


@pytest.mark.nightly
def test_command_runs_on_a_cpu(tmp_path):
    path, markdown = tmp_path / "report.json", tmp_path / "report.md"
    command = [sys.executable, str(SCRIPT), "--small", "--json", str(path)]
    done = subprocess.run(
        [*command, "--markdown", str(markdown)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text())
    assert markdown.read_text() == done.stdout.rstrip("\n") + "\n"
    ours = report["rows"][0]
    assert ours["complaint"] == ""
    assert 0 < ours["train_arithmetic_share"] < 1
    assert ours["update_bytes"] > 0
    assert {row["aggregator"] for row in report["aggregators"]["aggregators"]} >= {"dvao", "grpo"}
