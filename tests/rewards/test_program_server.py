"""Programs on a server: the same verdicts, no expected value sent, and faulty servers."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from code_server import CodeServer, respond

from dvaojax.rewards.programs import Limits, ProgramsConfig, SandboxError, server
from dvaojax.rewards.programs.server import ProgramServer, ServerError
from dvaojax.rewards.programs.trials import Trial, Untested, _probe, run_trials


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(server, "_WAIT_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(server, "_GRACE_SECONDS", 1.0)
    _probe.cache_clear()


def trial(program, *tests):
    return Trial((program,), tests, (("f", "f"),))


PROGRAMS = {
    "def f(x): return x + 1": True,
    "def f(x): return x": False,
    "def f(x:": False,
    "def f(x): raise ValueError": False,
    "import sys\nsys.exit(0)": False,
    "import os\ndef f(x): os._exit(0)": False,
    "print('noise')\ndef f(x):\n    print('more'); return x + 1": True,
    "class Same:\n  __eq__ = lambda s, o: True\ndef f(x): return Same()": False,
    "import time\ndef f(x): time.sleep(60)": False,
    "import sys, os\nfor n in range(9):\n    try: os.write(n, b'x')\n    except OSError: pass\n"
    "def f(x): return 2": True,
}


@pytest.mark.slow
def test_verdicts_are_those_of_this_machine_and_nothing_expected_is_sent():
    trials = [trial(text, "assert f(1) == 2, 'needle'", "assert f(2) == 3") for text in PROGRAMS]
    limits = Limits(cpu_seconds=1, wall_seconds=1.0)
    with CodeServer() as code_server:
        settings = ProgramsConfig(server=code_server.url, parallel=4)
        outcomes = run_trials(trials, limits=limits, settings=settings)
    assert [outcome[0].passed for outcome in outcomes] == list(PROGRAMS.values())
    assert outcomes[0] == ((True, ""), (True, ""))
    assert set(code_server.paths) == {"/run_code"}
    assert "needle" not in json.dumps(code_server.requests)
    request = code_server.requests[-1]
    assert request["language"] == "python"
    assert request["run_timeout"] == 1.0


def test_all_calls_of_a_test_are_one_request():
    test = "total = 0\nfor x in range(100):\n    assert f(x) == x * x\n    total += f(x)\n"
    square = trial("def f(x): return x * x", test, "assert f(abs(-3)) + 1 == 10")
    with CodeServer() as code_server:
        settings = ProgramsConfig(server=code_server.url)
        assert run_trials([square], settings=settings) == [((True, ""), (True, ""))]
        assert len(code_server.requests) == 3  # with the probe


def test_calls_with_arguments_that_depend_on_results():
    test = "a = f(3)\nassert a == 9\nb = f(a)\nassert b == 81\nassert f([b])[0] == 6561\n"
    program = "def f(x): return [f(y) for y in x] if isinstance(x, list) else x * x"
    with CodeServer() as code_server:
        settings = ProgramsConfig(server=code_server.url)
        assert run_trials([trial(program, test)], settings=settings) == [((True, ""),)]
        assert len(code_server.requests) >= 3


def test_the_limit_of_a_problem_counts_the_seconds_of_the_server():
    sleeping = trial("import time\ndef f(x): time.sleep(60)", *["assert f(1) == 2"] * 6)
    limits = Limits(wall_seconds=0.6, problem_seconds=1.0)
    with CodeServer() as code_server:
        settings = ProgramsConfig(server=code_server.url)
        (outcome,) = run_trials([sleeping], limits=limits, settings=settings)
        assert len(code_server.requests) == 3  # with the probe, 0.6 s and 0.4 s
    assert not any(verdict.passed for verdict in outcome)


def reply(**changes):
    result = {"status": "Finished", "execution_time": 0.1, "return_code": 0, "stdout": ""}
    return {"status": "Success", "message": "", "run_result": {**result, **changes}}


def says(content, status=200, **headers):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda handler: respond(handler, status, body, **headers)


def cut(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"status": "Success", "run_res')
    handler.close_connection = True


def slow(handler):
    time.sleep(3.0)


def one_byte_at_a_time(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(30):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" " * 2**20)


def hang_up(handler):
    handler.close_connection = True


FAULTS = {
    "500": says(b"oops", 500),
    "429": says(b"busy", 429),
    "404": says(b"", 404),
    "a redirect": says(b"", 302, Location="http://127.0.0.1:1/run_code"),
    "not JSON": says(b"<html>"),
    "not UTF-8": says(b"\xff\xfe\x00"),
    "empty": says(b""),
    "a list": says([]),
    "null": says(None),
    "nested": says(b"[" * 100_000),
    "no result": says({"status": "Success", "message": ""}),
    "null result": says({"status": "Success", "message": "", "run_result": None}),
    "an error of its own": says({"status": "SandboxError", "message": "full", "run_result": None}),
    "an error of its command": says(reply(status="Error")),
    "an unknown status": says({**reply(), "status": ["Success"]}),
    "output of another type": says(reply(stdout=["x"])),
    "time of another type": says(reply(execution_time="0.1")),
    "infinite time": says(
        b'{"status":"Success","run_result":{"status":"Finished","stdout":"",'
        b'"execution_time":Infinity}}'
    ),
    "negative time": says(reply(execution_time=-5)),
    "compressed": says(b"\x1f\x8b" + b"x" * 100, Content_Encoding="gzip"),
    "cut": cut,
    "slow": slow,
    "one byte at a time": one_byte_at_a_time,
    "endless": endless,
    "hangs up": hang_up,
}


def failure(fault):
    """The line about a server that is always faulty, and the number of attempts."""
    with CodeServer(lambda _, handler: fault(handler) or True) as code_server:
        client = ProgramServer(code_server.url, Limits())
        with pytest.raises(ServerError) as error:
            client.run(["def f(x): return 2"], [], seconds=0.2)
        return str(error.value), len(code_server.requests)


@pytest.mark.slow
def test_faulty_replies_are_repeated_and_then_failures():
    start = time.monotonic()
    with ThreadPoolExecutor(max_workers=len(FAULTS)) as threads:
        results = dict(zip(FAULTS, threads.map(failure, FAULTS.values()), strict=True))
    assert time.monotonic() - start < 20.0
    for name, (line, attempts) in results.items():
        assert line.startswith("rewards.programs.server=http://127.0.0.1:"), name
        assert "\n" not in line, name
        assert attempts == 3, name


@pytest.mark.parametrize("name", ["cut", "an error of its own"])
def test_a_fault_that_passes_does_not_change_a_verdict(name):
    def fault(number, handler):
        if number in (1, 2, 4):
            FAULTS[name](handler)
            return True
        return False

    right, wrong = (
        trial("def f(x): return 2", "assert f(1) == 2"),
        trial("f = abs", "assert f(1)==2"),
    )
    with CodeServer(fault) as code_server:
        settings = ProgramsConfig(server=code_server.url, parallel=1)
        right, wrong = run_trials([right, wrong], settings=settings)
    assert right[0].passed
    assert not wrong[0].passed


def test_a_permanent_fault_gives_no_verdict():
    def fault(number, handler):
        if number >= 1:  # after the probe
            respond(handler, 500, b"")
        return number >= 1

    with CodeServer(fault) as code_server:
        settings = ProgramsConfig(server=code_server.url)
        (outcome,) = run_trials([trial("f = abs", "assert f(1) == 1")], settings=settings)
        assert outcome == Untested(f"rewards.programs.server={code_server.url}/run_code: HTTP 500")


def test_a_server_that_cannot_be_reached_is_refused_at_the_start():
    with CodeServer() as code_server:
        url = code_server.url
    with pytest.raises(SandboxError, match=r"rewards\.programs\.server=http.*ConnectError"):
        run_trials([trial("f = abs", "assert f(1) == 1")], settings=ProgramsConfig(server=url))


FORGED = [
    "",
    "MARK",
    "MARK{}",
    "MARK[]",
    "MARK" + "[" * 100_000,
    'MARK{"value": null}\nMARK{"value": {"eval": "2"}}',
    'MARK{"value": null}\nMARK{"raised": 3}',
    'MARK{"value": null}\nMARK{"value": [2]}',
    'MARK{"value": null}\nMARK{"value": {"kept": 0}}',
]


def test_forged_output_passes_no_test():
    def fault(number, handler):
        if number == 0:
            return False
        given = json.loads(code_server.requests[number]["stdin"])
        forged = FORGED[int(given["sources"][0].partition("#")[2])]
        body = json.dumps(reply(stdout="\n" + forged.replace("MARK", given["mark"]))).encode()
        respond(handler, 200, body)
        return True

    trials = [trial(f"f = abs #{number}", "assert f(1) == 2") for number in range(len(FORGED))]
    with CodeServer(fault) as code_server:
        outcomes = run_trials(trials, settings=ProgramsConfig(server=code_server.url, parallel=1))
    assert not any(outcome[0].passed for outcome in outcomes)
