"""Ctrl-C and SIGTERM ask the loop to stop after its step; a second one stops at once.

Of several processes all stop after the same step, whichever of them was asked: once a step they
tell each other.
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
    """The run was asked to stop, has finished its step and was saved.

    Attributes:
        signal_number: which signal asked.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number


class Interrupts:
    """While entered, remembers the first signal that asks to stop.

    Outside the main thread, where Python delivers no signals, it changes nothing.
    """

    def __init__(self):
        self._received: int | None = None
        self._agreed: int | None = None
        self._before: dict[int, object] = {}

    @property
    def received(self) -> int | None:
        """The signal's number; None while nobody asked, or not all processes know of it yet."""
        return self._received if jax.process_count() == 1 else self._agreed

    def agree(self) -> None:
        """Tells the other processes, and hears what they received; all have to come here."""
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
        self._restore()  # the next one is not held back

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
