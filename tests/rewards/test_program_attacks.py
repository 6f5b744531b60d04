"""Programs that attack their tests, the machine or the run achieve nothing, as any user."""

import json
import os
import subprocess
import sys

import program_attacks
import pytest
from program_attacks import requires_bubblewrap

from dvaojax.rewards.programs import ProgramsConfig
from dvaojax.rewards.programs.trials import run_trials

pytestmark = requires_bubblewrap


def test_attacks_achieve_nothing():
    assert len(program_attacks.CHEATS) >= 40
    assert len(program_attacks.FORBIDDEN) >= 60
    assert program_attacks.failures() == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests already run as an ordinary user")
def test_attacks_achieve_nothing_as_an_ordinary_user():
    command = program_attacks.as_ordinary_user([sys.executable, program_attacks.__file__])
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"user": 65534, "failures": []}


def test_ordinary_processes_do_not_stop_attacks():
    """The attacks can succeed, and the weaker isolation is weaker."""
    harmless = ("reads the user's file", "empties the user's file", "a connection", "groups")
    with program_attacks.Target() as target:
        bodies = [program_attacks.FORBIDDEN[name] for name in harmless]
        program = program_attacks.forbidden(bodies, target.fields)
        tests = [f"assert f({number}) == 'refused'" for number in range(3)]
        (outcome,) = run_trials(
            [program_attacks.trial(program, *tests)],
            limits=program_attacks.LIMITS,
            settings=ProgramsConfig(isolation="process"),
        )
        assert target.damage() == ["the file has changed"]
    assert [verdict.passed for verdict in outcome] == [False] * 3


@pytest.mark.slow
def test_no_process_remains():
    before = processes()
    trial = program_attacks.trial(
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: break\n"
        "import signal\nsignal.pause()",
        "assert f(1) == 1",
    )
    run_trials([trial], limits=program_attacks.LIMITS)
    assert processes() == before


def processes():
    """The command lines of all processes that run programs."""
    lines = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/cmdline", encoding="utf-8", errors="replace") as file:
                lines.append(file.read())
        except OSError:
            continue
    return [line for line in lines if "program_process" in line and str(os.getpid()) in line]
