"""Rubric-ARM's alternation: what is served and trained when, stops, failures of servers."""

import contextlib
import itertools
import json
import sys
import urllib.request
from pathlib import Path

import pytest
import rubric_arm
from tiny_preferences import TOPICS, free_port, preferences

from dvaojax import cli
from dvaojax.data import prepared
from dvaojax.rewards.preferences import criteria

SCRIPTED = Path(__file__).parents[1] / "helpers" / "scripted_server.py"
SERVE = f"{sys.executable} {SCRIPTED} {{model}} {{name}} {{port}}"
START = "Qwen/Qwen3-8B"


@pytest.fixture
def port():
    """A free port."""
    return free_port()


class Recorder:
    """Records the trainings of an alternation instead of running them.

    Attributes:
        trained: name, initial weights, directory that is served or None, and start of each run.
        failing: names of the runs that fail.
    """

    def __init__(self, port):
        self.trained, self.failing, self._port = [], set(), port

    def __call__(self, arguments):
        if arguments[0] == "data":
            assert cli.main(list(arguments)) == 0
        if arguments[0] == "export":
            assert Path(arguments[1]).is_dir()
            Path(arguments[2]).mkdir()
        if arguments[0] == "train":
            self._train(list(arguments))

    def _train(self, arguments):
        values = dict(itertools.pairwise(arguments))
        settings = dict(s.split("=", 1) for s in arguments[arguments.index("--set") + 1 :])
        start = "resume" if "--resume" in arguments else "create"
        served = models(self._port)
        if served:
            assert settings["task.judge.url"] == f"http://127.0.0.1:{self._port}/v1"
            assert settings["task.judge.model"] == served["id"]
        run = Path(values["--runs"], values["--name"])
        self.trained.append((run.name, settings["pretrained"], (served or {}).get("root"), start))
        run.mkdir(parents=True, exist_ok=True)
        if run.name in self.failing:
            raise rubric_arm.AlternationError("stopped")


def models(port):
    """The model that is served; None without a server."""
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models") as response,
    ):
        return json.load(response)["data"][0]
    return None


def alternation(directory, port, command, *, serve=SERVE, start_seconds=60.0):
    """Of the two experiment files, on the miniature's preferences."""
    data = preferences(directory)
    writer = [f"task.{name}={data[name]}" for name in ("data_dir", "train")]
    writer += [f"task.test={data['train']}", "task.judge.first_wait_seconds=0.01"]
    here, out = rubric_arm.HERE, directory / "out"
    return rubric_arm.Alternation(
        out=out,
        writer=rubric_arm.Role("writer", here / "rubric_arm_writer.py", writer),
        judge=rubric_arm.Role("judge", here / "rubric_arm_judge.py", []),
        serving=rubric_arm.Serving(serve, port, start_seconds, logs=out / "servers"),
        command=command,
    )


def rubrics(out, number):
    """The rubrics of the preferences on which the judge of a round is trained."""
    records = prepared.read(f"rubrics_{number}", "train", data_dir=str(out / "data"))
    assert len(records) == len(TOPICS) - 1
    return {record.metadata["rubric"] for record in records}


@pytest.mark.slow
def test_each_export_is_served_to_the_training_of_the_other(tmp_path, port, monkeypatch, capsys):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    out, recorder = tmp_path / "out", Recorder(port)
    rounds = alternation(tmp_path, port, recorder)
    recorder.failing = {"writer-1"}
    with pytest.raises(rubric_arm.AlternationError, match="stopped"):
        rounds.run(2)
    assert models(port) is None, "the server is stopped, also after a failure"
    recorder.failing = set()
    rounds.run(2)
    printed = capsys.readouterr().out
    assert printed.count("train: 1 of 10 preferences are left out, for which writer-0") == 1
    assert printed.count("train: 1 of 10 preferences are left out, for which writer-1") == 1
    assert recorder.trained == [
        ("judge-1", START, None, "create"),
        ("writer-1", START, str(out / "judge-1"), "create"),
        ("writer-1", START, str(out / "judge-1"), "resume"),
        ("judge-2", str(out / "judge-1"), None, "create"),
        ("writer-2", str(out / "writer-1"), str(out / "judge-2"), "create"),
    ]
    assert rubrics(out, 1) == {f"1. It thanks.\n2. It is short ({START})."}
    assert rubrics(out, 2) == {f"1. It thanks.\n2. It is short ({out / 'writer-1'})."}
    assert all(len(criteria(rubric)) == 2 for rubric in rubrics(out, 2))
    assert models(port) is None
    calls = len(recorder.trained)
    rounds.run(2)
    assert len(recorder.trained) == calls, "everything is complete"
    rounds.run(3)
    assert [name for name, *_ in recorder.trained[calls:]] == ["judge-3", "writer-3"]


SERVERS = {
    "{model}-missing": "cannot be started",
    f"{sys.executable} -c exit(3)": "ended with code 3; see .*writer-0.log",
    f"{sys.executable} -c 'import time; time.sleep(9)'": "does not list it at .*--start-seconds",
    f"{sys.executable} {SCRIPTED} {{model}} another {{port}}": "does not list it",
}


def test_servers_that_fail_are_named(tmp_path, port):
    for serve, words in SERVERS.items():
        seconds = 1.0 if "list" in words else 60.0
        rounds = alternation(tmp_path, port, Recorder(port), serve=serve, start_seconds=seconds)
        with pytest.raises(rubric_arm.AlternationError, match=words) as error:
            rounds.run(1)
        assert "\n" not in str(error.value)
        assert models(port) is None


def test_a_port_in_use_is_refused(tmp_path, port):
    rounds = alternation(tmp_path, port, Recorder(port))
    with (
        rounds.serving.running("model", "other"),
        pytest.raises(rubric_arm.AlternationError, match=r"answers at .* already: .*--port"),
    ):
        rounds.run(1)


def test_a_writer_without_rubrics_is_refused(tmp_path, port, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    rounds = alternation(tmp_path, port, Recorder(port))
    monkeypatch.setattr(rubric_arm, "read_rubric_text", lambda text: None)
    with pytest.raises(rubric_arm.AlternationError, match="writer-0 wrote no rubric for 10 pref"):
        rounds.run(1)
    assert not (rounds.out / "rubrics-1").exists()
