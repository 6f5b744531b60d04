"""Runs math-verify in a separate process with a time limit.

math-verify converts LaTeX to sympy, which may not terminate, and its own time limit works only in
the main thread. Here each scoring process keeps one child, started when it is first needed. A
kernel timer ends the child at the limit, also inside C code; the next question starts a new child.
The timer measures processor time, so that a busy machine does not make an answer wrong. The child
is a plain subprocess, because workers of a `RewardSuite` may not have `multiprocessing` children.
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
    """Whether math-verify is installed."""
    return importlib.util.find_spec("math_verify") is not None


def equivalent(answer: str, gold: str, *, seconds: float = _EQUIVALENT_SECONDS) -> bool:
    """Whether math-verify finds two answers equal; false if it is not installed.

    Args:
        answer: without a box; false for more than 400 characters.
        gold: likewise.
        seconds: limit of processor time, after which the result is false.
    """
    if max(len(answer), len(gold)) > _LONGEST_ANSWER or not installed():
        return False
    return _worker.ask("equivalent", answer, gold, seconds)


def score(text: str, gold: str, *, seconds: float = _SCORE_SECONDS) -> bool:
    """math-verify's verdict on a whole completion, including its own extraction.

    Args:
        text: the completion.
        gold: the correct answer, without a box.
        seconds: limit of processor time, after which the result is false.

    Raises:
        UserError: math-verify is not installed.
    """
    if not installed():
        raise UserError("math_verify is not installed: pip install 'dvaojax[mathematics]'")
    return _worker.ask("score", text, gold, seconds)


class _MathVerifyWorker:
    """One process of `math_verify_worker`, used by one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, question: str, answer: str, gold: str, seconds: float) -> bool:
        """The worker's verdict; false if the worker died or was ended by its timer."""
        # Escaped JSON, so that lone surrogates can be sent too.
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
            # Reads the remaining output, closes the pipes and waits.
            self._process.communicate()
            self._process = None


def _started() -> subprocess.Popen[str]:
    """Starts a worker and waits until it is ready.

    Raises:
        RuntimeError: the worker ended before; its own error message is on standard error.
    """
    process = subprocess.Popen(
        # -P: the script's folder is not searched, so its modules cannot shadow others.
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
    """A forked process must not use its parent's worker."""
    global _worker
    _worker = _MathVerifyWorker()


atexit.register(lambda: _worker.close())
os.register_at_fork(after_in_child=_forget_after_fork)
