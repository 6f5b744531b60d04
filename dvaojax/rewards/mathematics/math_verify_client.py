"""math-verify in a process of its own, which a time limit ends from within.

math-verify reads LaTeX into sympy, which may take for ever, and its own time limit works in the
main thread alone. Here each process that scores keeps one child, started when it is first needed.
The child's limit is a timer of the kernel that ends it, whatever it is busy with; the next question
starts a new one. It measures processor time, so that a busy machine makes no answer wrong. The
child is a plain subprocess, for the workers of a `RewardSuite` may have no children of the
`multiprocessing` kind.
"""

import atexit
import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from dvaojax.errors import UserError

_EQUIVALENT_SECONDS = 2.0
_SCORE_SECONDS = 5.0
_LONGEST_ANSWER = 400
_WORKER_SCRIPT = Path(__file__).with_name("math_verify_worker.py")


def installed() -> bool:
    """Whether math-verify can be asked."""
    return importlib.util.find_spec("math_verify") is not None


def equivalent(answer: str, gold: str, *, seconds: float = _EQUIVALENT_SECONDS) -> bool:
    """Whether math-verify finds two answers equal; false where it is not installed.

    Args:
        answer: without a box; one of more than 400 characters is not asked about.
        gold: likewise.
        seconds: of processor time, after which the answer is wrong.
    """
    if max(len(answer), len(gold)) > _LONGEST_ANSWER or not installed():
        return False
    return _worker.ask("equivalent", answer, gold, seconds)


def score(text: str, gold: str, *, seconds: float = _SCORE_SECONDS) -> bool:
    """What math-verify makes of a whole completion, its own extraction included.

    Args:
        text: the completion.
        gold: the right answer, without a box.
        seconds: of processor time, after which the answer is wrong.

    Raises:
        UserError: math-verify is not installed.
    """
    if not installed():
        raise UserError("math_verify is not installed: pip install 'dvaojax[mathematics]'")
    return _worker.ask("score", text, gold, seconds)


class _MathVerifyWorker:
    """One process of `math_verify_worker`, and the lock that makes threads take turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, question: str, answer: str, gold: str, seconds: float) -> bool:
        """The child's verdict; false where it came to its end over it."""
        # Escaped, so that half a character pair passes as well.
        line = json.dumps([question, answer, gold, seconds])
        with self._lock:
            if self._process is None:
                self._process = _started()
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            try:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
                verdict = self._process.stdout.readline()
            except BrokenPipeError:
                verdict = ""
            if not verdict:
                self._end()
        return verdict == "true\n"

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            # Reads what is left, closes the pipes and waits.
            self._process.communicate()
            self._process = None


def _started() -> subprocess.Popen[str]:
    """A child that has said that it is ready.

    Raises:
        RuntimeError: it ended before; what it said stands on standard error.
    """
    process = subprocess.Popen(
        # -P: the modules beside the script are not to be found by their bare names.
        [sys.executable, "-P", str(_WORKER_SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="ascii",
    )
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        process.kill()
        process.communicate()
        raise RuntimeError(f"math-verify's process ended with code {process.returncode}")
    return process


_worker = _MathVerifyWorker()


def _forget_after_fork() -> None:
    """A forked process has no right to its parent's child."""
    global _worker
    _worker = _MathVerifyWorker()


atexit.register(lambda: _worker.close())
os.register_at_fork(after_in_child=_forget_after_fork)
