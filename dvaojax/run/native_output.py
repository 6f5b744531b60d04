"""Output and aborts of libraries written in C++, which do not go through Python."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def written_to(log: Path) -> Iterator[int]:
    """Appends to a file what is written to the descriptor of standard error.

    What Python prints to `sys.stderr` still goes to the screen. Child processes inherit the file.

    Args:
        log: the file, which is created if it does not exist.

    Yields:
        A descriptor of the screen.
    """
    before = sys.stderr
    before.flush()
    screen = os.dup(2)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(file, 2)
    os.close(file)
    sys.stderr = os.fdopen(
        screen, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    try:
        yield screen
    finally:
        sys.stderr.flush()
        sys.stderr = before
        os.dup2(screen, 2)
        os.close(screen)


@contextlib.contextmanager
def calling_on_abort(function: Callable[[], None]) -> Iterator[None]:
    """Calls a function when the process aborts, in the thread that does so.

    Python's own handlers of signals run in the main thread, which may be waiting in a library.

    Args:
        function: should end the process; if it returns, the abort continues.
    """
    handler_type = ctypes.CFUNCTYPE(None, ctypes.c_int)
    handler = handler_type(lambda number: function())
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes, set_handler.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    before = set_handler(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p))
    try:
        yield
    finally:
        set_handler(signal.SIGABRT, before)
