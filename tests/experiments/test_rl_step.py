"""The benchmark of complete steps: a small run, and the measures derived from reports."""

import json
import subprocess
import sys
from pathlib import Path

import ceilings
import numpy as np
import our_step
import pytest
import rl_step
import systems
from ceilings import Ceilings
from our_step import automatic_micro_batches
from rl_step import as_row, same_model
from shares import measured
from systems import Outcome
from workload import WARM_UP, Workload
from workload_cases import make

from dvaojax.models import flops
from dvaojax.models.presets import PRESETS

SCRIPT = Path(__file__).parents[2] / "experiments" / "benchmarks" / "rl_step.py"
LIMITS = Ceilings(flops_per_second=1e9, bytes_per_second=1e8)


def run_benchmark(*options):
    command = [sys.executable, str(SCRIPT), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


SMALL = (
    "--prompt-length", "8", "--completion-length", "8", "--prompts", "2", "--group-size", "2",
)  # fmt: skip


@pytest.mark.nightly
def test_times_a_small_step_and_names_missing_peers(tmp_path):
    """One complete run; the peers' interpreter has neither peer installed."""
    file = tmp_path / "times.json"
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    options = ("--against", "trl", "tunix", "--peer-python", str(bare), "--json", str(file))
    done = run_benchmark(*SMALL, *options)
    assert done.returncode == 0, done.stderr
    for peer in ("trl", "tunix"):
        assert f"{peer}: not installed: pip install '.[bench]'" in done.stdout
    ours, *peers = json.loads(file.read_text())["systems"]
    assert [peer["system"] for peer in peers] == ["trl", "tunix"]
    parts = [ours[f"{part}_seconds"] for part in ("rollout", "reward", "train")]
    assert min(parts) > 0
    assert max(parts) < ours["step_seconds"] * 1.5  # medians of each part
    assert ours["times_ours"] == 1
    assert ours["tokens_per_second"] == pytest.approx(48 / ours["step_seconds"])
    assert 0 < ours["arithmetic_share"] < 1
    assert 0 < ours["rollout_bandwidth_share"] < 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--steps", "4"), "--steps must be at least 5"),
        (("--prompts", "0"), "--prompts must be at least 1"),
        (("--micro-batches", "3"), "must divide 2 prompts"),
        (("--part", "train", "--against", "trl"), "needs dvaojax alone"),
        (("--json", "nowhere/at/all.json"), "argument --json: there is no directory nowhere/at"),
    ],
)
def test_refuses_invalid_arguments(monkeypatch, capsys, options, complaint):
    monkeypatch.setattr(sys, "argv", ["rl_step.py", *SMALL, *options])
    with pytest.raises(SystemExit) as stopped:
        rl_step.parse()
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def report(workload, *, rollout=0.25, train=0.5):
    """The report of a system whose parts take these seconds."""
    steps = len(workload.prompts) - WARM_UP
    return {
        "probe_logprob": -6.0,
        "device": "cpu",
        "rollout_seconds": [rollout] * steps,
        "reward_seconds": [0.25] * steps,
        "train_seconds": [train] * steps,
        "step_seconds": [rollout + 0.25 + train] * steps,
        "ceilings": LIMITS._asdict(),
    }


def test_shares_follow_from_counts_and_seconds():
    workload, model = make(), PRESETS["tiny"]
    lengths = flops.full_lengths(num_prompts=3, group_size=4, prompt_length=6, completion_length=40)
    shares = measured(report(workload), workload, LIMITS)
    sampled = flops.prefill_flops(model, lengths) + flops.decode_flops(model, lengths)
    trained = flops.train_flops(model, lengths)
    assert shares["step_seconds"] == 1
    assert shares["tokens_per_second"] == lengths.tokens == 3 * (6 + 4 * 40)
    assert shares["arithmetic_share"] == pytest.approx((sampled + trained) / 1e9)
    assert shares["rollout_arithmetic_share"] == pytest.approx(sampled / 1e9 / 0.25)
    assert shares["train_arithmetic_share"] == pytest.approx(trained / 1e9 / 0.5)
    read = flops.decode_bytes(model, lengths)
    assert shares["rollout_bandwidth_share"] == pytest.approx(read / 1e8 / 0.25)


def test_untimed_parts_are_not_reported():
    workload = make()
    seconds = [0.5] * 5
    shares = measured({"step_seconds": seconds, "train_seconds": seconds}, workload, LIMITS)
    assert shares["arithmetic_share"] == shares["train_arithmetic_share"]
    assert not any("rollout" in name or "reward" in name for name in shares)


def test_ragged_rates_are_medians_over_steps():
    workload = make(ragged=True)
    tokens = [3 * 6 + int(np.sum(limits)) for limits in workload.limits[WARM_UP:]]
    assert len(set(tokens)) > 1
    shares = measured(report(workload), workload, LIMITS)
    assert shares["tokens_per_second"] == pytest.approx(np.median(tokens))


def test_ragged_lengths_are_compared_with_full_lengths_of_the_same_run(
    monkeypatch, capsys, tmp_path
):
    calls = []

    def stub(system, path, *, python=sys.executable, options=()):
        workload = Workload.load(path)
        calls.append((system, workload.is_ragged))
        seconds = 0.5 if workload.is_ragged else 1.0
        return Outcome(system, report(workload, rollout=seconds, train=seconds), "")

    file = tmp_path / "times.json"
    monkeypatch.setattr(systems, "run", stub)
    monkeypatch.setattr(
        sys, "argv", ["rl_step.py", *SMALL, "--lengths", "ragged", "--json", str(file)]
    )
    assert rl_step.main() == 0
    assert calls == [("dvaojax", True), ("dvaojax", False)]
    ragged, full = json.loads(file.read_text())["systems"]
    assert (ragged["lengths"], full["lengths"]) == ("ragged", "full")
    kept = ragged["train_tokens_per_second"] / full["train_tokens_per_second"]
    assert f"train {kept:.0%}" in capsys.readouterr().out


def test_peer_with_another_model_is_a_failure():
    workload = make()
    ours = Outcome("dvaojax", report(workload), "")
    peer = Outcome("trl", report(workload, rollout=2.0), "")
    row = as_row(same_model(peer, ours), ours, workload)
    assert row["times_ours"] == 2.75
    other = Outcome("trl", peer.report | {"probe_logprob": -6.1}, "")
    judged = same_model(other, ours)
    assert judged.failed
    assert "another model" in as_row(judged, ours, workload)["complaint"]


def test_failing_system_reports_its_error(tmp_path, monkeypatch):
    script = tmp_path / "broken.py"
    script.write_text("print('{}')\nraise ValueError('no such thing')\n")
    monkeypatch.setitem(systems.SCRIPTS, "dvaojax", str(script))
    outcome = systems.run("dvaojax", tmp_path / "workload.json")
    assert outcome.failed
    assert outcome.complaint == "failed: ValueError: no such thing"


def test_ceilings_are_plausible(monkeypatch):
    monkeypatch.setitem(ceilings.SIZES, "cpu", (256,))
    monkeypatch.setitem(ceilings.COPY_BYTES, "cpu", 2**22)
    limits = ceilings.measure("float32")
    assert 1e8 < limits.flops_per_second < 1e15
    assert 1e7 < limits.bytes_per_second < 1e14
    assert ceilings.best(Ceilings(1, 4), Ceilings(3, 2)) == (3, 4)


def test_micro_batches_divide_the_prompts_and_fit_the_cache():
    assert automatic_micro_batches(make()) == 1  # 498 tokens
    workload = make()
    cases = ((8, 64, 1, 4), (8, 64, 2, 2), (2, 256, 1, 2), (2, 256, 2, 1), (1, 4000, 1, 1))
    for prompts, completion, devices, expected in cases:
        step = [[1] * 32] * prompts
        shaped = type(workload)(workload.model, [step], [[[completion] * 8] * prompts], completion)
        assert automatic_micro_batches(shaped, devices) == expected


@pytest.mark.parametrize(
    ("prompts", "micro_batches", "expected"), [(6, 1, 3), (8, 2, 4), (6, 6, 1), (5, 1, 1)]
)
def test_cores_share_every_micro_batch_evenly(monkeypatch, prompts, micro_batches, expected):
    monkeypatch.setattr(our_step, "num_cores", lambda: 4)
    assert our_step.cores_for(prompts, micro_batches) == expected
