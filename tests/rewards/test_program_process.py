"""The processes of a program and of a test, their functions called in this process."""

import sys

import pytest

from dvaojax.rewards.programs import assertion_process
from dvaojax.rewards.programs.program_process import RunningProgram
from dvaojax.rewards.programs.serialisation import RemoteValue, decode, encode

SOURCES = (
    "class Pair:\n    def __init__(self, a): self.a = a",
    "def f(x): return x + 1\ndef g(p): return p.a\ndef h(): raise KeyError('line\\none')",
)


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    """A program is the module `program` until the end of the test."""
    monkeypatch.setitem(sys.modules, "program", None)


@pytest.fixture
def program():
    """A started program."""
    started = RunningProgram()
    assert started.start(SOURCES) == {"value": encode(None, _refuse)}
    return started


def _refuse(value):
    raise TypeError(value)


def _arguments(*values):
    """Encoded arguments; a remote value is sent as the number under which it is kept."""
    return encode((values, {}), _refuse)


def test_calls_return_values_or_the_name_and_line_of_an_exception(program):
    assert decode(program.call("f", _arguments(2))["value"], _refuse) == 3
    assert program.call("h", _arguments()) == {"raised": ["KeyError", "'line\\none'"]}
    assert program.call("missing", _arguments())["raised"][0] == "AttributeError"
    assert program.call("f", _arguments("a"))["raised"][0] == "TypeError"


def test_a_value_that_cannot_be_sent_is_kept_and_can_be_passed_back(program):
    reply = program.call("Pair", _arguments(7))["value"]
    pair = decode(reply, RemoteValue)
    assert isinstance(pair, RemoteValue)
    again = encode(((pair,), {}), _refuse)
    assert decode(program.call("g", again)["value"], _refuse) == 7


def test_a_program_that_does_not_start_says_why():
    assert RunningProgram().start(("def f(x:",))["raised"][0] == "SyntaxError"


def test_calls_of_a_test_are_predicted_but_for_those_that_depend_on_a_result():
    request = {
        "context": "import math",
        "names": {"f": "solve"},
        "test": "assert f(1) == 2\nassert math.isclose(f(x=f(2)), 3)\nfor i in f(3): f(i)\nf(4)",
    }
    calls = assertion_process._predicted_calls(request)
    assert [call["name"] for call in calls] == ["solve"] * 4
    assert [call["arguments"] for call in (calls[0], calls[1], calls[3])] == [
        encode(((1,), {}), _refuse),
        encode(((2,), {}), _refuse),
        encode(((4,), {}), _refuse),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ValueError", ValueError("line")),
        ("StopIteration", RuntimeError("StopIteration: line")),
        ("KeyboardInterrupt", RuntimeError("KeyboardInterrupt: line")),
        ("Unheard", RuntimeError("Unheard: line")),
    ],
)
def test_exceptions_of_a_program_end_no_loop_of_its_test(name, expected):
    error = assertion_process._exception(name, "line")
    assert (type(error), error.args) == (type(expected), expected.args)
