"""Ctrl-C and SIGTERM stop the loop after its current step; a second signal stops it at once.

With several processes all of them stop after the same step, even if only one received the signal.
JAX then receives SIGTERM itself, as the notice that a machine is taken away, and chooses a step
that no process has reached; nothing is exchanged before there is a notice.
"""

import signal
import threading
from types import FrameType
from typing import Self

import jax
import numpy as np
from jax.experimental import multihost_utils

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

    It does nothing outside the main thread, where Python delivers no signals. With several
    processes, SIGTERM is left to JAX.
    """

    def __init__(self):
        self._received: int | None = None
        self._agreed: int | None = None
        self._before: dict[int, object] = {}

    @property
    def received(self) -> int | None:
        """The signal's number; None before a signal, or before all processes know about it."""
        return self._received if jax.process_count() == 1 else self._agreed

    def agree(self, step: int) -> None:
        """Finds out whether all processes stop after a step; they call it once for every step.

        It returns at once, except in the step after which they stop, where it is a collective.

        Args:
            step: the same in all processes, and one more in every call.
        """
        if multihost_utils.reached_preemption_sync_point(step):
            received = hosts.gather(np.int32(self._received or 0))
            self._agreed = int(received.max()) or signal.SIGTERM

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            signals = _SIGNALS if jax.process_count() == 1 else (signal.SIGINT,)
            self._before = {s: signal.signal(s, self._receive) for s in signals}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._received = number
        self._restore()  # a second signal has its usual effect
        if jax.process_count() > 1:
            signal.raise_signal(signal.SIGTERM)  # JAX tells the other processes

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
