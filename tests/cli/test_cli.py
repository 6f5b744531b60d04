"""The subcommands: help texts, results, and one-line error messages."""

import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tiny_run import TINY

from dvaojax import cli, files, train
from dvaojax.config import Config, overrides, validate
from dvaojax.rewards import RewardError

# Keeps the checkpoint of step 0 in addition to the best and the newest.
TRAIN = ["train", "--name", "tiny", "--set", *TINY, "checkpoints.keep_latest=3"]

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


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A directory with a finished tiny run, and with files that are not runs."""
    directory = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        assert cli.main(TRAIN) == 0
    (directory / "notes/mine").mkdir(parents=True)
    (directory / "notes/mine/diary.txt").write_text("not a run")
    (directory / "empty.py").write_text("")
    (directory / "other.py").write_text("def get_config():\n    return {}")
    (directory / "weights.py").write_text(EXPERIMENT.format(weights=MISSPELT))
    return directory


@pytest.fixture
def here(finished, monkeypatch):
    """The directory above, as the working directory."""
    monkeypatch.chdir(finished)
    return finished


def contents(directory):
    """Path -> content of all files below a directory."""
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def error_line(capsys, directory, *arguments):
    """The one-line error message of a command that must not change any file."""
    before = contents(directory)
    capsys.readouterr()
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert contents(directory) == before
    assert printed.out == ""
    assert printed.err.startswith("dvaojax: ")
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("dvaojax: ").strip()


def newest_evaluation(run):
    """Settings and summary of a run's newest evaluation."""
    newest = max((run / "evaluations").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads((newest / name).read_text()) for name in ("settings.json", "summary.json")]


def means(summary):
    """Objective -> mean and interval of an evaluation with one completion per problem."""
    measured = {name: values["avg@1"] for name, values in summary["objectives"].items()}
    return {**measured, "length": summary["length"]}


def test_training_writes_all_files(finished):
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


def test_resuming_a_finished_run_changes_nothing(here, capsys):
    rows = (here / "runs/tiny/metrics.jsonl").read_bytes()
    assert cli.main([*TRAIN, "--resume"]) == 0
    assert (here / "runs/tiny/metrics.jsonl").read_bytes() == rows
    printed = capsys.readouterr().out
    assert printed.rstrip().splitlines()[-1].startswith("  dvaojax evaluate runs/tiny")


def test_evaluation_of_the_last_step_equals_that_of_the_run(here, capsys):
    assert cli.main(["evaluate", "runs/tiny"]) == 0
    printed = capsys.readouterr().out
    summary = json.loads((here / "runs/tiny/summary.json").read_text())
    settings, evaluation = newest_evaluation(here / "runs/tiny")
    assert settings["policy"]["step"] == 2
    assert means(evaluation) == summary["after"]
    interval = summary["after"]["brevity"]
    assert f"{interval['mean']:.3f}" in printed
    assert f"{interval['low']:.3f} to {interval['high']:.3f}" in printed


def test_evaluation_of_step_zero_equals_that_of_the_run(here):
    assert cli.main(["evaluate", "runs/tiny", "--step", "0"]) == 0
    summary = json.loads((here / "runs/tiny/summary.json").read_text())
    settings, evaluation = newest_evaluation(here / "runs/tiny")
    assert settings["policy"]["step"] == 0
    assert means(evaluation) == summary["before"]


def test_evaluation_with_several_samples_of_the_best_checkpoint(here, capsys):
    assert cli.main(["evaluate", "runs/tiny", "--samples", "3", "--best"]) == 0
    assert "avg@3" in capsys.readouterr().out
    assert newest_evaluation(here / "runs/tiny")[1]["samples"] == 3


def test_greedy_samples_of_a_problem_are_equal(here):
    greedy = ["--set", "evaluation.sampling.temperature=0"]
    assert cli.main(["evaluate", "runs/tiny", *greedy]) == 0
    settings, one = newest_evaluation(here / "runs/tiny")
    assert settings["evaluation"]["sampling"]["temperature"] == 0.0
    assert cli.main(["evaluate", "runs/tiny", "--samples", "2", *greedy]) == 0
    _, two = newest_evaluation(here / "runs/tiny")
    for objective, measured in two["objectives"].items():
        assert measured["avg@2"] == one["objectives"][objective]["avg@1"]
    assert two["length"] == one["length"]


@pytest.mark.slow
def test_custom_task_is_evaluated_with_its_experiment(here, capsys):
    (here / "sums.py").write_text(EXPERIMENT.format(weights=EVEN))
    assert cli.main(["train", "sums.py", "--set", *TINY]) == 0
    line = error_line(capsys, here, "evaluate", "runs/sums")
    assert "Sums" in line
    assert "experiment" in line
    assert cli.main(["evaluate", "runs/sums", "--experiment", "sums.py"]) == 0


def test_plot_of_one_and_of_several_runs(here, capsys):
    capsys.readouterr()
    assert cli.main(["plot", "runs/tiny"]) == 0
    drawn = capsys.readouterr().out.split()
    assert "runs/tiny/plots/objectives.png" in drawn
    assert all((here / name).is_file() for name in drawn)
    pair = ["--objectives", "format", "accuracy"]
    assert cli.main(["plot", "runs/tiny", "runs/tiny", "--out", "both", *pair]) == 0
    assert (here / "both/trade_off.png").is_file()


def test_listed_settings_can_be_set(capsys):
    assert cli.main(["train", "--settings", "--set", "seed=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line for line in lines if not line.startswith(" ")]
    assert "seed=3" in listed
    assert overrides.apply(Config(), listed) == overrides.apply(Config(), ["seed=3"])


def test_every_listed_setting_has_its_meaning_default_and_choices(capsys):
    changes = ["optimizer.learning_rate=0.5", "task.digits=4"]
    assert cli.main(["train", "--settings", "--set", *changes]) == 0
    described, key = {}, ""
    for line in capsys.readouterr().out.splitlines():
        if line.startswith(" "):
            described[key] += " " + line.strip()
        else:
            key = line.partition("=")[0]
            described[key] = ""
    assert len(described) > 80
    assert [key for key, text in described.items() if len(text) < 4] == []
    assert described["optimizer.learning_rate"].endswith("Default: 0.001.")
    assert described["task.digits"].endswith("Default: 3.")
    assert "Default:" not in described["task.budget"]
    for key, choices in {
        "aggregator.name": "gdpo, .*FILE.py:FUNCTION",
        "loss.name": "clipped_surrogate, .*gspo",
        "optimizer.schedule": "One of: constant, linear, cosine",
        "rewards.on_error": "One of: raise, mask",
        "model.qk_norm": "One of: true, false",
    }.items():
        assert re.search(choices, described[key]), key


def test_without_a_command_the_help_is_printed(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main([])
    assert exit_info.value.code == 0
    printed = capsys.readouterr()
    assert "Start here:" in printed.out
    assert printed.err == ""


def test_the_shell_completes_commands_and_options(tmp_path):
    command = [sys.executable, "-m", "dvaojax", "--print-completion", "bash"]
    script = tmp_path / "completion.bash"
    script.write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def completed(*words):
        line = f"COMP_WORDS=({' '.join(words)!s}); COMP_CWORD={len(words) - 1}; "
        function = "$(complete -p dvaojax | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
        call = f"source {script}; {line} {function}; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert completed("dvaojax", "ev") == ["evaluate"]
    assert set(completed("dvaojax", "train", "--over")) == {"--overwrite"}
    assert "--out" in completed("dvaojax", "report", "--o")
    assert "--output" not in completed("dvaojax", "report", "--o")


def test_a_file_without_a_miniature_is_made_small(here, monkeypatch):
    """The file's own function is used where it has one."""
    trained = []
    monkeypatch.setattr(train, "train", lambda config, *_, **__: trained.append(config))
    (here / "sums.py").write_text(EXPERIMENT.format(weights=EVEN))
    assert cli.main(["train", "sums.py", "--smoke", "--set", "seed=5"]) == 0
    assert cli.main(["train", "--smoke"]) == 0
    small = "\ndef get_smoke_config():\n    return Config(name='own')\n"
    (here / "own.py").write_text(EXPERIMENT.format(weights=EVEN) + small)
    assert cli.main(["train", "own.py", "--smoke"]) == 0
    sums, built_in, own = trained
    assert (sums.name, sums.seed, sums.num_steps, sums.model.width) == ("sums-smoke", 5, 2, 16)
    assert type(sums.task).__name__ == "Sums"
    assert (built_in.name, own.name) == ("arithmetic-smoke", "own")
    assert built_in.max_new_tokens == Config().max_new_tokens  # the demonstrations must fit
    for config in (sums, built_in):
        validate(config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("trian", "invalid choice: 'trian' (choose from"),
        ("train --sett num_steps=1", "unrecognized arguments: --sett"),
        ("train --resume --overwrite", "not allowed with argument --resume"),
        ("train --set num_step=3", "unknown key 'num_step'; did you mean 'num_steps'?"),
        ("train --set num_steps", "setting 'num_steps' has no value: write key=value"),
        ("train --set num_steps=few", "num_steps=few: 'few' is not an int"),
        ("train --set num_steps=0", "num_steps=0 must be at least 1"),
        ("train --set aggregator=dvoa", "unknown aggregator 'dvoa'; did you mean 'dvao'?"),
        ("train --set aggregator.options=dof=1", "dvao has no knob 'dof'; did you mean 'ddof'?"),
        ("train --set aggregator.options=ddof=x", "aggregator.options: 'ddof=x' is not ddof=<int>"),
        ("train --distributed", "--distributed: "),
        ("train --set mesh.tensor=3", "data=-1 x fsdp=1 x tensor=3 does not fit 8 device(s)"),
        ("train --set prompts_per_step=33", "prompts_per_step=33 does not divide into"),
        ("train --set weights.bravity=1", "did you mean 'weights.brevity'?"),
        ("train --set sampling.top_k=4", "set them under evaluation.sampling"),
        ("train --set sampling.top_p=0.9", "set them under evaluation.sampling"),
        ("train --set sampling.min_p=0.1", "set them under evaluation.sampling"),
        ("train --set sampling.temperature=0", "set them under evaluation.sampling"),
        ("train --set model.vocab_size=9", "model.vocab_size=9 is smaller than the 18 tokens"),
        ("train --set rewards.on_error=wrap", "'wrap' is not one of raise, mask"),
        ("train --set rewards.timeout_seconds=1", "needs rewards.workers"),
        ("train --set name=../x", "name='../x' is not a valid name of a directory"),
        (
            "train --set max_new_tokens=20 learning.micro_batches=1 warm_start.num_steps=1",
            "tokens; max_new_tokens=20 allows 1 to 20",
        ),
        ("train nothing.py", "there is no experiment file nothing.py; did you mean"),
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
def test_invalid_input_gives_one_line_and_writes_nothing(here, capsys, arguments, message):
    assert message in error_line(capsys, here, *arguments.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--name tiny", "runs/tiny exists: --resume continues it, --overwrite deletes it"),
        ("--name tina --resume", "there is no run runs/tina; the nearest is tiny"),
        ("--name tiny --resume --set seed=1", "runs/tiny was started with seed=0, not 1"),
        ("--name mine --overwrite --runs notes", "notes/mine is not a run: it has no config.json"),
    ],
)
def test_runs_are_not_mixed_up(here, capsys, arguments, message):
    assert message in error_line(capsys, here, *TRAIN, *arguments.split())


def test_a_run_without_checkpoints_cannot_be_evaluated(here, capsys):
    bare = here / "runs" / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((here / "runs/tiny/config.json").read_bytes())
    assert "there is no checkpoint in runs/bare/checkpoints" in error_line(
        capsys, here, "evaluate", "runs/bare"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("digits", 3.5), "config.task.digits=3.5 is not int"),
        (("digit", 3), "config.task: unknown key 'digit'; did you mean 'digits'?"),
        (("class", "os:PathLike"), "class 'os:PathLike' is not part of dvaojax"),
        (("class", "dvaojax.tasks.arithmetic:Sum"), "there is no configuration class"),
        (("class", "dvaojax.nowhere:Task"), "there is no configuration class"),
        (("class", "dvaojax.rollout.sampling:Sampling"), "config.task: unknown key 'digits'"),
    ],
)
def test_rejects_modified_configuration_of_a_run(here, capsys, change, message):
    record = json.loads((here / "runs/tiny/config.json").read_text())
    record["config"]["task"] |= dict([change])
    altered = here / "runs" / "altered"
    altered.mkdir(exist_ok=True)
    (altered / "config.json").write_text(json.dumps(record))
    assert message in error_line(capsys, here, "evaluate", "runs/altered")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (train.TrainingError("step 3:\nnot finite"), 1),
        (RewardError("accuracy failed"), 1),
        (train.Interrupted(signal.SIGTERM, "stopped after step 3"), 75),
        (train.Interrupted(signal.SIGINT, "stopped after step 3"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_failed_run_gives_one_line(monkeypatch, capsys, error, code):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(train, "train", fail)
    assert cli.main(["train"]) == code
    printed = capsys.readouterr().err
    assert printed.startswith("dvaojax: ")
    assert printed.count("\n") == 1
    assert " ".join(str(error).split()) in printed


def failing(error):
    """A function that raises this error."""

    def fail(*_, **__):
        raise error

    return fail


def one_line(capsys):
    """The line on standard error; nothing else was printed."""
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("dvaojax: ")
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("dvaojax: ").strip()


def test_traceback_of_an_unexpected_error_is_kept_in_the_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(train, "train", failing(ValueError("a\nbug")))
    for _ in range(2):
        assert cli.main(["train", "--runs", str(tmp_path), "--name", "mine"]) == 1
    line = capsys.readouterr().err.splitlines()[-1].removeprefix("dvaojax: ")
    log = tmp_path / "mine" / "error.log"
    assert line.endswith(f"ValueError: a bug; traceback: {log}")
    assert line.startswith(f"{__file__}:")  # where this test raises it
    assert log.read_text().count("Traceback (most recent call last)") == 2


def test_traceback_that_is_kept_cannot_control_a_terminal(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(train, "train", failing(ValueError("\x1b]0;owned\x07\n\x1b[2J")))
    assert cli.main(["train", "--runs", str(tmp_path), "--name", "mine"]) == 1
    text = (tmp_path / "mine" / "error.log").read_text()
    assert "ValueError: \\x1b]0;owned\\x07\n\\x1b[2J" in text
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize("place", ["absent", "a file", "unwritable"])
def test_traceback_is_kept_in_the_temporary_directory_otherwise(
    tmp_path, monkeypatch, capsys, place
):
    run = tmp_path / "mine"
    if place == "a file":
        run.write_text("")
    if place == "unwritable":
        (run / "error.log").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(train, "train", failing(RuntimeError("a bug")))
    assert cli.main(["train", "--runs", str(tmp_path), "--name", "mine"]) == 1
    path = Path(one_line(capsys).rpartition("traceback: ")[2])
    assert path.parent == tmp_path
    assert "RuntimeError: a bug" in path.read_text()


def test_error_without_any_place_for_its_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    monkeypatch.setattr(train, "train", failing(RuntimeError("a bug")))
    assert cli.main(["train", "--runs", str(tmp_path), "--name", "mine"]) == 1
    assert "could not be written anywhere" in one_line(capsys)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "free space there"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "x/y"), "x/y: Read-only file system"),
        (ValueError("RESOURCE_EXHAUSTED: f: No space left on device [28]"), "free space there"),
        (MemoryError(), "out of memory: raise learning.micro_batches, lower prompts_per_step"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 448491975176 bytes."),
            "out of memory (418 GiB): raise learning.micro_batches, lower prompts_per_step or "
            "max_new_tokens, set model.remat=layer; `dvaojax plan` estimates what fits",
        ),
        (
            RuntimeError("RESOURCE_EXHAUSTED: XLA:TPU compile: Ran out of memory. Used 17.52G of"),
            "out of memory (17.52 G)",
        ),
        (SystemExit(3), "code outside of dvaojax ended the program: exit(3)"),
    ],
)
def test_failures_of_the_machine_need_no_traceback(tmp_path, monkeypatch, capsys, error, words):
    monkeypatch.setattr(train, "train", failing(error))
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # restored afterwards
    run = tmp_path / "mine"
    run.mkdir()
    try:
        assert cli.main(["train", "--runs", str(tmp_path), "--name", "mine"]) == 1
    finally:
        logging.disable(logging.NOTSET)
    assert words in one_line(capsys)
    assert os.listdir(run) == []


def test_full_disk_behind_standard_output():
    if not os.path.exists("/dev/full"):
        pytest.skip("the system has no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dvaojax", "methods"], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1
    assert b"No space left on device" in done.stderr


def test_reader_that_stops_reading_is_no_error():
    command = f"{sys.executable} -m dvaojax methods | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("command", ["", "train ", "evaluate ", "plot "])
def test_help_has_examples_that_can_be_parsed(capsys, command):
    with pytest.raises(SystemExit) as exit_info:
        cli.main([*command.split(), "--help"])
    assert exit_info.value.code == 0
    examples = capsys.readouterr().out.partition("xamples:" if command else "Start here:")[2]
    lines = [line.split("   ")[0].split() for line in examples.strip().splitlines()]
    assert len(lines) >= 3
    for program, *arguments in lines:
        assert program == "dvaojax"
        if "--help" not in arguments:
            assert cli.parse(arguments).command == arguments[0]


def test_program_runs_as_a_module(tmp_path):
    command = [sys.executable, "-m", "dvaojax"]
    done = subprocess.run([*command, "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "dvaojax")
    done = subprocess.run([*command, "plot", "x"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "dvaojax: x is not a run: it has no metrics.jsonl\n"
    assert os.listdir(tmp_path) == []
