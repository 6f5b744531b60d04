"""`dvaojax evaluate` on an untrained run: measures, files, and resuming after a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_run import TINY

from dvaojax import cli
from dvaojax.config import Config, overrides
from dvaojax.evaluation.estimators import majority, pass_at_k
from dvaojax.run import lock
from dvaojax.train import evaluator
from dvaojax.train.allocation_state import initial_data_state
from dvaojax.train.keys import KeyPurpose, run_key
from dvaojax.train.progress import TrainingProgress
from dvaojax.train.session import BEST_METRIC, open_session

HERE = Path(__file__).parents[1] / "helpers"
SAMPLED = ["evaluate", "runs/tiny", "--samples", "3", "--set", "evaluation.prompts_per_batch=8"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A working directory with a tiny run in `runs/tiny`."""
    workspace = tmp_path_factory.mktemp("evaluations")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        make_run(workspace / "runs")
        yield workspace


def make_run(runs):
    """Creates a run `tiny` with a checkpoint before its first step."""
    config = overrides.apply(Config(name="tiny"), TINY)
    with open_session(config, runs, "create") as session:
        program = session.program
        state = program.begin(
            program.init(run_key(config, KeyPurpose.PARAMETERS)), run_key(config, KeyPurpose.STEPS)
        )
        progress = TrainingProgress(
            state, None, initial_data_state(config), (), step=0, before={}, best=None, seconds=0.0
        )
        session.save(progress, {BEST_METRIC: 0.0})


def rows(directory):
    return [json.loads(line) for line in (directory / "completions.jsonl").read_text().splitlines()]


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_summary_follows_from_completions(workspace, capsys):
    assert cli.main([*SAMPLED, "--out", "numbers", "--pass-at", "3", "1", "2"]) == 0
    printed = capsys.readouterr().out
    summary = json.loads((workspace / "numbers/summary.json").read_text())
    problems = [rows(workspace / "numbers")[i : i + 3] for i in range(0, 24, 3)]
    assert {len({row["problem"] for row in problem}) for problem in problems} == {1}
    assert summary["problems"] == 8
    for name, measured in summary["objectives"].items():
        rewards = np.array([[row["rewards"][name] for row in problem] for problem in problems])
        expected = {"avg@3": rewards.mean()}
        for k in (1, 2, 3):
            expected[f"pass@{k}"] = np.mean(
                [pass_at_k(3, int((r == 1).sum()), k=k) for r in rewards]
            )
        votes = [
            majority([row["answer"] for row in problem], list(r == 1))
            for problem, r in zip(problems, rewards, strict=True)
        ]
        if name == "accuracy":
            expected["maj@3"] = np.mean(votes)
        assert {n: i["mean"] for n, i in measured.items()} == pytest.approx(expected)
        assert list(measured) == list(expected)
        interval = measured["avg@3"]
        assert f"{interval['low']:.3f} to {interval['high']:.3f}" in printed
    lengths = [len(row["token_ids"]) for problem in problems for row in problem]
    assert summary["length"]["mean"] == pytest.approx(np.mean(lengths))
    assert all(header in printed for header in ("avg@3", "pass@1", "pass@2", "pass@3", "maj@3"))


@pytest.mark.slow
def test_resumes_after_a_kill_with_the_same_files(workspace, capsys):
    """Twelve problems in batches of eight: kill -9 while the padded second batch is written."""
    twelve = [*SAMPLED, "evaluation.num_prompts=12"]
    assert cli.main([*twelve, "--out", "whole"]) == 0
    child = [sys.executable, HERE / "evaluate_child.py", "1", *twelve[1:], "--out", "killed"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "JAX_NUM_CPU_DEVICES": "8",
    }
    killed = subprocess.run(child, env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 8 * 3 < len((workspace / "killed/completions.jsonl").read_text().split("\n")) <= 12 * 3
    starts = []
    answer_problems = evaluator.answer_problems

    def spy(*arguments, first, **options):
        starts.append(first)
        return answer_problems(*arguments, first=first, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "answer_problems", spy)
        capsys.readouterr()
        assert cli.main([*twelve, "--out", "killed"]) == 0
    assert starts == [8]
    assert "8 of 12 problems were finished before" in capsys.readouterr().out
    assert contents(workspace / "killed") == contents(workspace / "whole")


def test_finished_evaluation_is_not_sampled_again(workspace, monkeypatch, capsys):
    assert cli.main(SAMPLED) == 0
    [directory] = (workspace / "runs/tiny/evaluations").iterdir()
    before, printed = contents(directory), capsys.readouterr().out

    def refuse(*_):
        raise AssertionError("sampled again")

    monkeypatch.setattr(evaluator.hosts, "whole", refuse)
    assert cli.main(SAMPLED) == 0
    assert contents(directory) == before
    assert printed in capsys.readouterr().out.replace("8 of 8 problems were finished before\n", "")


@pytest.mark.slow
def test_other_settings_are_another_evaluation(workspace):
    others = (
        ["--set", "evaluation.sampling.temperature=0.6"],
        # Another task, and completions that may be longer than the 8 tokens of training.
        [
            *("--task", "arithmetic", "--set", "task.digits=2", "task.num_test=8"),
            *("task.num_train=8", "evaluation.max_new_tokens=20"),
        ],
    )
    home = workspace / "runs/tiny/evaluations"
    home.mkdir(exist_ok=True)
    for other in others:
        before = set(home.iterdir())
        assert cli.main(["evaluate", "runs/tiny", *other]) == 0
        [new] = set(home.iterdir()) - before
        assert cli.main([*SAMPLED, "--out", str(new)]) == 2
        assert cli.main(["evaluate", "runs/tiny", *other, "--out", str(new)]) == 0
        longest = max(len(row["token_ids"]) for row in rows(new))
        assert longest > 8 if "evaluation.max_new_tokens=20" in other else longest <= 8


def test_preset(workspace):
    preset = ["--preset", "dvao", "--out", "preset", "--set", "task.num_test=8"]
    assert cli.main(["evaluate", "runs/tiny", *preset]) == 0
    settings = json.loads((workspace / "preset/settings.json").read_text())
    assert settings["evaluation"]["samples"] == 16
    assert settings["evaluation"]["sampling"] == {
        **{"temperature": 0.6, "top_p": 0.95},
        **{"top_k": 0, "min_p": 0.0},
    }
    measured = json.loads((workspace / "preset/summary.json").read_text())["objectives"]["accuracy"]
    assert list(measured) == ["avg@16", "pass@1", "pass@16", "maj@16"]


def test_pass_threshold(workspace):
    assert cli.main([*SAMPLED, "--out", "low", "--pass-threshold", "0"]) == 0
    summary = json.loads((workspace / "low/summary.json").read_text())
    assert summary["pass_threshold"] == 0.0
    assert {m["pass@1"]["mean"] for m in summary["objectives"].values()} == {1.0}
    # The completions do not depend on the threshold: the same ones are judged again.
    completions = (workspace / "low/completions.jsonl").read_bytes()
    assert cli.main([*SAMPLED, "--out", "low", "--pass-threshold", "2"]) == 0
    summary = json.loads((workspace / "low/summary.json").read_text())
    assert {m["pass@1"]["mean"] for m in summary["objectives"].values()} == {0.0}
    assert (workspace / "low/completions.jsonl").read_bytes() == completions


def test_an_evaluation_in_progress_is_not_joined_by_another_one(workspace, capsys):
    with lock.hold(workspace / "taken"):
        assert cli.main([*SAMPLED, "--out", "taken"]) == 2
    assert f"taken is in use by process {os.getpid()} on" in capsys.readouterr().err
    assert not (workspace / "taken").exists()
