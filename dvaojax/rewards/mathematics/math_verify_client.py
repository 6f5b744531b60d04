"""Runs math-verify in a separate process with a time limit.

math-verify converts expressions to sympy, which may not terminate, and its own time limit works
only in the main thread. Here each scoring process keeps one worker process, started when it is
first needed. A kernel timer ends a question at the limit, also inside C code. The timer measures
processor time, so that a busy machine does not make an answer wrong. The worker is a plain
subprocess, because workers of a `RewardSuite` may not have `multiprocessing` children.
"""

import atexit
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from dvaojax.errors import UserError
from dvaojax.rewards.mathematics.expressions import ExpressionTree

_SECONDS = 2.0
_SCORE_SECONDS = 5.0
_SECONDS_TO_END = 5.0
_LONGEST_ANSWER = 400
_SHORT_DECIMAL = re.compile(r"(?<![\w.])(\d{0,50})\.(\d{1,50})(?![\d.\\])")
_WORKER_SCRIPT = Path(__file__).with_name("math_verify_worker.py")


def equal_expressions(
    answer: ExpressionTree, gold: ExpressionTree, *, seconds: float = _SECONDS
) -> bool:
    """Whether math-verify finds two expressions equal, in which letters are real numbers.

    Args:
        answer: see `expressions.parse_expression`; without degrees.
        gold: likewise.
        seconds: limit of processor time, after which the result is false.
    """
    return _worker.ask("equal_expressions", answer, gold, seconds)


def equal_equations(
    answer: Sequence[ExpressionTree], gold: Sequence[ExpressionTree], *, seconds: float = _SECONDS
) -> bool:
    """Whether math-verify finds that two equations, each a pair of sides, have the same solutions.

    Args:
        answer: its two sides.
        gold: likewise.
        seconds: limit of processor time, after which the result is false.
    """
    return _worker.ask("equal_equations", answer, gold, seconds)


def rounded(
    decimal: str, decimals: int, exact: ExpressionTree, *, seconds: float = _SECONDS
) -> bool:
    """Whether a decimal fraction is an irrational number rounded to so many decimals.

    Args:
        decimal: such as `15.556349186`.
        decimals: number of its decimals.
        exact: the irrational number.
        seconds: limit of processor time, after which the result is false.
    """
    return _worker.ask("rounded", decimal, decimals, exact, seconds)


def equal_latex(answer: str, gold: str, *, seconds: float = _SECONDS) -> bool:
    """Whether math-verify finds two answers equal that it parses itself.

    Args:
        answer: in LaTeX or normalised, without a box; false for more than 400 characters.
        gold: likewise.
        seconds: limit of processor time, after which the result is false.
    """
    if max(len(answer), len(gold)) > _LONGEST_ANSWER:
        return False
    return _worker.ask("equal_latex", _latex(answer), _latex(gold), seconds)


def score(text: str, gold: str, *, seconds: float = _SCORE_SECONDS) -> bool:
    """math-verify's verdict on a whole completion, including its own extraction.

    Args:
        text: the completion.
        gold: the correct answer, without a box.
        seconds: limit of processor time, after which the result is false.
    """
    return _worker.ask("score", text, gold, seconds)


def _latex(text: str) -> str:
    """A normalised answer in LaTeX, with exact fractions, which math-verify does not round."""
    text = _SHORT_DECIMAL.sub(lambda match: str(Fraction(f"{match[1] or '0'}.{match[2]}")), text)
    text = re.sub(r"(\d+)/(\d+)", r"\\frac{\1}{\2}", text)
    text = text.replace("°", r"^{\circ}").replace(r"\div", "/").replace("*", r"\cdot ")
    return text.replace(r"\lor", r"\text{ or }").replace(r"\land", r"\text{ and }")


class _MathVerifyWorker:
    """One process of `math_verify_worker`, used by one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, question: str, *arguments: object) -> bool:
        """The worker's verdict; false if it died or the question was ended by its timer.

        Raises:
            UserError: math-verify cannot be loaded.
        """
        # Escaped JSON, so that lone surrogates can be sent too.
        line = json.dumps([question, *arguments])
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
            _stop(self._process)
            self._process = None


def _stop(process: subprocess.Popen[str]) -> None:
    """Ends a worker, whose input ends, or else kills it with its child."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(timeout=_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process.stdout.close()


def _started() -> subprocess.Popen[str]:
    """Starts a worker and waits until it is ready.

    Raises:
        UserError: math-verify cannot be loaded.
    """
    process = subprocess.Popen(
        # -P: the script's folder is not searched, so its modules cannot shadow others.
        [sys.executable, "-P", str(_WORKER_SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="ascii",
        start_new_session=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        _stop(process)
        raise UserError(
            "math-verify cannot be loaded (its process wrote why above): "
            "pip install 'math-verify[antlr4_13_2]>=0.9,<0.10'"
        )
    return process


_worker = _MathVerifyWorker()


def _forget_after_fork() -> None:
    """A forked process must not use its parent's worker."""
    global _worker
    _worker = _MathVerifyWorker()


atexit.register(lambda: _worker.close())
os.register_at_fork(after_in_child=_forget_after_fork)
