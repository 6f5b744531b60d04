"""A command that is restarted blindly, and the cache of compiled programs that makes that quick."""

import dataclasses
import os
import signal
from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from digits_run import digits_config, quick_programs

from dvaojax import cli, files
from dvaojax.errors import UserError
from dvaojax.run import directory as run_directory
from dvaojax.train import Interrupted, loop, train
from dvaojax.train.best import BestEvaluation
from dvaojax.train.compilation_cache import NAME, caching_programs, directory_in_use
from dvaojax.train.step_log import StepLog

QUICK = digits_config(num_steps=2, warm_start={"num_steps": 0}, checkpoints={"every": 1})


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with quick_programs(), mock.patch.object(loop, "plot_run", return_value=[]):
        yield


def contents(runs):
    return {
        path: path.read_bytes()
        for path in runs.rglob("*")
        if path.is_file() and NAME not in str(path)
    }


def steps(runs):
    return [row["step"] for row in files.read_json_lines(runs / "mini" / files.METRICS)]


def interrupted_after_one_step(runs):
    add = StepLog.add

    def add_then_stop(self, step):
        add(self, step)
        os.kill(os.getpid(), signal.SIGTERM)

    with mock.patch.object(StepLog, "add", add_then_stop), pytest.raises(Interrupted):
        train(QUICK, runs, start="auto")


@pytest.mark.slow
def test_one_command_starts_continues_and_finds_nothing_left_to_do(tmp_path, capsys):
    runs = tmp_path / "runs"
    interrupted_after_one_step(runs)
    assert f"{runs / 'mini'} did not exist: the run starts" in capsys.readouterr().out
    assert steps(runs) == [1]

    summary = train(QUICK, runs, start="auto")
    assert f"{runs / 'mini'} exists: the run continues after step 1" in capsys.readouterr().out
    assert steps(runs) == [1, 2]

    before = contents(runs)
    assert train(QUICK, runs, start="auto") == summary
    line = f"{runs / 'mini'} is finished, with 2 steps: nothing was done\n"
    assert capsys.readouterr().out == line
    assert contents(runs) == before

    with pytest.raises(UserError, match="was started with seed=0, not 1"):
        train(dataclasses.replace(QUICK, seed=1), runs, start="auto")
    assert contents(runs) == before

    # A kill before the plots were drawn leaves a summary without the wall time.
    path = runs / "mini" / files.SUMMARY
    files.write_json(path, {k: v for k, v in summary.items() if k != "wall_seconds"})
    again = train(QUICK, runs, start="auto")
    assert "continues after step 2" in capsys.readouterr().out
    assert again["after"] == summary["after"]


@pytest.mark.slow
def test_a_start_that_was_killed_at_once_is_started(tmp_path, capsys):
    """A kill before anything was trained leaves a lock, or a directory without a checkpoint."""
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / ".lock").write_text("")
    with mock.patch.object(loop, "_begin", side_effect=RuntimeError), pytest.raises(RuntimeError):
        train(QUICK, tmp_path, start="auto")
    assert "did not exist: the run starts" in capsys.readouterr().out
    train(QUICK, tmp_path, start="auto")
    assert "exists: the run continues from its start" in capsys.readouterr().out
    assert steps(tmp_path) == [1, 2]


@pytest.mark.nightly
@pytest.mark.slow
def test_a_run_that_ended_early_continues_with_a_larger_limit(tmp_path, capsys):
    """The best evaluation is that of step 0 where all are equal."""
    early = dataclasses.replace(
        QUICK, evaluation=dataclasses.replace(QUICK.evaluation, every=1), early_stop=1
    )
    equal = mock.patch.object(
        BestEvaluation, "followed_by", lambda self, *_: self._replace(waited=self.waited + 1)
    )
    with equal:
        assert train(early, tmp_path, start="auto")["stopped_early"]
        assert train(early, tmp_path, start="auto")["steps"] == 1
        assert capsys.readouterr().out.count("nothing was done") == 1
        summary = train(dataclasses.replace(early, early_stop=0), tmp_path, start="auto")
    assert summary["steps"] == 2
    assert not summary["stopped_early"]


def test_options_of_the_command_line(tmp_path, monkeypatch, capsys):
    starts = []
    monkeypatch.setattr("dvaojax.train.train", lambda *_, start, **__: starts.append(start))
    monkeypatch.chdir(tmp_path)
    for options in (["--resume=auto"], ["--resume"], ["--resume=auto", "--name", "a"]):
        assert cli.main(["train", *options]) == 0
    assert starts == ["auto", "resume", "auto"]
    for options in (["--resume=auto", "--overwrite"], ["--resume=auto", "--from-step", "3"]):
        assert cli.main(["train", *options]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["train", "--resume=never"]) == 2


def compile_something(factor):
    jax.jit(lambda x: factor * jnp.sin(x))(jnp.ones(3)).block_until_ready()


def test_programs_are_kept_where_the_setting_says(tmp_path, monkeypatch):
    before = directory_in_use()
    assert before, "the tests use a cache"
    with caching_programs("", tmp_path):
        assert directory_in_use() == before
    with caching_programs(str(tmp_path / "mine"), tmp_path):
        compile_something(2.5)
    assert len(list((tmp_path / "mine").iterdir())) >= 1
    with caching_programs("none", tmp_path):
        assert directory_in_use() is None
        compile_something(3.5)
        with caching_programs("", tmp_path):
            compile_something(4.5)
        assert len(list((tmp_path / NAME).iterdir())) >= 1
        kept = set((tmp_path / NAME).iterdir())
        compile_something(5.5)
        assert set((tmp_path / NAME).iterdir()) == kept
    assert directory_in_use() == before


@pytest.mark.nightly
def test_a_run_uses_the_cache_and_a_refused_one_leaves_none(tmp_path):
    with caching_programs("none", tmp_path):
        with pytest.raises(UserError, match="there is no run"):
            train(QUICK, tmp_path / "runs", start="resume")
        assert not (tmp_path / "runs").exists()
        train(QUICK, tmp_path / "runs")
        assert list((tmp_path / "runs" / NAME).iterdir())
        assert directory_in_use() is None
    assert run_directory.read_config(tmp_path / "runs/mini")["compilation_cache"] == ""  # default
