"""The client of math-verify's process."""

import os
import signal
import threading
import time

import pytest

from dvaojax.rewards.mathematics import math_verify_client

HANGS = r"\sum_{n=1}^{10^{10}} n^{n^n}"
NINE = ("number", "9")
TOWER = ("factorial", ("power", NINE, NINE))


def child():
    assert math_verify_client._worker._process is not None
    return math_verify_client._worker._process


def test_math_verify_compares_answers():
    assert math_verify_client.equal_latex(r"(0,36)\setminus\{9\}", r"(0,9) \cup (9,36)")
    assert not math_verify_client.equal_latex(r"(0,36)\setminus\{8\}", r"(0,9) \cup (9,36)")
    assert math_verify_client.score("It is $34$.", "34")
    assert not math_verify_client.score("It is $35$.", "34")


def test_process_is_reused():
    assert math_verify_client.equal_latex("2", "2")
    first = child().pid
    assert not math_verify_client.equal_latex("3", "2")
    assert child().pid == first


def processor_seconds():
    """Processor time of this process and of children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def test_time_out_is_wrong_and_needs_no_new_process():
    assert math_verify_client.equal_latex("2", "2")
    first = child().pid
    math_verify_client._worker.close()
    began = processor_seconds()
    for _ in range(5):
        assert not math_verify_client.equal_latex(HANGS, "34", seconds=0.1)
        assert math_verify_client.equal_latex("2", "2")
    assert child().pid != first
    second = child().pid
    assert not math_verify_client.equal_latex(HANGS, "34", seconds=0.1)
    assert child().pid == second
    math_verify_client._worker.close()
    # Loading sympy and math-verify once takes about a second, and each question its limit.
    assert processor_seconds() - began < 6


@pytest.mark.parametrize(
    "question",
    [
        lambda seconds: math_verify_client.equal_expressions(
            TOWER, ("number", "1"), seconds=seconds
        ),
        lambda seconds: math_verify_client.equal_equations(
            [("letter", "x"), TOWER], [("letter", "x"), ("number", "1")], seconds=seconds
        ),
        lambda seconds: math_verify_client.rounded("0.123456789", 9, TOWER, seconds=seconds),
        lambda seconds: math_verify_client.score(rf"\boxed{{{HANGS}}}", "34", seconds=seconds),
    ],
)
def test_every_question_has_a_limit(question):
    began = time.perf_counter()
    assert not question(0.1)
    assert time.perf_counter() - began < 60
    assert math_verify_client.equal_latex("2", "2")


def test_memory_is_limited():
    huge = ("power", ("number", "10"), ("power", ("number", "10"), ("number", "11")))
    assert not math_verify_client.equal_expressions(huge, ("letter", "x"), seconds=1.0)
    assert math_verify_client.equal_latex("2", "2")


def test_time_limit_works_if_the_parent_ignores_and_blocks_the_signal():
    """A process that has loaded libtpu does both, and its children inherit it."""
    math_verify_client._worker.close()
    handler = signal.signal(signal.SIGPROF, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF})
    try:
        began = time.perf_counter()
        assert not math_verify_client.equal_latex(HANGS, "34", seconds=0.2)
        assert time.perf_counter() - began < 60
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
        signal.signal(signal.SIGPROF, handler)
    assert math_verify_client.equal_latex("2", "2")


def test_dead_process_is_replaced():
    assert math_verify_client.equal_latex("2", "2")
    os.killpg(child().pid, signal.SIGKILL)
    child().wait()
    assert not math_verify_client.equal_latex("2", "2")
    assert math_verify_client.equal_latex("2", "2")


def test_threads_run_one_at_a_time():
    verdicts = {}

    def ask(number):
        verdicts[number] = math_verify_client.equal_latex(f"{number}", f"{number % 2}")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == {number: number < 2 for number in range(8)}


def test_long_answer_is_not_sent_to_math_verify():
    assert not math_verify_client.equal_latex("1" + "+1" * 300, "301")


def test_unreadable_text_is_wrong():
    for text in ("", "\ud800", "\x00", "\n", "}", "{" * 100, "\\", '"', "\r"):
        assert not math_verify_client.equal_latex(text, "34")
        assert not math_verify_client.score(text, "34")


def test_forked_process_starts_its_own_child():
    assert math_verify_client.equal_latex("2", "2")
    parents = child()
    math_verify_client._forget_after_fork()
    assert math_verify_client.equal_latex("2", "2")
    assert child().pid != parents.pid
    os.kill(parents.pid, 0)
    math_verify_client._stop(parents)


def test_expressions_are_compared_as_real_functions():
    x, two, one = ("letter", "x"), ("number", "2"), ("number", "1")
    root = ("root", ("power", x, two), two)
    assert math_verify_client.equal_expressions(root, ("absolute", x))
    assert not math_verify_client.equal_expressions(root, x)
    tiny = ("exp", ("number", "-700"))
    assert not math_verify_client.equal_expressions(("add", x, tiny), x)
    assert math_verify_client.equal_equations([x, one], [("multiply", two, x), two])
    nothing = [("add", ("power", x, two), one), ("number", "0")]
    assert not math_verify_client.equal_equations(nothing, [("exp", x), ("number", "0")])


def test_rounding_is_computed_to_all_digits():
    root = ("root", ("number", "2"), ("number", "2"))
    assert math_verify_client.rounded("1.414213562", 9, root)
    assert not math_verify_client.rounded("1.414213563", 9, root)
    digits = "1.41421356237309504880168872420969807856967187537694807317667973799"
    assert math_verify_client.rounded(digits, len(digits) - 2, root)
    assert not math_verify_client.rounded(digits[:-1] + "8", len(digits) - 2, root)
