"""The doors: help that explains, work that is done, and one line for each mistake."""

import json
import os
import signal
import subprocess
import sys

import pytest
from tiny_run import TINY, compiled_once

from dvaojax import cli, files, train
from dvaojax.cli import train as train_door
from dvaojax.config import Config, overrides
from dvaojax.rewards import RewardError

TRAIN = ["train", "--name", "tiny", "--set", *TINY]

EXPERIMENT = """
import dataclasses
from dvaojax.config import Config
from dvaojax.tasks.arithmetic import Arithmetic

@dataclasses.dataclass(frozen=True)
class Sums(Arithmetic):
    pass

def get_config():
    return Config(name="sums", task=Sums(num_train=16, num_test=8), weights={weights})
"""
EVEN = '{"accuracy": 1.0, "brevity": 1.0, "format": 1.0}'
MISSPELT = '{"accuracy": 1.0, "brevity": 1.0, "fromat": 1.0}'


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with compiled_once(tmp_path_factory.getbasetemp() / "compiled"):
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Where a tiny run was made and came to its end, among files that are no runs."""
    place = tmp_path_factory.mktemp("doors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert cli.main(TRAIN) == 0
    (place / "notes/mine").mkdir(parents=True)
    (place / "notes/mine/diary.txt").write_text("not a run")
    (place / "empty.py").write_text("")
    (place / "other.py").write_text("def get_config():\n    return {}")
    (place / "weights.py").write_text(EXPERIMENT.format(weights=MISSPELT))
    return place


@pytest.fixture
def here(finished, monkeypatch):
    """The same place, as the working directory."""
    monkeypatch.chdir(finished)
    return finished


def contents(place):
    """Every file below a directory with what is in it."""
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def refused(capsys, place, *arguments):
    """The one line that answers a mistake, which leaves every file as it was."""
    before = contents(place)
    capsys.readouterr()
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert contents(place) == before
    assert printed.out == ""
    assert printed.err.startswith("dvaojax: ")
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("dvaojax: ").strip()


def evaluated(run):
    """The settings and the numbers of a run's newest evaluation."""
    newest = max((run / "evaluations").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads((newest / name).read_text()) for name in ("settings.json", "summary.json")]


def means(summary):
    """Objective -> mean and interval of an evaluation with one completion a problem."""
    measured = {name: values["avg@1"] for name, values in summary["objectives"].items()}
    return {**measured, "length": summary["length"]}


def test_training_leaves_everything_that_a_run_makes(finished):
    run = finished / "runs" / "tiny"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 2
    assert summary["wall_seconds"] > 0
    assert set(summary["before"]) == {"accuracy", "brevity", "format", "length"}
    assert len(files.read_json_lines(run / "metrics.jsonl")) == 2
    assert {path.name for path in run.iterdir()} == {
        *("config.json", "metrics.jsonl", "samples.jsonl", "summary.json"),
        *("tensorboard", "checkpoints", "plots"),
    }


def test_a_finished_run_is_resumed_to_its_end(here, capsys):
    rows = (here / "runs/tiny/metrics.jsonl").read_bytes()
    assert cli.main([*TRAIN, "--resume"]) == 0
    assert (here / "runs/tiny/metrics.jsonl").read_bytes() == rows
    assert "after" in capsys.readouterr().out


def test_an_evaluation_repeats_the_one_at_the_end_of_the_run(here, capsys):
    assert cli.main(["evaluate", "runs/tiny"]) == 0
    printed = capsys.readouterr().out
    summary = json.loads((here / "runs/tiny/summary.json").read_text())
    settings, found = evaluated(here / "runs/tiny")
    assert settings["policy"]["step"] == 2
    assert means(found) == summary["after"]
    interval = summary["after"]["brevity"]
    assert f"{interval['mean']:.3f}" in printed
    assert f"{interval['low']:.3f} to {interval['high']:.3f}" in printed


def test_an_evaluation_of_the_start_repeats_the_one_before_the_run(here):
    # Two checkpoints are kept besides the best one; make the start one of them.
    assert cli.main([*TRAIN, "--name", "kept", "--set", "checkpoints.keep_latest=3"]) == 0
    assert cli.main(["evaluate", "runs/kept", "--step", "0"]) == 0
    summary = json.loads((here / "runs/kept/summary.json").read_text())
    settings, found = evaluated(here / "runs/kept")
    assert settings["policy"]["step"] == 0
    assert means(found) == summary["before"]


def test_an_evaluation_averages_over_several_samples_of_the_best_checkpoint(here, capsys):
    assert cli.main(["evaluate", "runs/tiny", "--samples", "3", "--best"]) == 0
    assert "avg@3" in capsys.readouterr().out
    assert evaluated(here / "runs/tiny")[1]["samples"] == 3


def test_greedy_samples_of_a_problem_are_all_the_same(here):
    greedy = ["--set", "evaluation.sampling.temperature=0"]
    assert cli.main(["evaluate", "runs/tiny", *greedy]) == 0
    settings, one = evaluated(here / "runs/tiny")
    assert settings["evaluation"]["sampling"]["temperature"] == 0.0
    assert cli.main(["evaluate", "runs/tiny", "--samples", "2", *greedy]) == 0
    _, two = evaluated(here / "runs/tiny")
    for objective, measured in two["objectives"].items():
        assert measured["avg@2"] == one["objectives"][objective]["avg@1"]
    assert two["length"] == one["length"]


def test_a_task_of_its_own_is_evaluated_with_its_experiment(here, capsys):
    (here / "sums.py").write_text(EXPERIMENT.format(weights=EVEN))
    assert cli.main(["train", "sums.py", "--set", *TINY]) == 0
    line = refused(capsys, here, "evaluate", "runs/sums")
    assert "Sums" in line
    assert "experiment" in line
    assert cli.main(["evaluate", "runs/sums", "--experiment", "sums.py"]) == 0


def test_pictures_are_drawn_again_and_laid_over_each_other(here, capsys):
    capsys.readouterr()
    assert cli.main(["plot", "runs/tiny"]) == 0
    drawn = capsys.readouterr().out.split()
    assert "runs/tiny/plots/objectives.png" in drawn
    assert all((here / name).is_file() for name in drawn)
    pair = ["--objectives", "format", "accuracy"]
    assert cli.main(["plot", "runs/tiny", "runs/tiny", "--out", "both", *pair]) == 0
    assert (here / "both/trade_off.png").is_file()


def test_settings_are_listed_as_they_are_taken(capsys):
    assert cli.main(["train", "--settings", "--set", "seed=3"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert "seed=3" in listed
    assert overrides.apply(Config(), listed) == overrides.apply(Config(), ["seed=3"])


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("trian", "invalid choice: 'trian' (choose from"),
        ("train --sett num_steps=1", "unrecognized arguments: --sett"),
        ("train --resume --overwrite", "not allowed with argument --resume"),
        ("train --set num_step=3", "unknown key num_step: the nearest is num_steps"),
        ("train --set num_steps", "setting 'num_steps' has no value: write key=value"),
        ("train --set num_steps=few", "num_steps=few: 'few' is not an int"),
        ("train --set num_steps=0", "num_steps=0 must be at least 1"),
        ("train --set aggregator=dvoa", "unknown aggregator 'dvoa'; did you mean 'dvao'?"),
        ("train --set aggregator_options=dof=1", "dvao has no knob 'dof'; did you mean 'ddof'?"),
        ("train --set aggregator_options=ddof=x", "aggregator_options: 'ddof=x' is not ddof=<int>"),
        ("train --distributed", "--distributed: "),
        ("train --set mesh.tensor=3", "data=-1 x fsdp=1 x tensor=3 does not fit 8 device(s)"),
        ("train --set prompts_per_step=33", "prompts_per_step=33 does not divide into"),
        ("train --set weights.bravity=1", "the nearest is weights.brevity"),
        ("train --set sampling.top_k=4", "set them under evaluation.sampling"),
        ("train --set sampling.top_p=0.9", "set them under evaluation.sampling"),
        ("train --set sampling.min_p=0.1", "set them under evaluation.sampling"),
        ("train --set sampling.temperature=0", "set them under evaluation.sampling"),
        ("train --set model.vocab_size=9", "model.vocab_size=9 is smaller than the 18 tokens"),
        ("train --set rewards.on_error=wrap", "'wrap' is not one of raise, mask"),
        ("train --set rewards.timeout_seconds=1", "needs rewards.workers"),
        ("train --set name=../x", "name='../x' is not the name of a directory"),
        (
            "train --set max_new_tokens=20 learning.micro_batches=1 warm_start.num_steps=1",
            "tokens; max_new_tokens=20 allows 1 to 20",
        ),
        ("train --smoke", "--smoke needs an experiment file"),
        ("train nothing.py", "there is no experiment file nothing.py; the nearest is"),
        ("train empty.py", "it has no function get_config()"),
        ("train other.py", "get_config() returned"),
        ("train weights.py", "unknown objective 'fromat'; did you mean 'format'?"),
        ("evaluate runs/tina", "there is no run runs/tina; the nearest is tiny"),
        ("evaluate notes/mine", "is not a run: it has no config.json"),
        ("evaluate runs/tiny --step 7", "there is no checkpoint of step 7"),
        ("evaluate runs/tiny --step one", "invalid int value: 'one'"),
        ("evaluate runs/tiny --samples 0", "evaluation.samples=0 must be at least 1"),
        ("evaluate runs/tiny --set num_steps=4", "num_steps is a setting of the training"),
        ("evaluate runs/tiny --set mesh.data=3", "does not fit 8 device(s)"),
        ("evaluate runs/tiny --task arithmetics", "unknown task 'arithmetics'; did you mean 'ar"),
        ("evaluate runs/tiny --preset dvoa", "unknown preset 'dvoa'; did you mean 'dvao'?"),
        ("evaluate runs/tiny --pass-at 2", "--pass-at 2: pass@k takes k from 1 to the 1 samples"),
        ("evaluate runs/tiny --pass-at 0", "--pass-at 0: pass@k takes k from 1"),
        ("evaluate runs/tiny --samples 4 --pass-at 4 8", "--pass-at 8: pass@k takes k from 1 to"),
        ("evaluate runs/tiny --set task.digits=1", "task.digits=1 must be at least 2"),
        ("evaluate runs/tiny --set evaluation.max_new_tokens=-1", "must be at least 0"),
        ("evaluate runs/tiny --out notes/mine", "notes/mine exists and is not an evaluation"),
        ("evaluate runs/tiny --experiment nothing.py", "there is no experiment file nothing.py"),
        ("plot notes/mine", "notes/mine is not a run: it has no metrics.jsonl"),
        ("plot runs/tiny --objectives brevity acuracy", "accuracy"),
    ],
)
def test_a_mistake_is_answered_in_one_line_and_nothing_is_written(here, capsys, arguments, answer):
    assert answer in refused(capsys, here, *arguments.split())


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ("--name tiny", "runs/tiny exists: --resume continues it, --overwrite deletes it"),
        ("--name tina --resume", "there is no run runs/tina; the nearest is tiny"),
        ("--name tiny --resume --set seed=1", "runs/tiny was started with seed=0, not 1"),
        ("--name mine --overwrite --runs notes", "notes/mine is not a run: it has no config.json"),
    ],
)
def test_no_run_takes_the_place_of_another(here, capsys, arguments, answer):
    assert answer in refused(capsys, here, *TRAIN, *arguments.split())


def test_a_run_without_its_checkpoints_cannot_be_evaluated(here, capsys):
    bare = here / "runs" / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((here / "runs/tiny/config.json").read_bytes())
    assert "there is no checkpoint in runs/bare/checkpoints" in refused(
        capsys, here, "evaluate", "runs/bare"
    )


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (("digits", 3.5), "config.task.digits=3.5 is not int"),
        (("digit", 3), "unknown key config.task.digit: the nearest is digits"),
        (("class", "os:PathLike"), "class 'os:PathLike' is not part of dvaojax"),
        (("class", "dvaojax.tasks.arithmetic:Sum"), "there is no configuration class"),
        (("class", "dvaojax.nowhere:Task"), "there is no configuration class"),
        (("class", "dvaojax.rollout.sampling:Sampling"), "unknown key config.task.digits"),
    ],
)
def test_a_record_that_was_tampered_with_is_refused(here, capsys, change, answer):
    record = json.loads((here / "runs/tiny/config.json").read_text())
    record["config"]["task"] |= dict([change])
    altered = here / "runs" / "altered"
    altered.mkdir(exist_ok=True)
    (altered / "config.json").write_text(json.dumps(record))
    assert answer in refused(capsys, here, "evaluate", "runs/altered")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (train.TrainingError("step 3:\nnot finite"), 1),
        (RewardError("accuracy failed"), 1),
        (train.Interrupted(signal.SIGTERM, "stopped after step 3"), 143),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_run_that_cannot_go_on_says_why_in_one_line(monkeypatch, capsys, error, code):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(train_door, "train", fail)
    assert cli.main(["train"]) == code
    printed = capsys.readouterr().err
    assert printed.startswith("dvaojax: ")
    assert printed.count("\n") == 1
    assert " ".join(str(error).split()) in printed


def test_a_mistake_of_the_package_keeps_its_traceback(monkeypatch):
    def fail(*_, **__):
        raise ValueError("a bug")

    monkeypatch.setattr(train_door, "train", fail)
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["train"])


@pytest.mark.parametrize("command", ["", "train ", "evaluate ", "plot "])
def test_help_comes_with_examples_that_can_be_parsed(capsys, command):
    with pytest.raises(SystemExit) as leaving:
        cli.main([*command.split(), "--help"])
    assert leaving.value.code == 0
    examples = capsys.readouterr().out.partition("xamples:" if command else "Start here:")[2]
    lines = [line.split("   ")[0].split() for line in examples.strip().splitlines()]
    assert len(lines) >= 3
    for program, *arguments in lines:
        assert program == "dvaojax"
        if "--help" not in arguments:
            assert cli.parse(arguments).door == arguments[0]


def test_the_program_runs_as_a_module_and_says_its_version(tmp_path):
    command = [sys.executable, "-m", "dvaojax"]
    done = subprocess.run([*command, "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "dvaojax")
    done = subprocess.run([*command, "plot", "x"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "dvaojax: x is not a run: it has no metrics.jsonl\n"
    assert os.listdir(tmp_path) == []
