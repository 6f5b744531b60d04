"""Programs that attack their tests, the machine or the run, and what may come of each.

As a program it runs all of them as the user who starts it, and writes the failures:

    python tests/helpers/program_attacks.py
"""

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from dvaojax.rewards.programs import Limits, ProgramsConfig
from dvaojax.rewards.programs.trials import Trial, Untested, run_trials

LIMITS = Limits(cpu_seconds=1, wall_seconds=3.0)
SECRET = 918_273_645
"""The expected value; no program contains it or can compute it."""

requires_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="the package bubblewrap is not installed"
)

# Programs that claim success: none may pass `assert f(1) == SECRET`.
CHEATS = {
    "equal to everything": """
        class Same:
            __eq__ = lambda s, o: True
            __hash__ = None
        def f(x): return Same()""",
    "an integer equal to everything": """
        class Same(int):
            __eq__ = lambda s, o: True
        def f(x): return Same(5)""",
    "a list equal to everything": """
        class Same(list):
            __eq__ = lambda s, o: True
        def f(x): return Same()""",
    "reflected comparison": """
        class Same(str):
            __eq__ = __req__ = lambda s, o: True
            __ne__ = lambda s, o: False
        def f(x): return Same()""",
    "a number whose differences are 0": """
        class Near(float):
            __sub__ = __rsub__ = lambda s, o: 0
            __abs__ = lambda s: 0
        def f(x): return Near(9)""",
    "a class that claims to be int": """
        class Claim:
            __class__ = int
            __index__ = lambda s: 1
        def f(x): return Claim()""",
    "sys.exit(0)": "import sys\nsys.exit(0)",
    "os._exit(0)": "import os\nos._exit(0)",
    "raise SystemExit": "raise SystemExit(0)",
    "quit": "import builtins\ngetattr(builtins, 'exit', None)\nraise SystemExit",
    "exit in a call": "import sys\ndef f(x): sys.exit(0)",
    "_exit in a call": "import os\ndef f(x): os._exit(0)",
    "exit at the end of the process": "import atexit, os\natexit.register(os._exit, 0)\n",
    "KeyboardInterrupt": "def f(x): raise KeyboardInterrupt",
    "GeneratorExit": "def f(x): raise GeneratorExit",
    "StopIteration": "def f(x): raise StopIteration",
    "AssertionError": "def f(x): raise AssertionError",
    "abort": "import os\ndef f(x): os.abort()",
    "a signal to itself": "import os\ndef f(x): os.kill(os.getpid(), 9)",
    "invalid memory access": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "prints a verdict": "print('passed')\nprint({'passed': True, 'reason': ''})",
    "writes a verdict to every file": """
        import json, os
        verdict = json.dumps({"passed": True, "reason": ""}).encode()
        framed = len(verdict).to_bytes(8, "big") + verdict
        for file in range(256):
            try: os.write(file, framed + verdict)
            except OSError: pass
        os._exit(0)""",
    "frames of its own": """
        import json, os
        for content in ({"value": None}, {"value": {"passed": True}}, {"raised": []}, {}, [], 3):
            text = json.dumps(content).encode()
            os.write(3, len(text).to_bytes(8, "big") + text)
        def f(x): return 0""",
    "a frame that never ends": """
        import os
        os.write(3, (10).to_bytes(8, "big") + b"[")
        os._exit(0)""",
    "a frame of 8 EiB": "import os\nos.write(3, b'\\x7f' + b'\\xff' * 7)\ndef f(x): return 0",
    "a pickle": """
        import os, pickle
        class Harm:
            def __reduce__(self): return (os._exit, (0,))
        os.write(3, len(pickle.dumps(Harm())).to_bytes(8, "big") + pickle.dumps(Harm()))
        def f(x): return Harm()""",
    "open files to the test's process": """
        import array, os, socket
        channel = socket.socket(fileno=os.dup(3))
        channel.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [3]))])
        def f(x): return 0""",
    "replaces AssertionError": """
        import builtins
        builtins.AssertionError = None
        class AssertionError(Exception): pass
        def f(x): return 0""",
    "replaces built-in functions": """
        import builtins
        builtins.abs = builtins.set = builtins.sorted = builtins.isinstance = lambda *a: 0
        def f(x): return 0""",
    "replaces the serialisation": """
        import sys
        module = sys.modules["dvaojax.rewards.programs.serialisation"]
        module.decode = module.encode = lambda *a: 0
        def f(x): return 0""",
    "replaces json": "import json\njson.loads = json.dumps = lambda *a, **k: '0'\n"
    "def f(x): return 0",
    "changes all frames": """
        import sys
        for frame in sys._current_frames().values():
            while frame:
                frame.f_globals.update(_run_test=0, passed=True)
                frame = frame.f_back
        def f(x): return 0""",
    "changes all dictionaries": """
        import gc
        for o in gc.get_objects():
            if isinstance(o, dict) and "passed" in o: o["passed"] = True
        def f(x): return 0""",
    "hash collisions": """
        def f(x): return {i * (2**61 - 1) for i in range(20_000)}""",
    "deep nesting": """
        def f(x):
            value = []
            for _ in range(100_000): value = [value]
            return value""",
    "a list in itself": "def f(x):\n    value = []\n    value.append(value)\n    return value",
    "a large value": "def f(x): return 'x' * 10**7",
    "an endless iterator": "import itertools\ndef f(x): return itertools.count()",
    "recursion": "def f(x): return f(x)",
    "a memory bomb": "pieces = []\nwhile True: pieces.append(bytearray(10**7))",
    "a memory bomb in a call": "def f(x): return [0] * 10**10",
    "ignores the signal of its limit": """
        import signal
        for number in range(1, 64):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True: pass""",
    "sleeps": "import time\ndef f(x): time.sleep(1000)",
    "an output bomb": "import sys\nwhile True: sys.stdout.write('x' * 10**6)",
    "reads the memory of its relatives": """
        import os, re
        def f(x):
            for pid in [p for p in os.listdir("/proc") if p.isdigit()]:
                try:
                    with open(f"/proc/{pid}/maps") as maps, \\
                            open(f"/proc/{pid}/mem", "rb", 0) as memory:
                        for line in maps:
                            low, high = (int(end, 16) for end in line.split()[0].split("-"))
                            try:
                                memory.seek(low)
                                match = re.search(rb"f\\(1\\) == (\\d{9})", memory.read(high - low))
                            except (OSError, ValueError, OverflowError):
                                continue
                            if match: return int(match[1])
                except OSError:
                    continue
            return 0""",
    "reads its own memory": """
        import gc, re
        def f(x):
            for o in gc.get_objects():
                match = re.search(r"f\\(1\\) == (\\d{9})", repr(o)[:10**4])
                if match: return int(match[1])
            return 0""",
}

# Bodies of a function that must raise in a sandbox. Fields are those of `Target`.
FORBIDDEN = {
    "fork": "import os; return os.fork()",
    "forkpty": "import os; return os.forkpty()",
    "posix_spawn": "import os; return os.posix_spawn('/bin/true', ['true'], {{}})",
    "a thread": "import threading; threading.Thread(target=print).start()",
    "a process pool": "import multiprocessing; multiprocessing.Process(target=print).start()",
    "system": "import os; assert os.system('true') == 0",
    "subprocess": "import subprocess; subprocess.run(['true'])",
    "clone by number": """
        import ctypes, os
        pid = ctypes.CDLL(None).syscall({clone}, 17, 0, 0, 0, 0)
        if pid == 0: os._exit(0)
        assert pid > 0""",
    "a namespace": "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "a mount namespace": "import ctypes; assert ctypes.CDLL(None).unshare(0x20000) == 0",
    "mounts": "import ctypes; assert ctypes.CDLL(None).mount(b't', b'/tmp', b'tmpfs', 0, 0) == 0",
    "remounts": "import ctypes; assert ctypes.CDLL(None).mount(b'', b'/', b'', 0x20, 0) == 0",
    "unmounts": "import ctypes; assert ctypes.CDLL(None).umount2(b'/proc', 2) == 0",
    "chroot": "import os; os.chroot('/tmp')",
    "reads the user's file": "return open({readable!r}).read()",
    "empties the user's file": "open({writable!r}, 'w')",
    "truncates the user's file": "import os; os.truncate({writable!r}, 0)",
    "removes the user's file": "import os; os.remove({writable!r})",
    "writes to a directory of the user": "open({directory!r} + '/new', 'w')",
    "reaches a file through a link": """
        import os
        os.symlink({writable!r}, '/tmp/link')
        open('/tmp/link', 'w')""",
    "reaches a file through /proc": "return open('/proc/1/root' + {readable!r}).read()",
    "writes to /tmp": "open('/tmp/file', 'w')",
    "a directory in /tmp": "import os; os.mkdir('/tmp/new')",
    "writes to shared memory": "open('/dev/shm/file', 'w')",
    "writes to the library": "import os; open(os.__file__, 'r+')",
    "changes the library's mode": "import os; os.chmod(os.__file__, os.stat(os.__file__).st_mode)",
    "changes the interpreter's mode": "import os, sys; os.chmod(sys.executable, 0o755)",
    "a device": "import os; os.mknod('/tmp/device', 0o60600, os.makedev(8, 0))",
    "a terminal": "import os; os.openpty()",
    "memory as a file": """
        import os
        file = os.memfd_create("x")
        for _ in range(10**4): os.write(file, b"x" * 10**6)""",
    "writes a setting of the kernel": "open('/proc/sys/vm/drop_caches', 'w').write('1')",
    "writes a core pattern": """
        path = "/proc/sys/kernel/core_pattern"
        content = open(path).read()
        open(path, "w").write(content)""",
    "a request to the kernel": "open('/proc/sysrq-trigger', 'w').write('h')",
    "its score for the memory killer": "open('/proc/self/oom_score_adj', 'w').write('-1000')",
    "passwords": "return open('/etc/passwd').read() + open('/etc/shadow').read()",
    "the environment": """
        import os
        text = repr(dict(os.environ))
        for pid in os.listdir('/proc'):
            try: text += open(f'/proc/{{pid}}/environ').read()
            except OSError: pass
        assert {secret!r} in text
        return text""",
    "command lines": """
        import os
        text = ''
        for pid in os.listdir('/proc'):
            try: text += open(f'/proc/{{pid}}/cmdline').read()
            except OSError: pass
        assert {command!r} in text""",
    "other processes": """
        import os
        assert len([p for p in os.listdir('/proc') if p.isdigit()]) > 2""",
    "a signal to a process": "import os; os.kill({pid}, 9)",
    "a signal to everybody": """
        import os
        os.kill(-1, 0)
        assert False""",
    "a signal to its parent": """
        import os
        for _ in range(3): os.kill(os.getppid(), 9)
        assert os.getppid() == 0""",
    "a signal by fcntl": """
        import fcntl, os
        fcntl.fcntl(3, fcntl.F_SETOWN, {pid})
        fcntl.fcntl(3, 10, 9)
        fcntl.fcntl(3, fcntl.F_SETFL, fcntl.fcntl(3, fcntl.F_GETFL) | 0o20000)""",
    "a signal by ioctl": """
        import fcntl, struct
        fcntl.ioctl(3, 0x8901, struct.pack("i", {pid}))""",
    "an open file of a process": """
        import ctypes
        pidfd = ctypes.CDLL(None).syscall(434, {pid}, 0)
        assert pidfd >= 0""",
    "traces a process": "import ctypes; assert ctypes.CDLL(None).ptrace(16, {pid}, 0, 0) == 0",
    "traces its parent": """
        import ctypes, os
        assert ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0""",
    "the parent's memory": "import os; return open(f'/proc/{{os.getppid()}}/mem', 'rb').read(1)",
    "the parent's files": """
        import ctypes, os
        pidfd = ctypes.CDLL(None).syscall(434, os.getppid(), 0)
        assert pidfd >= 0
        assert ctypes.CDLL(None).syscall(438, pidfd, 3, 0) >= 0""",
    "process_vm_readv": """
        import ctypes, os, struct
        buffer = ctypes.create_string_buffer(8)
        vector = struct.pack("PL", ctypes.addressof(buffer), 8)
        libc = ctypes.CDLL(None)
        assert libc.process_vm_readv(os.getppid(), vector, 1, vector, 1, 0) >= 0""",
    "a limit of a process": """
        import resource
        resource.prlimit({pid}, resource.RLIMIT_CPU, (1, 1))""",
    "its own limits": """
        import resource
        resource.setrlimit(resource.RLIMIT_NPROC, (100, 100))""",
    "a priority": "import os; os.setpriority(os.PRIO_PROCESS, 0, -5)",
    "open_by_handle_at": """
        import ctypes
        handle = ctypes.create_string_buffer(bytes([8, 0, 0, 0, 1, 0, 0, 0]) + bytes(128))
        assert ctypes.CDLL(None).open_by_handle_at(3, handle, 0) >= 0""",
    "a connection": """
        import socket
        socket.create_connection(("127.0.0.1", {port}), 1)""",
    "a web page": """
        import urllib.request
        urllib.request.urlopen("http://127.0.0.1:{port}/attack", timeout=1)""",
    "a packet": """
        import socket
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 9))""",
    "a name": "import socket; socket.getaddrinfo('example.org', 80)",
    "a raw socket": "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "an abstract socket": """
        import socket
        socket.socket(socket.AF_UNIX).connect("\\0" + {abstract!r})""",
    "a socket file": """
        import socket
        socket.socket(socket.AF_UNIX).connect({directory!r} + "/socket")""",
    "shared memory of System V": "import ctypes; assert ctypes.CDLL(None).shmget(0, 9, 950) >= 0",
    "semaphores of System V": "import ctypes; assert ctypes.CDLL(None).semget(0, 9, 950) >= 0",
    "messages of System V": "import ctypes; assert ctypes.CDLL(None).msgget(0, 950) >= 0",
    "a key": """
        import ctypes
        assert ctypes.CDLL(None).syscall({add_key}, b"user", b"a", b"b", 1, -3) > 0""",
    "a ring of system calls": "import ctypes; assert ctypes.CDLL(None).syscall(425, 8, None) >= 0",
    "the user": "import os; os.setuid(0)",
    "groups": "import os; os.setgroups([0])",
    "a debugging file of the kernel": "import os; os.listdir('/sys/kernel/debug')",
    "installed packages": """
        import glob, os, sys
        library = os.path.dirname(os.__file__)
        assert glob.glob(library + '/site-packages/*') or glob.glob('/usr/lib/python3/*/*')""",
    "the tests of this package": "open({tests!r})",
}


class Target:
    """Files, processes and sockets of a user, to attack; a context manager.

    Attributes:
        fields: the values of the fields in `FORBIDDEN`.
    """

    def __enter__(self) -> "Target":
        self._directory = Path(tempfile.mkdtemp(prefix="dvaojax-attacked-"))
        self._file = self._directory / "file"
        self._file.write_text("content")
        self._file.chmod(0o666)
        self._directory.chmod(0o777)
        self._process = subprocess.Popen(["sleep", "617.25"])
        self._requests: list[str] = []
        handler = type("Handler", (_Handler,), {"requests": self._requests})
        self._server = http.server.HTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self._sockets = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        abstract = f"dvaojax-{os.getpid()}"
        for listening, name in zip(
            self._sockets, (f"\0{abstract}", f"{self._directory}/socket"), strict=True
        ):
            listening.bind(name)
            listening.listen()
        os.environ["ATTACKED_API_KEY"] = "key-of-the-user"
        arm = os.uname().machine == "aarch64"
        self.fields = {
            "readable": str(self._file),
            "writable": str(self._file),
            "directory": str(self._directory),
            "pid": os.getpid(),
            "port": self._server.server_address[1],
            "abstract": abstract,
            "secret": "key-of-the-user",
            "command": "617.25",  # of the process that sleeps
            "tests": __file__,
            "clone": 220 if arm else 56,
            "add_key": 217 if arm else 248,
        }
        return self

    def __exit__(self, *exception: object) -> None:
        del os.environ["ATTACKED_API_KEY"]
        self._server.shutdown()
        self._server.server_close()
        for listening in self._sockets:
            listening.close()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._directory)

    def damage(self) -> list[str]:
        """One line for everything that has changed."""
        lines = []
        if self._file.read_text() != "content":
            lines.append("the file has changed")
        if {path.name for path in self._directory.iterdir()} != {"file", "socket"}:
            lines.append("the directory has changed")
        if self._process.poll() is not None:
            lines.append("the process has ended")
        if self._requests:
            lines.append("the server was reached")
        return lines


class _Handler(http.server.BaseHTTPRequestHandler):
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def forbidden(bodies: Sequence[str], fields: dict) -> str:
    """A program whose function runs one of the bodies and returns whether it raised."""
    functions = [
        f"def attempt_{number}():\n"
        + textwrap.indent(textwrap.dedent(body.format(**fields)).strip("\n"), "    ")
        for number, body in enumerate(bodies)
    ]
    return "\n".join(functions) + textwrap.dedent("""
        def f(number):
            try: globals()[f"attempt_{number}"]()
            except BaseException as error: return "refused"
            return "succeeded"
        """)


def trial(program: str, *tests: str) -> Trial:
    """A trial of a program with a function f."""
    return Trial((textwrap.dedent(program),), tests, (("f", "f"),))


def failures() -> list[str]:
    """Runs all attacks; one line for each that achieved something."""
    names = list(FORBIDDEN)
    parts = [names[start::4] for start in range(4)]
    with Target() as target:
        trials = [trial(program, f"assert f(1) == {SECRET}") for program in CHEATS.values()]
        for part in parts:
            program = forbidden([FORBIDDEN[name] for name in part], target.fields)
            tests = [f"assert f({number}) == 'refused'" for number in range(len(part))]
            trials.append(trial(program, *tests))
        settings = ProgramsConfig(parallel=4)
        outcomes = run_trials(trials, limits=LIMITS, settings=settings)
        lines = target.damage()
    untested = [outcome.reason for outcome in outcomes if isinstance(outcome, Untested)]
    verdicts = [verdict for o in outcomes if not isinstance(o, Untested) for verdict in o]
    if untested:
        return untested
    for name, verdict in zip(
        [*CHEATS, *(n for part in parts for n in part)], verdicts, strict=True
    ):
        if verdict.passed != (name in FORBIDDEN) and name not in MAY_DIE:
            lines.append(f"{name}: {verdict.reason or 'passed'}")
    return lines


MAY_DIE = {"a signal to everybody", "a signal to its parent", "clone by number"}
"""Attacks that may end the program itself; only the damage counts."""


def as_ordinary_user(command: Sequence[str]) -> list[str]:
    """The command, to be run by root for a user without rights.

    That user sees Python and this checkout also where only root may enter a directory above them.
    """
    needed = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2]]
    closed = {
        next((above for above in reversed(path.parents) if not above.stat().st_mode & 0o001), None)
        for path in needed
    }
    options = ["--dev-bind", "/", "/"]
    for directory in sorted(str(path) for path in closed if path):
        options += ["--perms", "0755", "--tmpfs", directory]
    for path in needed:
        options += ["--dir", str(path.parent), "--bind", str(path), str(path)]
    user = ["--reuid=65534", "--regid=65534", "--clear-groups"]
    return ["bwrap", *options, "--", "setpriv", *user, *command]


if __name__ == "__main__":
    print(json.dumps({"user": os.geteuid(), "failures": failures()}))
