"""Programs and tests in their sandboxes: values, limits, and what they see."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from program_attacks import requires_bubblewrap

from dvaojax.rewards.programs import Limits, ProgramsConfig, SandboxError, sandbox
from dvaojax.rewards.programs.trials import Trial, Untested, require, run_trials

QUICK = Limits(cpu_seconds=1, wall_seconds=20.0)
PROCESS = ProgramsConfig(isolation="process")
EACH = [
    pytest.param(ProgramsConfig(), marks=requires_bubblewrap, id="bubblewrap"),
    pytest.param(PROCESS, marks=pytest.mark.slow, id="process"),
]
each_isolation = pytest.mark.parametrize("settings", EACH)


def judge(program, *tests, limits=QUICK, settings=PROCESS):
    """The verdicts of a program with a function f."""
    trial = Trial((program,), tests or ("assert f(1) == 2",), (("f", "f"),))
    (outcome,) = run_trials([trial], limits=limits, settings=settings)
    return outcome


def body(statement):
    """A program whose function f executes a statement and returns the right answer."""
    return f"def f(x):\n    {statement}\n    return x + 1"


@each_isolation
def test_right_program_passes_and_wrong_ones_have_a_reason(settings):
    programs = {
        "def f(x): return x + 1": "",
        "def f(x): return x": "AssertionError: ",
        "def f(x): return 1 / 0": "ZeroDivisionError: division by zero",
        "def f(x:": "SyntaxError",
        "def g(x): return 2": "AttributeError",
        "\x00": "SyntaxError",
        "\ud800": "RuntimeError: UnicodeEncodeError",
        "(" * 100_000: "SyntaxError",
        "x" * 100_000: "NameError",
        "[" * 10_000 + "]" * 10_000: "SyntaxError",
        "while True: pass": ("RuntimeError: the program's process died", "took too long"),
        body("import time; time.sleep(100)"): "took too long",
        body("return 'x' * 10**7"): "ValueError: an answer of 10,0",
        body("import os; os._exit(0)"): "RuntimeError: the program's process died",
    }
    trials = [Trial((text,), ("assert f(1) == 2",), (("f", "f"),)) for text in programs]
    limits = Limits(cpu_seconds=1, wall_seconds=3.0)
    outcomes = run_trials(trials, limits=limits, settings=settings)
    for (reason,), expected in zip(outcomes, programs.values(), strict=True):
        assert reason.passed == (expected == "")
        assert reason.reason.startswith(expected)


def test_verdicts_are_the_same_in_an_interpreter_with_packages(monkeypatch):
    """Line coverage is measured here: in a minimal interpreter nothing can measure it."""

    def start(command, files, directory):
        option, program, *arguments = command[command.index("-c") :]
        return subprocess.Popen(
            [sys.executable, option, program.replace("os._exit(0)", ""), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=files,
            cwd=directory,
            start_new_session=True,
        )

    monkeypatch.setattr(sandbox, "_start", start)
    program = """
class Pair:
    def __init__(self, a): self.a = a
def f(x):
    if isinstance(x, Pair): return x.a + 1
    if x == 3: return 1 / 0
    if x == 4: os._exit(0)
    if x == 5: return (i for i in range(x))
    return x + 1
"""
    tests = {
        "assert f(1) == 2 and f(Pair(2)) == 3": "",
        "try: f(3)\nexcept ZeroDivisionError as e: assert str(e) == 'division by zero'": "",
        "assert list(f(5)) == [0, 1, 2, 3, 4]": "",
        "assert f(1) == 3": "AssertionError: ",
        "assert f(3)": "ZeroDivisionError: division by zero",
        "assert f(4)": "NameError: ",
        "assert g(1)": "NameError: ",
    }
    trial = Trial((program,), tuple(tests), (("Pair", "Pair"), ("f", "f")))
    (verdicts,) = run_trials([trial], limits=QUICK, settings=PROCESS)
    reasons = [verdict.reason for verdict in verdicts]
    for reason, expected in zip(reasons, tests.values(), strict=True):
        assert reason.startswith(expected), reasons
        assert bool(reason) == bool(expected), reasons


PASSING = {
    "def f(x): return (i for i in range(x))": "assert list(f(3)) == [0, 1, 2]",
    "def f(x): return map(str, [x])": "assert tuple(f(3)) == ('3',)",
    "def f(x): return {x: 1}.keys()": "assert set(f(3)) == {3}",
    "import collections\ndef f(x): return collections.Counter(x)": "assert f('aa') == {'a': 2}",
    "import fractions\ndef f(x): return fractions.Fraction(1, x)": "assert f(2) == 0.5",
    "import decimal\ndef f(x): return decimal.Decimal(x)": "assert f(2) == 2",
    "import re\ndef f(x): return re.match('a', x)": "assert f('a') and not f('b')",
    "def f(x): raise ValueError(x)": (
        "try: f(1)\nexcept ValueError as e: assert str(e) == '1'\nelse: assert False"
    ),
    "def f(x): return x": """
for v in (None, True, 2, -3.5, 'é\\ud800', b'\\xff', 1j, [1, [2]], (1,), {1, 2}, frozenset({3}),
          {'a': (1, 2), 3: None}, range(3), 10**400, -(2**53), float('inf')):
    assert f(v) == v and type(f(v)) is type(v), v""",
    "import os\ndef f(x): return os.listdir(), os.environ.get('ATTACKED')": (
        "assert f(1) == ([], None)"
    ),
    "import os, random, json, heapq, typing, zoneinfo\ndef f(x): return 2": "assert f(1) == 2",
    "import sys\ndef f(x): return any('packages' in p for p in sys.path)": "assert not f(1)",
    "def f(x): print('x' * 10**6); return 2": "assert f(1) == 2",
    """
import os
def f(x):
    found = []
    for i in range(256):
        try: os.fstat(i)
        except OSError: continue
        found.append(i)
    return found
""": "assert f(1) == [0, 1, 2, 3]",
}


@each_isolation
def test_values_and_surroundings_of_programs(settings, monkeypatch, capfd):
    monkeypatch.setenv("ATTACKED", "secret")
    trials = [Trial((text,), (test,), (("f", "f"),)) for text, test in PASSING.items()]
    assert run_trials(trials, limits=QUICK, settings=settings) == [((True, ""),)] * len(PASSING)
    assert capfd.readouterr() == ("", "")


def test_every_test_has_a_fresh_program():
    program = "calls = []\ndef f(x):\n    calls.append(x)\n    return len(calls)"
    tests = ("assert f(0) == 1", "assert (f(0), f(0)) == (1, 2)", "assert f(0) == 2")
    assert [verdict.passed for verdict in judge(program, *tests)] == [True, True, False]


def test_a_program_that_hangs_in_one_test_may_pass_the_others():
    program = "import time\ndef f(x):\n    if x == 1: time.sleep(100)\n    return x + 1"
    tests = ("assert f(1) == 2", "assert f(2) == 3")
    limits = Limits(wall_seconds=0.5)
    assert judge(program, *tests, limits=limits) == ((False, "took too long"), (True, ""))


def test_objects_of_the_program_can_be_passed_back():
    program = "class Pair:\n  def __init__(s, a): s.a = a\ndef f(p): return p.a"
    tests = ("assert f(Pair(3)) == 3", "assert Pair(3) == Pair(3)")
    trial = Trial((program,), tests, (("Pair", "Pair"), ("f", "f")))
    ((back, equal),) = run_trials([trial], settings=PROCESS)
    assert back.passed
    assert not equal.passed


def test_sleeping_programs_are_limited_as_a_whole_and_tried_in_parallel():
    sleeping = "import time\ndef f(x): time.sleep(100)"
    limits = Limits(wall_seconds=1.0, problem_seconds=1.5)
    trials = [
        Trial((f"{sleeping}  # {number}",), ("assert f(1) == 2",) * 4, (("f", "f"),))
        for number in range(6)
    ]
    start = time.monotonic()
    settings = ProgramsConfig(isolation="process", parallel=6)
    outcomes = run_trials(trials, limits=limits, settings=settings)
    assert time.monotonic() - start < 9.0  # one after the other: 24 s
    late = (False, "no time left for this test")
    assert outcomes == [((False, "took too long"), (False, "took too long"), late, late)] * 6


def test_programs_that_were_not_tried_within_the_step_have_no_result():
    sleeping, right = "import time\ndef f(x): time.sleep(100)", "def f(x): return x + 1"
    trials = [Trial((text,), ("assert f(1) == 2",), (("f", "f"),)) for text in (sleeping, right)]
    settings = ProgramsConfig(isolation="process", parallel=1, step_seconds=1.0)
    outcomes = run_trials(trials, limits=QUICK, settings=settings)
    late = Untested("not tested within rewards.programs.step_seconds=1")
    assert outcomes == [late, late]
    assert run_trials(trials[::-1], limits=QUICK, settings=settings) == [((True, ""),), late]


def test_equal_trials_run_once(monkeypatch):
    require(PROCESS)  # runs a program of its own
    starts = []
    started = sandbox.started

    def counted(side, isolation):
        starts.append(side)
        return started(side, isolation)

    monkeypatch.setattr("dvaojax.rewards.programs.trials.started", counted)
    trial = Trial(("def f(x): return 2",), ("assert f(1) == 2",), (("f", "f"),))
    assert run_trials([trial] * 5, settings=PROCESS) == [((True, ""),)] * 5
    assert starts.count("program_process") == 1


def test_threads_may_run_programs_at_the_same_time():
    passed = []

    def work(number):
        passed.append((number, judge(f"def f(x): return {number}")[0].passed))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(passed) == [(0, False), (1, False), (2, True), (3, False)]


def test_a_process_of_tests_that_dies_is_replaced(monkeypatch):
    judge("def f(x): return 2")  # programs can be run
    started, living = sandbox.started, []

    def recorded(side, isolation):
        manager = started(side, isolation)

        class Recorder:
            def __enter__(self):
                process = manager.__enter__()
                if side == "assertion_process":
                    living.append(process)
                elif len(living) == 1:
                    living[0].kill()
                return process

            def __exit__(self, *exception):
                return manager.__exit__(*exception)

        return Recorder()

    monkeypatch.setattr("dvaojax.rewards.programs.trials.started", recorded)
    trials = [
        Trial((f"def f(x): return 2 # {number}",), ("assert f(1) == 2",), (("f", "f"),))
        for number in range(2)
    ]
    settings = ProgramsConfig(isolation="process", parallel=1)
    outcomes = run_trials(trials, settings=settings)
    assert outcomes == [Untested("the process of the tests has died"), ((True, ""),)]


@pytest.mark.slow
@requires_bubblewrap
def test_processes_end_with_their_caller():
    code = (
        "import os, signal, subprocess, threading, time\n"
        "from dvaojax.rewards.programs import ProgramsConfig\n"
        "from dvaojax.rewards.programs.trials import Trial, run_trials\n"
        "trial = Trial(('import time\\ntime.sleep(60)',), ('assert f(1)',), (('f', 'f'),))\n"
        "def work(isolation): run_trials([trial], settings=ProgramsConfig(isolation=isolation))\n"
        "for isolation in ('bubblewrap', 'process'):\n"
        "    threading.Thread(target=work, args=(isolation,), daemon=True).start()\n"
        "time.sleep(3)\n"
        "children = subprocess.check_output(['ps', '-e', '-o', 'pid=,ppid='], text=True)\n"
        "print(os.getpid(), children, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    caller, *numbers = map(int, done.stdout.split())
    parents = dict(zip(numbers[::2], numbers[1::2], strict=True))
    left = [pid for pid in parents if caller in ancestors(pid, parents)]
    assert len(left) >= 4
    deadline = time.monotonic() + 10.0
    while any(map(is_running, left)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, left))


def ancestors(pid, parents):
    while pid in parents:
        pid = parents[pid]
        yield pid


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_an_interrupt_ends_all_processes():
    trial = Trial(("import time\ntime.sleep(60)",), ("assert f(1)",), (("f", "f"),))
    settings = ProgramsConfig(isolation="process")
    timer = threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    start = time.monotonic()
    # Shells let background processes ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            run_trials([trial], settings=settings)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 10.0


def test_a_python_that_cannot_start_is_named(monkeypatch):
    monkeypatch.setattr(sandbox, "_BOOTSTRAP", "raise SystemExit('no such thing')")
    with (
        pytest.raises(SandboxError, match="no such thing"),
        sandbox.started("program_process", "process"),
    ):
        pass


@pytest.mark.parametrize(
    "name", ["cpu_seconds", "wall_seconds", "memory_bytes", "message_bytes", "problem_seconds"]
)
def test_rejects_limits_that_are_not_positive(name):
    with pytest.raises(ValueError, match=f"{name}=0 must be positive"):
        Limits(**{name: 0})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"isolation": "docker"}, r"rewards\.programs\.isolation='docker' is neither"),
        ({"parallel": -1}, r"rewards\.programs\.parallel=-1 must not be negative"),
        ({"step_seconds": 0.0}, r"rewards\.programs\.step_seconds=0\.0 must be positive"),
        ({"server": "localhost:8080"}, r"rewards\.programs\.server='localhost:8080' is not an"),
        ({"server": "http://[::1"}, r"rewards\.programs\.server=.* is not an address"),
        ({"server": "http://u:secret@host"}, r"rewards\.programs\.server contains '@'"),
        ({"server": "http://host?key=secret"}, r"rewards\.programs\.server contains '@'"),
    ],
)
def test_rejects_settings_out_of_range(setting, message):
    with pytest.raises(ValueError, match=message) as error:
        ProgramsConfig(**setting)
    assert "secret" not in str(error.value)
