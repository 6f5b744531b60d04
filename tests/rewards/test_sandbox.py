"""Runs programs that cheat, hang, use too much memory or access the system."""

import os
import subprocess
import sys
import threading
import time
import warnings
from unittest import mock

import pytest

from dvaojax.rewards.programs import Limits, SandboxError, sandbox
from dvaojax.rewards.programs.sandbox import has_kernel_filter, run_test

QUICK = Limits(cpu_seconds=1, wall_seconds=20.0)
needs_filter = pytest.mark.skipif(
    not has_kernel_filter(), reason="no seccomp filter on this system"
)


def judge(program, test="assert f(1) == 2", *, limits=QUICK, context=""):
    return run_test([program], test, names={"f": "f"}, context=context, limits=limits)


def body(statement):
    """A program whose function f executes a statement and returns the right answer."""
    return f"def f(x):\n    {statement}\n    return x + 1"


def test_right_program_passes_and_wrong_one_has_a_reason():
    assert judge("def f(x): return x + 1") == (True, "")
    assert judge("def f(x): return x") == (False, "AssertionError: ")
    assert judge("def f(x): return 1 / 0").reason == "ZeroDivisionError: division by zero"
    assert judge("def f(x:").reason.startswith("SyntaxError")
    assert judge("def g(x): return 2").reason.startswith("AttributeError")


@pytest.mark.parametrize(
    "program",
    [
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
        "raise SystemExit(0)",
        "exit(0)",
        "import os\ndef f(x): os._exit(0)",
        "import sys\ndef f(x): sys.exit(0)",
        "print('passed')\nprint({'passed': True})",
        'import os\nos.write(3, b\'passed\')\nos.write(4, b\'{"passed": true, "reason": ""}\')',
        "class Same:\n  __eq__ = lambda s, o: True\n  __hash__ = None\ndef f(x): return Same()",
        "class Same(int):\n  __eq__ = lambda s, o: True\ndef f(x): return Same(5)",
        "class Same(list):\n  __eq__ = lambda s, o: True\ndef f(x): return Same()",
        "class Near(float):\n  __sub__ = __rsub__ = lambda s, o: 0\ndef f(x): return Near(9)",
        "class AssertionError(Exception): pass\ndef f(x): return 0",
        "import builtins\nbuiltins.AssertionError = None\ndef f(x): return 0",
        "import builtins\nbuiltins.abs = builtins.set = lambda *a: 0\ndef f(x): return 0",
        "def f(x): raise StopIteration",
        "def f(x): raise AssertionError",
        "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 0",
        "import sys\nfor f in sys._current_frames().values(): f.f_globals['_run_test'] = 0",
        "import gc\nfor o in gc.get_objects():\n  if isinstance(o, dict): o['passed'] = True",
    ],
)
def test_cheating_programs_fail(program):
    assert not judge(program).passed
    assert not judge(program, "assert all(map(lambda x: f(x) == 2, [1]))").passed
    assert not judge(program, "assert abs(f(1) - 2) < 1e-6").passed


def test_program_memory_contains_nothing_of_the_test():
    program = """
import gc
def f(x):
    return sum("needle" "9731" in o for o in gc.get_objects() if isinstance(o, str)) + sum(
        "needle" "9731" in v for o in gc.get_objects() if isinstance(o, dict)
        for v in list(o.values()) if isinstance(v, str))
"""
    assert judge(program, "'needle9731'\nassert f(1) == 0").passed


@needs_filter
@pytest.mark.parametrize(
    "statement",
    [
        "import os; os.fork()",
        "import threading; threading.Thread(target=print).start()",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.execv('/bin/true', ['true'])",
        "import os; os.kill(os.getppid(), 9)",
        "import os; os.kill(-1, 0)",
        "import os; os.setsid()",
        "import socket; socket.socket()",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')",
        "open('file', 'w')",
        "open('file', 'x')",
        "open('/dev/shm/file', 'ab')",
        "import os; os.mkdir('directory')",
        "import os; os.symlink('a', 'b')",
        "import os; os.remove(os.__file__)",
        "import os; os.rename(os.__file__, 'x')",
        "import os; os.chmod('.', 0)",
        "import shutil; shutil.rmtree('.')",
        "import resource, os; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
        "import os; os.nice(-1) if os.getuid() == 0 else os.fork()",
    ],
)
def test_calls_that_affect_other_processes_or_files_are_refused(statement):
    verdict = judge(body(statement))
    assert not verdict.passed
    assert any(word in verdict.reason for word in ("Permission", "not permitted", "can't start"))


def test_fork_bomb_leaves_no_processes():
    program = "import os\nwhile True:\n    try: os.fork()\n    except OSError: break\n"
    before = processes()
    judge(program + body("pass"))
    assert judge("def f(x): return 2").passed
    assert processes() <= before + 1


@pytest.mark.parametrize(
    "program",
    [
        body("while True: pass"),
        body("import time; time.sleep(1000)"),
        body("[0] * 10**10"),
        body("s = 'x'\n    while True: s += s"),
        "l = []\nwhile True: l.append(bytearray(10**7))",
        body("return 10**(10**9)"),
        body("return 'x' * 10**7"),
        "def f(x): return f(x)",
        "def f(x):\n  l = []\n  for _ in range(10**5): l = [l]\n  return l",
        "def f(x):\n  l = []\n  l.append(l)\n  return l",
    ],
)
def test_time_memory_and_results_are_limited(program):
    start = time.monotonic()
    assert not judge(program, limits=Limits(cpu_seconds=1, wall_seconds=0.7)).passed
    assert time.monotonic() - start < 10.0
    assert judge("def f(x): return 2").passed


def test_output_is_discarded(capfd):
    assert judge(body("print('x' * 10**7); import sys; sys.stderr.write('y' * 10**6)")).passed
    assert capfd.readouterr() == ("", "")


def test_working_directory_is_empty_and_removed():
    program = "import os\ndef f(x): return [os.getcwd(), os.listdir()]"
    test = "where, files = f(1)\nassert files == []\nassert 'dvaojax-program' in where"
    assert judge(program, test).passed
    folder = judge(program, "raise ValueError(f(1)[0])").reason.partition(": ")[2]
    assert "dvaojax-program" in folder
    assert not os.path.exists(folder)


def test_program_has_no_inherited_files():
    program = """
import os
def f(x):
    found = []
    for i in range(256):
        try: os.fstat(i)
        except OSError: continue
        found.append(i)
    return found
"""
    assert judge(program, "assert f(1) == [0, 1, 2, 3]").passed


def test_program_does_not_see_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    program = "import os\ndef f(x): return dict(os.environ)"
    assert judge(program, "assert 'secret' not in str(f(1))").passed


def test_values_are_passed_in_both_directions():
    values = (
        "(None, True, 2, -3.5, 'é\\ud800', b'\\xff', 1j, [1, [2]], (1,), {1, 2}, frozenset({3}), "
        "{'a': (1, 2), 3: None}, range(3), 10**400, -(2**53), float('inf'))"
    )
    test = f"for v in {values}:\n    assert f(v) == v and type(f(v)) is type(v), v"
    assert judge("def f(x): return x", test) == (True, "")


@pytest.mark.parametrize(
    ("program", "test"),
    [
        ("def f(x): return (i for i in range(x))", "assert list(f(3)) == [0, 1, 2]"),
        ("def f(x): return map(str, [x])", "assert tuple(f(3)) == ('3',)"),
        ("def f(x): return {x: 1}.keys()", "assert set(f(3)) == {3}"),
        ("import collections\ndef f(x): return collections.Counter(x)", "assert f('aa')=={'a':2}"),
        ("import fractions\ndef f(x): return fractions.Fraction(1, x)", "assert f(2) == 0.5"),
        ("import decimal\ndef f(x): return decimal.Decimal(x)", "assert f(2) == 2"),
        ("import re\ndef f(x): return re.match('a', x)", "assert f('a') and not f('b')"),
        (
            "def f(x): raise ValueError(x)",
            "try: f(1)\nexcept ValueError as e: assert str(e) == '1'",
        ),
    ],
)
def test_returned_values_and_exceptions(program, test):
    assert judge(program, test) == (True, "")


def test_objects_of_the_program_can_be_passed_back():
    program = "class Pair:\n  def __init__(s, a): s.a = a\ndef f(p): return p.a"
    names = {"Pair": "Pair", "f": "f"}
    assert run_test([program], "assert f(Pair(3)) == 3", names=names).passed
    assert not run_test([program], "assert Pair(3) == Pair(3)", names=names).passed


@pytest.mark.parametrize(
    "program", ["", "\x00", "\ud800", "(" * 100_000, "x" * 100_000, "[" * 10_000 + "]" * 10_000]
)
def test_hostile_programs_fail_quickly(program):
    start = time.monotonic()
    assert not judge(program).passed
    assert time.monotonic() - start < 10.0


def test_threads_run_one_at_a_time():
    verdicts = []
    threads = [
        threading.Thread(target=lambda i=i: verdicts.append((i, judge(f"def f(x): return {i}"))))
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {i for i, verdict in verdicts if verdict.passed} == {2}
    assert len(verdicts) == 6


def test_sandbox_process_is_restarted_after_its_death():
    assert judge("def f(x): return 2").passed
    sandbox._processes[-1]._process.kill()
    sandbox._processes[-1]._process.wait()
    assert judge("def f(x): return 2").passed


def test_error_if_the_sandbox_process_cannot_start():
    broken = sandbox._BOOTSTRAP.replace("serve(0, 1)", "raise SystemExit")
    sandbox.close()
    with (
        mock.patch.object(sandbox, "_BOOTSTRAP", broken),
        pytest.raises(SandboxError, match="died"),
    ):
        judge("def f(x): return 2")
    assert judge("def f(x): return 2").passed


def test_fallback_without_seccomp_filter_warns_and_restricts():
    without = sandbox._BOOTSTRAP.replace(
        "serve(0, 1)",
        "from dvaojax.rewards.programs import program_runner\n"
        "program_runner.make_filter = lambda: None\n"
        "serve(0, 1)",
    )
    sandbox.close()
    try:
        with mock.patch.object(sandbox, "_BOOTSTRAP", without):
            with pytest.warns(RuntimeWarning, match="no seccomp filter"):
                assert judge("def f(x): return 2").passed
            for statement in (
                "import socket",
                "import os; os.fork()",
                "import os; os.system('true') + 1/0",
                "import subprocess; subprocess.run(['true'])",
                "open('file', 'w').write('x' * 100000)",
            ):
                assert not judge(body(statement)).passed, statement
    finally:
        sandbox.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert judge("def f(x): return 2").passed


def test_sandbox_process_ends_with_its_caller():
    code = (
        "import os, signal\n"
        "from dvaojax.rewards.programs import sandbox\n"
        "sandbox.has_kernel_filter()\n"
        "print(sandbox._processes[-1]._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pid, deadline = int(done.stdout), time.monotonic() + 10.0
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("name", ["cpu_seconds", "wall_seconds", "memory_bytes", "message_bytes"])
def test_rejects_limits_that_are_not_positive(name):
    with pytest.raises(ValueError, match=f"{name}=0 must be positive"):
        Limits(**{name: 0})


def processes():
    return sum(name.isdigit() for name in os.listdir("/proc")) if os.path.exists("/proc") else 0
