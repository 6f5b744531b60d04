"""How a run executes programs is set by `rewards.programs` and tried before anything is written."""

from pathlib import Path

import program_run
import pytest
from code_server import CodeServer
from program_attacks import requires_bubblewrap

from dvaojax import cli
from dvaojax.config import overrides
from dvaojax.errors import UserError
from dvaojax.rewards.programs.trials import _probe
from dvaojax.train.scoring import make_scorer
from dvaojax.types import Completion

PROGRAM = "```python\nimport os\ndef f(x): return 2 if {condition} else 0\n```"


@pytest.fixture(autouse=True)
def _fresh_probe():
    _probe.cache_clear()
    yield
    _probe.cache_clear()


def rewards(condition, *settings):
    """The rewards of a program that passes if a condition is true where it runs."""
    config = overrides.apply(program_run.get_config(), settings)
    completion = Completion(PROGRAM.format(condition=condition), (1, 2), True)
    with make_scorer(config) as scorer:
        assert scorer.objectives == ("passed", "test_1")
        return scorer.score([[completion]], config.task.prompts("train")[:1]).rewards.tolist()


@requires_bubblewrap
def test_programs_of_a_run_are_isolated(capfd):
    assert rewards("os.listdir('/') and not os.path.exists('/home')") == [[[1.0, 1.0]]]
    assert capfd.readouterr() == ("", "")


def test_weaker_isolation_is_chosen_explicitly_and_announced(capfd):
    settings = ["rewards.programs.isolation=process", "rewards.programs.parallel=1"]
    assert rewards("os.path.exists('/home')", *settings) == [[[1.0, 1.0]]]
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("dvaojax: rewards.programs.isolation=process: programs run as ordinary")
    assert "they can read and delete files, use the network and signal other processes" in line


def test_programs_of_a_run_are_run_by_a_server(capfd, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with CodeServer() as server:
        setting = f"rewards.programs.server={server.url}"
        assert rewards("True", setting) == [[[1.0, 1.0]]]
        assert len(server.requests) == 2  # with the one that tries the server
    _probe.cache_clear()
    with pytest.raises(UserError, match=r"rewards\.programs\.server=http.*ConnectError"):
        rewards("False", setting, "rewards.programs.step_seconds=5")


def test_a_run_without_the_package_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("PATH", str(tmp_path))
    file = Path(program_run.__file__)
    runs = ["--runs", str(tmp_path / "runs"), "--set", "prompts_per_step=8"]
    runs += ["--set", "warm_start.batch_size=8"]
    assert cli.main(["train", str(file), *runs]) == 2
    error = capsys.readouterr().err
    assert "install the package bubblewrap" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()
