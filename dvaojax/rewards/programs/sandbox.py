"""Starts the process of a program or of tests, in bubblewrap or as an ordinary process.

Both are minimal Python processes with a cleared environment and without installed packages. They
import nothing from the caller, in particular no JAX. POSIX only.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from dvaojax.rewards.programs import bubblewrap
from dvaojax.rewards.programs.bubblewrap import SandboxError

Side = Literal["program_process", "assertion_process"]
Isolation = Literal["bubblewrap", "process"]

START_SECONDS = 60.0
_END_SECONDS = 2.0

_HERE = Path(__file__).parent

# Makes the package importable under its own name without running its `__init__` files.
_BOOTSTRAP = """
import importlib, os, sys, types
for name in ("dvaojax", "dvaojax.rewards", "dvaojax.rewards.programs"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [sys.argv[1]]
import typing
side = importlib.import_module(f"dvaojax.rewards.programs.{sys.argv[2]}")
if sys.argv[4]:
    side.confinement.change_user(int(sys.argv[4]))
side.confinement.protect_from_children()
side.serve(int(sys.argv[3]))
os._exit(0)
"""


class SandboxProcess:
    """One process and the socket to it.

    Attributes:
        socket: this end of the socket.
    """

    def __init__(self, process: subprocess.Popen[bytes], socket: socket.socket):
        self._process = process
        self.socket = socket

    def wait_until_ready(self) -> None:
        """Returns when the process has started.

        Raises:
            SandboxError: it has not.
        """
        self.socket.settimeout(START_SECONDS)
        try:
            ready = self.socket.recv(1)
        except TimeoutError as error:
            raise SandboxError(
                f"a process for programs has not started within {START_SECONDS:g} s"
            ) from error
        except OSError:
            ready = b""
        if not ready:
            _, complaint = self._process.communicate(timeout=START_SECONDS)
            raise SandboxError(bubblewrap.explain(complaint.decode(errors="replace")))
        self.socket.settimeout(None)

    def has_failed(self) -> bool:
        """Whether the process has reported that it cannot start the process of a test."""
        self.socket.setblocking(False)
        try:
            return bool(self.socket.recv(1))
        except OSError:
            return False

    def close(self) -> None:
        """Ends the process and thereby every other process of its sandbox.

        At the end of its socket the process ends its children and itself. Ending bubblewrap would
        not suffice where the process has changed its user.
        """
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process.communicate()

    def kill(self) -> None:
        """Ends the process at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


@contextlib.contextmanager
def started(side: Side, isolation: Isolation) -> Iterator[SandboxProcess]:
    """A process that serves one side; ended on leaving.

    The thread that enters must not end before: bubblewrap ends with it.

    Raises:
        SandboxError: it cannot be started.
    """
    with contextlib.ExitStack() as stack:
        ours, theirs = map(stack.enter_context, socket.socketpair())
        interpreter = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
        user = str(bubblewrap.USER) if isolation == "bubblewrap" and os.geteuid() == 0 else ""
        arguments = [str(_HERE), side, str(theirs.fileno()), user]
        command, files = [interpreter, "-P", "-s", "-S", "-c", _BOOTSTRAP, *arguments], []
        directory = "/"
        if isolation == "bubblewrap":
            command, files = bubblewrap.command(command, code=_HERE, stack=stack)
        else:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="dvaojax-program-"))
        process = _start(command, [theirs.fileno(), *files], directory)
        sandbox = SandboxProcess(process, ours)
        stack.callback(sandbox.close)
        theirs.close()
        sandbox.wait_until_ready()
        yield sandbox


def _start(command: list[str], files: list[int], directory: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=files,
            cwd=directory,
            env={"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxError(f"a process for programs cannot be started: {error}") from error
