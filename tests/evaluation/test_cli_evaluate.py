"""`dvaojax evaluate` on an untrained run: its numbers, its files, its going on after a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_run import TINY, compiled_once

from dvaojax import cli
from dvaojax.config import Config, overrides
from dvaojax.evaluation.estimators import majority, pass_at_k
from dvaojax.train import evaluator
from dvaojax.train.allocation_state import Reading, nothing_known
from dvaojax.train.session import BEST_METRIC, Progress, open_session

HERE = Path(__file__).parents[1] / "helpers"
SAMPLED = ["evaluate", "runs/tiny", "--samples", "3", "--set", "evaluation.prompts_per_batch=8"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where a tiny run stands; it is the working directory, and compiled programs are kept."""
    place = tmp_path_factory.mktemp("evaluations")
    compiled = tmp_path_factory.getbasetemp() / "compiled"
    with pytest.MonkeyPatch.context() as patch, compiled_once(compiled):
        patch.chdir(place)
        patch.setenv("COMPILED", str(compiled))
        make_run(place / "runs")
        yield place


def make_run(runs):
    """A run `tiny` before its first step: what it recorded, and a checkpoint."""
    config = overrides.apply(Config(name="tiny"), TINY)
    with open_session(config, runs, "create") as session:
        program = session.program
        state = program.begin(program.init(session.key(0)), session.key(1))
        progress = Progress(
            state, None, Reading(0, nothing_known(config)), (), step=0, before={}, seconds=0.0
        )
        session.save(progress, {BEST_METRIC: 0.0})


def rows(directory):
    return [json.loads(line) for line in (directory / "completions.jsonl").read_text().splitlines()]


def files_of(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_numbers_are_those_of_the_completions_on_disk(place, capsys):
    assert cli.main([*SAMPLED, "--out", "numbers", "--pass-at", "3", "1", "2"]) == 0
    printed = capsys.readouterr().out
    found = json.loads((place / "numbers/summary.json").read_text())
    problems = [rows(place / "numbers")[i : i + 3] for i in range(0, 24, 3)]
    assert {len({row["problem"] for row in problem}) for problem in problems} == {1}
    assert found["problems"] == 8
    for name, measured in found["objectives"].items():
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
    assert found["length"]["mean"] == pytest.approx(np.mean(lengths))
    assert all(header in printed for header in ("avg@3", "pass@1", "pass@2", "pass@3", "maj@3"))


def test_killed_at_any_batch_it_goes_on_to_the_same_files(place, capsys):
    """Twelve problems in batches of eight: the second batch is filled up, and torn by a kill -9."""
    twelve = [*SAMPLED, "evaluation.num_prompts=12"]
    assert cli.main([*twelve, "--out", "whole"]) == 0
    child = [sys.executable, HERE / "evaluate_child.py", "1", *twelve[1:], "--out", "torn"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "JAX_NUM_CPU_DEVICES": "8",
    }
    killed = subprocess.run(child, env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 8 * 3 < len((place / "torn/completions.jsonl").read_text().split("\n")) <= 12 * 3
    asked = []
    sample = evaluator.answer

    def counted(*arguments, first, **options):
        asked.append(first)
        return sample(*arguments, first=first, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "answer", counted)
        capsys.readouterr()
        assert cli.main([*twelve, "--out", "torn"]) == 0
    assert asked == [8]
    assert "8 of 12 problems were finished before" in capsys.readouterr().out
    assert files_of(place / "torn") == files_of(place / "whole")


def test_a_finished_evaluation_is_shown_again_without_sampling(place, monkeypatch, capsys):
    assert cli.main(SAMPLED) == 0
    [directory] = (place / "runs/tiny/evaluations").iterdir()
    before, shown = files_of(directory), capsys.readouterr().out

    def never(*_):
        raise AssertionError("sampled again")

    monkeypatch.setattr(evaluator.hosts, "whole", never)
    assert cli.main(SAMPLED) == 0
    assert files_of(directory) == before
    assert shown in capsys.readouterr().out.replace("8 of 8 problems were finished before\n", "")


def test_what_differs_is_another_evaluation(place):
    others = (
        ["--set", "evaluation.sampling.temperature=0.6"],
        ["--task", "arithmetic", "--set", "task.digits=2", "task.num_test=8", "task.num_train=8"],
    )
    home = place / "runs/tiny/evaluations"
    for other in others:
        before = set(home.iterdir())
        assert cli.main(["evaluate", "runs/tiny", *other]) == 0
        [new] = set(home.iterdir()) - before
        assert cli.main([*SAMPLED, "--out", str(new)]) == 2
        assert cli.main(["evaluate", "runs/tiny", *other, "--out", str(new)]) == 0


def test_a_preset_is_the_papers_setting(place):
    preset = ["--preset", "dvao", "--out", "preset", "--set", "task.num_test=8"]
    assert cli.main(["evaluate", "runs/tiny", *preset]) == 0
    settings = json.loads((place / "preset/settings.json").read_text())
    assert settings["evaluation"]["samples"] == 16
    assert settings["evaluation"]["sampling"] == {
        **{"temperature": 0.6, "top_p": 0.95},
        **{"top_k": 0, "min_p": 0.0},
    }
    measured = json.loads((place / "preset/summary.json").read_text())["objectives"]["accuracy"]
    assert list(measured) == ["avg@16", "pass@1", "pass@16", "maj@16"]


def test_a_pass_is_a_reward_of_the_threshold_at_least(place):
    assert cli.main([*SAMPLED, "--out", "low", "--pass-threshold", "0"]) == 0
    found = json.loads((place / "low/summary.json").read_text())
    assert found["pass_threshold"] == 0.0
    assert {m["pass@1"]["mean"] for m in found["objectives"].values()} == {1.0}
    # The threshold is no setting of the completions: the same ones are judged anew.
    completions = (place / "low/completions.jsonl").read_bytes()
    assert cli.main([*SAMPLED, "--out", "low", "--pass-threshold", "2"]) == 0
    found = json.loads((place / "low/summary.json").read_text())
    assert {m["pass@1"]["mean"] for m in found["objectives"].values()} == {0.0}
    assert (place / "low/completions.jsonl").read_bytes() == completions


def test_longer_completions_may_be_asked_for_than_in_training(place):
    longer = ["--set", "evaluation.max_new_tokens=20", "evaluation.num_prompts=8"]
    assert cli.main(["evaluate", "runs/tiny", *longer, "--out", "longer"]) == 0
    assert max(len(row["token_ids"]) for row in rows(place / "longer")) > 8
