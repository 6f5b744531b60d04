"""Run directories: created once, resumed on request, deleted only if they are runs."""

import dataclasses
import enum
import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import jax
import pytest
from tiny_run import HELPERS, child_environment

from dvaojax import config, files
from dvaojax.errors import UserError
from dvaojax.run import directory as run_directory
from dvaojax.run import lock
from dvaojax.run.description import config_to_json


class Task(Protocol):
    @property
    def name(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    digits: int = 3
    name: str = "arithmetic"


class Level(enum.Enum):
    LOW = 1


@dataclasses.dataclass(frozen=True)
class Optimizer:
    learning_rate: float = 1e-4
    max_grad_norm: float = math.inf


@dataclasses.dataclass(frozen=True)
class Config:
    name: str = "trial"
    num_steps: int = 6
    task: Task = Arithmetic()
    optimizer: Optimizer = Optimizer()
    weights: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"b": 1.0, "a": 0.5})
    mesh: tuple[int, ...] = (1, 2)
    level: Level = Level.LOW
    data: Path | None = Path("data/x")


def test_config_to_json_keeps_the_order_of_fields():
    expected = {
        "name": "trial",
        "num_steps": 6,
        "task": {"class": f"{__name__}:Arithmetic", "digits": 3, "name": "arithmetic"},
        "optimizer": {"learning_rate": 1e-4, "max_grad_norm": "inf"},
        "weights": {"b": 1.0, "a": 0.5},
        "mesh": [1, 2],
        "level": "LOW",
        "data": "data/x",
    }
    actual = config_to_json(Config())
    assert json.dumps(actual, allow_nan=False) == json.dumps(expected)
    with pytest.raises(UserError, match="a configuration cannot hold"):
        config_to_json(Config(task=object()))  # type: ignore[arg-type]


def test_new_run_records_config_versions_and_devices(tmp_path):
    run = run_directory.create(tmp_path / "runs" / "a", Config())
    recorded = json.loads(run.config.read_text())
    assert recorded["config"] == config_to_json(Config())
    (start,) = recorded["starts"]
    assert start["versions"]["jax"] == jax.__version__
    assert start["versions"].keys() >= {"dvaojax", "python", "flax", "optax", "orbax-checkpoint"}
    assert start["devices"] == {"platform": "cpu", "kind": "cpu", "count": 8, "processes": 1}
    assert start["argv"]
    assert {entry.name for entry in run.path.iterdir()} == {
        "config.json",
        "tensorboard",
        "checkpoints",
        "plots",
    }
    assert (run.metrics.name, run.samples.name) == ("metrics.jsonl", "samples.jsonl")


def test_create_refuses_an_existing_path(tmp_path):
    run = run_directory.create(tmp_path / "a", Config())
    run.metrics.write_text("content")
    with pytest.raises(UserError, match=r"a exists: --resume continues it, --overwrite deletes it"):
        run_directory.create(tmp_path / "a", Config())
    assert run.metrics.read_text() == "content"
    (tmp_path / "empty").mkdir()
    run_directory.create(tmp_path / "empty", Config())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file exists"):
        run_directory.create(tmp_path / "file", Config())


def test_resume_keeps_files_and_records_the_start(tmp_path):
    run = run_directory.create(tmp_path / "a", Config())
    run.metrics.write_text("content")
    run.plots.rmdir()
    assert run_directory.resume(tmp_path / "a", Config()) == run
    assert run.metrics.read_text() == "content"
    assert run.plots.is_dir()
    assert len(json.loads(run.config.read_text())["starts"]) == 2


def test_resume_names_the_first_changed_setting(tmp_path):
    run_directory.create(tmp_path / "a", Config())
    faster = Config(optimizer=Optimizer(learning_rate=0.1), num_steps=9)
    with pytest.raises(UserError, match=r"started with num_steps=6, not 9"):
        run_directory.resume(tmp_path / "a", faster)
    with pytest.raises(UserError, match=r"started with optimizer\.learning_rate=0\.0001, not 0\.1"):
        run_directory.resume(tmp_path / "a", faster, may_differ=["num_steps"])
    run = run_directory.resume(tmp_path / "a", Config(num_steps=9), may_differ=["num_steps"])
    assert json.loads(run.config.read_text())["config"]["num_steps"] == 9


def test_resume_of_an_earlier_version_has_the_defaults_of_fields_that_were_added_later(tmp_path):
    changed = Config(optimizer=Optimizer(learning_rate=0.1), num_steps=9)
    path = run_directory.create(tmp_path / "a", changed).config
    whole = json.loads(path.read_text())
    without = json.loads(path.read_text())
    for name in ("optimizer.max_grad_norm", "task.digits", "weights", "mesh", "level", "data"):
        section, _, key = name.rpartition(".")
        del (without["config"][section] if section else without["config"])[key]
    path.write_text(json.dumps(without))
    run_directory.resume(tmp_path / "a", changed)
    assert json.loads(path.read_text())["config"] == whole["config"]
    del without["config"]["num_steps"]  # 9, which is not its default
    path.write_text(json.dumps(without))
    with pytest.raises(UserError, match=r"started with num_steps=6, not 9"):
        run_directory.resume(tmp_path / "a", changed)


def test_resume_of_a_missing_run_names_the_nearest_one(tmp_path):
    with pytest.raises(UserError, match=r"there is no run .*/none/a$"):
        run_directory.resume(tmp_path / "none" / "a", Config())
    run_directory.create(tmp_path / "arithmetic", Config())
    with pytest.raises(UserError, match=r"arithmetics; the nearest is arithmetic$"):
        run_directory.resume(tmp_path / "arithmetics", Config())
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"other is not a run: it has no config\.json"):
        run_directory.resume(tmp_path / "other", Config())


def test_overwrite_deletes_the_old_run(tmp_path):
    run = run_directory.create(tmp_path / "a", Config())
    run.metrics.write_text("old")
    (run.checkpoints / "3").mkdir()
    (run.path / "wandb").mkdir()
    (run.path / ".summary.json.partial").write_text("{")  # killed while it was written
    again = run_directory.overwrite(tmp_path / "a", Config(num_steps=9))
    assert not again.metrics.exists()
    assert not list(again.checkpoints.iterdir())
    assert json.loads(again.config.read_text())["config"]["num_steps"] == 9
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    run_directory.overwrite(tmp_path / "new", Config())


def test_overwrite_refuses_other_files(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years")
    with pytest.raises(UserError, match="home is not a run"):
        run_directory.overwrite(home, Config())
    (home / "config.json").write_text('{"other": "program"}')
    with pytest.raises(UserError, match=r"config\.json was not written by dvaojax"):
        run_directory.overwrite(home, Config())
    run = run_directory.create(tmp_path / "a", Config())
    (run.path / "notes.md").write_text("thoughts")
    with pytest.raises(UserError, match=r"contains notes\.md, which no run wrote"):
        run_directory.overwrite(run.path, Config())
    link = tmp_path / "link"
    link.symlink_to(run_directory.create(tmp_path / "b", Config()).path)
    with pytest.raises(UserError, match="is a symbolic link"):
        run_directory.overwrite(link, Config())
    assert (home / "thesis.tex").exists()
    assert (run.path / "notes.md").exists()
    assert (tmp_path / "b" / "config.json").exists()


def contents(path):
    """Relative path -> content of every file, None for a directory, without locks."""
    return {
        entry.relative_to(path).as_posix(): entry.read_bytes() if entry.is_file() else None
        for entry in path.rglob("*")
        if entry.name not in lock.FILES
    }


def test_overwrite_killed_at_any_moment_leaves_the_old_run_or_the_new_one(tmp_path):
    run = run_directory.create(tmp_path / "template", config.Config(num_steps=6))
    for number, file in enumerate(
        (run.metrics, run.samples, run.summary, run.path / "report.html")
    ):
        file.write_text(f"old {number}")
    for name in ("checkpoints/3/arrays", "evaluations/digits-step3", "plots", "tensorboard"):
        (run.path / name).mkdir(parents=True, exist_ok=True)
        (run.path / name / "old").write_text("old")
    old = contents(run.path)
    child = subprocess.run(
        [sys.executable, HELPERS / "overwrite_child.py", tmp_path],
        env=child_environment(),
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    *killed, last = [tuple(map(int, line.split())) for line in child.stdout.splitlines()]
    assert last[1] == 0
    outcomes = []
    for number, _ in killed:
        path = tmp_path / str(number) / "a"
        if not is_new(path):
            outcomes.append("old")
            assert old.items() <= contents(path).items()
            continue
        with lock.hold(path):
            again = run_directory.resume(path, config.Config(num_steps=9))
        outcomes.append("new")
        assert contents(path).keys() == {"config.json", "checkpoints", "plots", "tensorboard"}
        assert len(json.loads(again.config.read_text())["starts"]) == 2
    assert len(outcomes) > 20
    assert outcomes == sorted(outcomes, reverse=True)  # the new run replaces the old one once
    assert set(outcomes) == {"old", "new"}


def is_new(path):
    """Whether the run of nine steps can be resumed."""
    with lock.hold(path):
        try:
            run_directory.check_resumable(path, config.Config(num_steps=9))
        except UserError as error:
            return "started with num_steps=6" not in str(error)
    return True


def test_overwrite_removes_what_an_earlier_version_left_of_a_deletion(tmp_path):
    """Killed between renaming and deleting, it stopped every later `--overwrite`."""
    run = run_directory.create(tmp_path / "a", Config())
    left = run_directory.create(tmp_path / ".a.deleted", Config())
    left.metrics.write_text("old")
    run_directory.overwrite(run.path, Config(num_steps=9))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    (tmp_path / ".a.deleted").mkdir()
    (tmp_path / ".a.deleted" / "thesis.tex").write_text("years")
    run_directory.overwrite(run.path, Config(num_steps=9))
    assert (tmp_path / ".a.deleted" / "thesis.tex").exists()


def test_overwrite_waits_for_an_evaluation_of_the_run(tmp_path):
    run = run_directory.create(tmp_path / "a", Config())
    evaluation = run.evaluations / "digits-step3"
    with lock.hold(evaluation):
        (evaluation / "completions.jsonl").touch()
        with pytest.raises(UserError, match=r"evaluations/digits-step3 is in use by process"):
            run_directory.overwrite(run.path, Config())
    run_directory.overwrite(run.path, Config())
    assert not evaluation.exists()


def test_a_run_that_is_being_overwritten_is_not_read(tmp_path):
    run = run_directory.create(tmp_path / "a", Config())
    (run.path / ".new-config.json").write_text("{}")
    with pytest.raises(UserError, match=r"a is being overwritten; .*--resume completes it"):
        run_directory.read_config(run.path)


def test_a_start_that_was_killed_at_once_is_no_run(tmp_path):
    path = tmp_path / "a"
    path.mkdir()
    (path / lock.LOCK).touch()
    (path / ".config.json.partial").write_text("{")
    run_directory.check_start(path, "create")
    run_directory.create(path, Config())
    with pytest.raises(UserError, match="a exists: --resume"):
        run_directory.check_start(path, "create")


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    def fail(path, value):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = run_directory.create(tmp_path / "a", Config())
    before = contents(run.path)
    monkeypatch.setattr(files, "write_json", fail)
    for start in (run_directory.resume, run_directory.overwrite):
        with pytest.raises(UserError, match="a cannot be written: No space left on device"):
            start(run.path, Config())
        assert contents(run.path) == before
    with pytest.raises(UserError, match="b cannot be written: No space left on device"):
        run_directory.create(tmp_path / "b", Config())
    assert contents(tmp_path / "b") == {}
