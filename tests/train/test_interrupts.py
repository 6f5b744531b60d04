"""Signals that stop a run."""

import os
import signal
import threading

import pytest

from dvaojax.train.interrupts import Interrupted, Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_records_the_first_signal_and_restores_the_handlers(number):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with Interrupts() as interrupts:
        assert interrupts.received is None
        os.kill(os.getpid(), number)
        assert interrupts.received == number
        assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.fixture
def listening():
    """Makes Ctrl-C raise, even if the shell that started the tests made them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_a_second_ctrl_c_raises():
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_restores_the_handlers_without_a_signal():
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_does_nothing_in_another_thread():
    observed = []

    def work():
        with Interrupts() as interrupts:
            observed.append((interrupts.received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert observed == [(None, signal.getsignal(signal.SIGTERM))]


def test_interrupted_has_the_signal_number():
    assert Interrupted(signal.SIGTERM, "saved").signal_number == signal.SIGTERM
    assert str(Interrupted(signal.SIGTERM, "saved")) == "saved"
