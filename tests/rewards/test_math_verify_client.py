"""math-verify in its own process."""

import os
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("math_verify", reason="math-verify is not installed")

from dvaojax.rewards.mathematics import math_verify_client

HANGS = r"\sum_{n=1}^{10^{10}} n^{n^n}"


def child():
    assert math_verify_client._worker._process is not None
    return math_verify_client._worker._process


def test_equal_answers_are_equal_and_others_are_not():
    assert math_verify_client.equivalent(r"(0,36)\setminus\{9\}", r"(0,9) \cup (9,36)")
    assert not math_verify_client.equivalent(r"(0,36)\setminus\{8\}", r"(0,9) \cup (9,36)")
    assert math_verify_client.score("It is $34$.", "34")
    assert not math_verify_client.score("It is $35$.", "34")


def test_one_process_answers_again_and_again():
    assert math_verify_client.equivalent("2", "2")
    first = child().pid
    assert not math_verify_client.equivalent("3", "2")
    assert child().pid == first


def test_what_takes_too_long_is_wrong_and_the_next_answer_is_read_by_a_new_process():
    assert math_verify_client.equivalent("2", "2")
    hung = child()
    began = time.process_time(), time.perf_counter()
    assert not math_verify_client.equivalent(HANGS, "34", seconds=0.5)
    assert time.process_time() - began[0] < 0.5
    assert time.perf_counter() - began[1] < 60
    assert hung.returncode is not None
    assert math_verify_client.equivalent("2", "2")
    assert child().pid != hung.pid


def test_the_limit_holds_where_the_parent_ignores_and_blocks_the_timers_signal():
    """As a process does in which libtpu is loaded."""
    program = f"""
import signal
from dvaojax.rewards.mathematics import math_verify_client

signal.signal(signal.SIGPROF, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGPROF}})
print(math_verify_client.equivalent({HANGS!r}, "34", seconds=0.5))
print(math_verify_client.equivalent("2", "2"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("False\nTrue\n", "")


def test_a_process_that_has_died_is_replaced():
    assert math_verify_client.equivalent("2", "2")
    child().kill()
    child().wait()
    assert not math_verify_client.equivalent("2", "2")
    assert math_verify_client.equivalent("2", "2")


def test_threads_take_turns():
    verdicts = {}

    def ask(number):
        verdicts[number] = math_verify_client.equivalent(f"{number}", f"{number % 2}")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == {number: number < 2 for number in range(8)}


def test_a_long_answer_is_not_asked_about():
    assert not math_verify_client.equivalent("1" + "+1" * 300, "301")


def test_a_text_that_cannot_be_read_is_wrong():
    for text in ("", "\ud800", "\x00", "\n", "}", "{" * 100, "\\", '"', "\r"):
        assert not math_verify_client.equivalent(text, "34")
        assert not math_verify_client.score(text, "34")


def test_a_forked_process_asks_a_child_of_its_own():
    assert math_verify_client.equivalent("2", "2")
    parents = child()
    math_verify_client._forget_after_fork()
    assert math_verify_client.equivalent("2", "2")
    assert child().pid != parents.pid
    os.kill(parents.pid, 0)
    parents.kill()
    parents.communicate()
