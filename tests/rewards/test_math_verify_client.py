"""The client of math-verify's process."""

import os
import signal
import threading
import time

import pytest

pytest.importorskip("math_verify", reason="math-verify is not installed")

from dvaojax.rewards.mathematics import math_verify_client

HANGS = r"\sum_{n=1}^{10^{10}} n^{n^n}"


def child():
    assert math_verify_client._worker._process is not None
    return math_verify_client._worker._process


def test_math_verify_compares_answers():
    assert math_verify_client.equivalent(r"(0,36)\setminus\{9\}", r"(0,9) \cup (9,36)")
    assert not math_verify_client.equivalent(r"(0,36)\setminus\{8\}", r"(0,9) \cup (9,36)")
    assert math_verify_client.score("It is $34$.", "34")
    assert not math_verify_client.score("It is $35$.", "34")


def test_process_is_reused():
    assert math_verify_client.equivalent("2", "2")
    first = child().pid
    assert not math_verify_client.equivalent("3", "2")
    assert child().pid == first


def test_time_out_is_wrong_and_starts_a_new_process():
    assert math_verify_client.equivalent("2", "2")
    hung = child()
    began = time.process_time(), time.perf_counter()
    assert not math_verify_client.equivalent(HANGS, "34", seconds=0.2)
    assert time.process_time() - began[0] < 0.2
    assert time.perf_counter() - began[1] < 60
    assert hung.returncode is not None
    assert math_verify_client.equivalent("2", "2")
    assert child().pid != hung.pid


def test_time_limit_works_if_the_parent_ignores_and_blocks_the_signal():
    """A process that has loaded libtpu does both, and its children inherit it."""
    math_verify_client._worker.close()
    handler = signal.signal(signal.SIGPROF, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF})
    try:
        began = time.perf_counter()
        assert not math_verify_client.equivalent(HANGS, "34", seconds=0.2)
        assert time.perf_counter() - began < 60
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
        signal.signal(signal.SIGPROF, handler)
    assert math_verify_client.equivalent("2", "2")


def test_dead_process_is_replaced():
    assert math_verify_client.equivalent("2", "2")
    child().kill()
    child().wait()
    assert not math_verify_client.equivalent("2", "2")
    assert math_verify_client.equivalent("2", "2")


def test_threads_run_one_at_a_time():
    verdicts = {}

    def ask(number):
        verdicts[number] = math_verify_client.equivalent(f"{number}", f"{number % 2}")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == {number: number < 2 for number in range(8)}


def test_long_answer_is_not_sent_to_math_verify():
    assert not math_verify_client.equivalent("1" + "+1" * 300, "301")


def test_unreadable_text_is_wrong():
    for text in ("", "\ud800", "\x00", "\n", "}", "{" * 100, "\\", '"', "\r"):
        assert not math_verify_client.equivalent(text, "34")
        assert not math_verify_client.score(text, "34")


def test_forked_process_starts_its_own_child():
    assert math_verify_client.equivalent("2", "2")
    parents = child()
    math_verify_client._forget_after_fork()
    assert math_verify_client.equivalent("2", "2")
    assert child().pid != parents.pid
    os.kill(parents.pid, 0)
    parents.kill()
    parents.communicate()
