"""Ctrl-C and SIGTERM stop the loop after its current step; a second signal stops it at once.

With several processes all of them stop after the same step, even if only one received the signal:
they exchange it once per step.
"""

import signal
import threading
from types import FrameType
from typing import Self

import jax
import numpy as np

from dvaojax.train import hosts

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """The run received a signal, finished its step and was saved.

    Attributes:
        signal_number: the signal.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number


class Interrupts:
    """Context manager that records the first SIGINT or SIGTERM.

    It does nothing outside the main thread, where Python delivers no signals.
    """

    def __init__(self):
        self._received: int | None = None
        self._agreed: int | None = None
        self._before: dict[int, object] = {}

    @property
    def received(self) -> int | None:
        """The signal's number; None before a signal, or before all processes know about it."""
        return self._received if jax.process_count() == 1 else self._agreed

    def agree(self) -> None:
        """Exchanges received signals between the processes; a collective."""
        received = hosts.gather(np.int32(self._received or 0))
        self._agreed = int(received.max()) or None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._receive) for s in _SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._received = number
        self._restore()  # a second signal has its usual effect

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
