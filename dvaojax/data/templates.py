"""Rendering of chat templates, which are programs, in a process with limits of time and memory.

The templates come with the models. `transformers` renders them in jinja's sandbox, which keeps them
from the file system and from Python's internals, but not from endless loops and large texts.
"""

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

SECONDS = 5.0
"""Limit for one prompt; usual templates need less than a millisecond."""

_START = "from dvaojax.data.template_worker import main; main()"


class TemplateError(ValueError):
    """A template failed or exceeded a limit; the message is one line."""


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None,
    variables: Mapping[str, Any],
) -> str:
    """The text that a template writes for messages.

    Args:
        template: in jinja, as `transformers` reads it.
        messages: JSON objects.
        tools: JSON schemas of functions; None if there are none.
        variables: further variables of the template, as JSON.

    Raises:
        TemplateError: the template fails, or needs more than `SECONDS` or 1 GiB of memory.
    """
    arguments = {
        "template": template,
        "messages": [dict(message) for message in messages],
        "tools": None if tools is None else [dict(tool) for tool in tools],
        "variables": dict(variables),
    }
    return _worker().ask({"render": arguments})


@functools.cache
def input_variables(template: str) -> frozenset[str]:
    """The names of a template's input variables; cached because every prompt needs them.

    Raises:
        TemplateError: the template cannot be parsed.
    """
    return frozenset(_worker().ask({"variables": template}))


class _Worker:
    """A process that renders templates. It is started again after it was ended."""

    def __init__(self):
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        atexit.register(self.close)

    def ask(self, request: Mapping[str, Any]) -> Any:
        """The process's answer to one request.

        Raises:
            TemplateError: the answer is an error, or the process ended.
        """
        line = json.dumps({"seconds": SECONDS, **request}, default=str).encode() + b"\n"
        with self._lock:
            try:
                answer = self._exchange(line)
            except BaseException:  # an interrupt, after which an answer may still arrive
                self.close()
                raise
            if not answer.endswith(b"\n"):
                raise TemplateError(_reason(self.close()))
        result = json.loads(answer)
        if "error" in result:
            raise TemplateError(result["error"])
        return result["value"]

    def close(self) -> int:
        """Ends the process; returns its exit code, negative for a signal."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        return process.wait()

    def _exchange(self, line: bytes) -> bytes:
        process = self._process = self._process or _start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except BrokenPipeError:
            return b""
        return process.stdout.readline()


@functools.cache
def _worker() -> _Worker:
    """The worker of this process."""
    return _Worker()


def _start() -> subprocess.Popen[bytes]:
    """Starts the process, in a session of its own: an interrupt of the terminal is not for it."""
    return subprocess.Popen(
        [sys.executable, "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )


def _reason(code: int) -> str:
    """Why the process ended, by its exit code."""
    if code == -signal.SIGALRM:
        return f"it did not end within {SECONDS:g} seconds"
    return f"the process that rendered it ended with code {code}"
