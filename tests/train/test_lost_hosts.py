"""A process of a run is lost or fails: the others end, with one line that says how to continue."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from tiny_run import HELPERS, child_environment

from dvaojax import files
from dvaojax.rewards import RewardError
from dvaojax.run.rows import read_rows
from dvaojax.train import host_watch
from dvaojax.train.host_watch import HostFailure, HostWatch
from dvaojax.train.interrupts import Interrupted


class Store:
    """The part of JAX's key-value store that a watch uses, shared by watches of one process."""

    def __init__(self):
        self.entries, self.is_reachable = {}, True

    def key_value_set(self, key, value, allow_overwrite=False):
        self._answer()
        if key in self.entries and not allow_overwrite:
            raise RuntimeError("ALREADY_EXISTS")
        self.entries[key] = value

    def key_value_dir_get(self, prefix):
        self._answer()
        return [(key, value) for key, value in self.entries.items() if key.startswith(prefix)]

    def _answer(self):
        if not self.is_reachable:
            raise RuntimeError("UNAVAILABLE")


class Ended(Exception):
    """A watch ended its process, with this line and this exit code."""


@pytest.fixture
def watches(tmp_path, monkeypatch):
    """A function that makes the watch of a process, which is one of three; and their store."""
    store, ends = Store(), {}
    monkeypatch.setattr(host_watch, "_GRACE_SECONDS", 0.3)
    (tmp_path / "mini" / files.CHECKPOINTS / "7").mkdir(parents=True)

    def make(process):
        state = SimpleNamespace(client=store, process_id=process, num_processes=3)
        monkeypatch.setattr(host_watch.distributed, "global_state", state)
        monkeypatch.setattr(host_watch, "_numbers", iter([0]))
        watch = HostWatch(1.2, tmp_path / "mini")

        def end_at_once(line, code):
            ends.setdefault(process, (line, code))
            watch._closed.set()

        watch.end_at_once = end_at_once
        return watch

    return make, store, ends


def wait_for(condition):
    waiting = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < waiting
        time.sleep(0.02)


def test_all_processes_name_the_one_that_gives_no_sign(watches, tmp_path):
    make, store, ends = watches
    first, second, third = map(make, range(3))
    with first, second:
        with third:
            time.sleep(1.5)
            assert not ends, "signs of life come in time"
            third._closed.set()  # its threads stop, as those of a process that was killed
            third._threads[0].join()
            third._own_key = lambda: "nowhere"  # and it does not say that it ended
        wait_for(lambda: {0, 1} <= ends.keys())
    line, code = ends[0]
    assert ends[1] == ends[0]
    assert code == 75
    assert line.startswith("process 2 of 3 on ")
    assert "was lost: no sign of life for 1.2 s; checkpoint 7 is complete in" in line
    assert line.endswith("with the same command and --resume=auto on all hosts")
    assert json.loads(store.entries["dvaojax/watch/0/common/failure"])["process"] == 2


def test_a_process_that_has_ended_is_not_lost(watches):
    make, _, ends = watches
    first, second, third = map(make, range(3))
    with first:
        with second, third:
            time.sleep(0.3)
        time.sleep(2.0)
    assert not ends


def test_without_the_store_process_0_is_lost(watches):
    make, store, ends = watches
    with make(1):
        wait_for(lambda: "dvaojax/watch/0/signs/1" in store.entries)
        store.is_reachable = False
        wait_for(lambda: ends)
    assert ends[1][0].startswith("process 0 of 3")
    assert ends[1][1] == 75


def test_a_process_that_was_stopped_itself_finds_no_other_lost(watches, monkeypatch):
    """Its clock has jumped by a minute when it continues."""
    make, _, ends = watches
    clock = time.monotonic
    with make(0), make(1), make(2):
        time.sleep(0.3)
        monkeypatch.setattr(time, "monotonic", lambda: clock() + 60)
        time.sleep(1.0)
        assert not ends
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("seven"), "process 1 of 3 on HOST failed: ValueError: seven;"),
        (RewardError("Connection reset"), "failed: RewardError: Connection reset;"),
        (Interrupted(signal.SIGTERM, "saved"), None),
    ],
)
def test_a_failure_reaches_the_others(watches, error, line):
    make, _, ends = watches
    first, second = make(0), make(1)
    with first:
        with contextlib.suppress(type(error)), second:
            raise error
        assert second.has_failed == (line is not None)
        if line is None:
            time.sleep(0.5)
            assert not ends
            return
        wait_for(lambda: ends)
    printed, code = ends[0]
    assert line.replace("HOST", os.uname().nodename) in printed
    assert "--resume=auto, once the cause is removed" in printed
    assert code == 1


def test_a_failure_that_all_processes_raise_ends_none_of_them_early(watches):
    """Each ends by itself, with its own message."""
    make, _, ends = watches
    with contextlib.suppress(ValueError), make(0):
        with contextlib.suppress(ValueError), make(1):
            raise ValueError
        raise ValueError
    assert not ends


def test_a_broken_connection_waits_for_the_name_of_the_lost_process(watches):
    make, _, ends = watches
    first, second = make(0), make(1)
    with first, contextlib.suppress(ValueError), second:
        second.report(ValueError("Gloo AllGather failed: Connection reset by peer"))
        raise ValueError
    assert ends[0][0].startswith("process 2 of 3 was lost"), "it never gave a sign"
    assert ends[1][0].startswith("process 2 of 3 was lost")


def test_failures_survive_the_store():
    failure = HostFailure(2, "host", is_lost=True, message="é\n")
    assert HostFailure(**json.loads(json.dumps(dataclasses.asdict(failure)))) == failure


def test_output_and_aborts_of_libraries(tmp_path):
    """In a process of its own, a thread writes to descriptor 2 and aborts while Python waits."""
    program = f"""
import ctypes, os, sys, threading
from dvaojax.run.native_output import calling_on_abort, written_to

def abort():
    os.write(2, b"trace of a library\\n")
    ctypes.CDLL(None).abort()

def end():
    os.write(screen, b"one line\\n")
    os._exit(75)

with written_to({str(tmp_path / "log")!r}) as screen, calling_on_abort(end):
    print("of Python", file=sys.stderr)
    threading.Thread(target=abort).start()
    ctypes.CDLL(None).sleep(20)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (75, "of Python\none line\n")
    assert (tmp_path / "log").read_text() == "trace of a library\n"
    program = program.replace("    threading.Thread(", "    raise SystemExit(3)  # ")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "of Python\n")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def ends_of(commands, variables, *, faulty, limit):
    """Exit code, errors and seconds of each process after the faulty one has stopped or ended."""
    environment = {**child_environment(), **variables}
    started = [
        subprocess.Popen(
            command, env={**environment, **own}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for command, own in commands
    ]
    others = [process for i, process in enumerate(started) if i != faulty]
    begun, since, seconds = time.monotonic(), None, {}
    try:
        while any(process.poll() is None for process in others):
            assert time.monotonic() - begun < limit
            if since is None and (state(started[faulty].pid) in "TZ"):
                since = time.monotonic()
            time.sleep(0.05)
            for process in others:
                if process.poll() is not None:
                    seconds.setdefault(process, time.monotonic() - since if since else 0.0)
    finally:
        for process in started:
            process.kill()
    errors = [process.communicate()[1].decode() for process in started]
    return [
        (process.returncode, text, seconds.get(process, 0.0))
        for process, text in zip(started, errors, strict=True)
    ]


def state(pid):
    """The state of a process, such as T for stopped and Z for ended."""
    with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]
    return "Z"


@pytest.mark.slow
def test_process_0_is_killed(tmp_path):
    """JAX then aborts the others, with traces of C++ that do not reach the screen."""
    (tmp_path / "mini").mkdir()
    port = free_port()
    commands = [
        ([sys.executable, HELPERS / "host_child.py", port, "2", str(i), "watch", tmp_path], {})
        for i in range(2)
    ]
    variables = {"PROCESS": "0", "FAULT": "kill"}
    (code, _, _), (other, errors, seconds) = ends_of(commands, variables, faulty=0, limit=120)
    assert (code, other) == (-signal.SIGKILL, 75)
    assert seconds < 10
    lines = [line for line in errors.splitlines() if line.startswith("dvaojax")]
    assert len(lines) == 1
    assert lines[0].startswith("dvaojax: process 0 of 2 on ")
    assert "no checkpoint is complete" in lines[0]
    assert "stack trace" not in errors
    assert lines[0] in (tmp_path / "mini" / files.ERRORS).read_text()


FAULTS = [
    *[
        (2, fault, moment)
        for fault in ("kill", "stop", "raise")
        for moment in ("compile", "rollout", "save")
    ],
    (2, "disk", "save"),
    (0, "kill", "rollout"),
    (0, "stop", "rollout"),
]


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize(("process", "fault", "moment"), FAULTS)
def test_four_processes(tmp_path, process, fault, moment):
    port = free_port()
    options = ["--distributed", "--resume=auto", "--runs", tmp_path, "--set", "lost_host_seconds=8"]
    command = [sys.executable, "-m", "dvaojax", "train", HELPERS / "faulty_host.py", *options]
    variables = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "4",
        "JAX_NUM_CPU_DEVICES": "2",
        **{"PROCESS": str(process), "FAULT": fault, "MOMENT": moment},
    }
    commands = [(command, {"JAX_PROCESS_ID": str(i)}) for i in range(4)]
    ends = ends_of(commands, variables, faulty=process, limit=500)
    codes = {code for i, (code, _, _) in enumerate(ends) if i != process}
    assert codes == ({75} if fault in ("kill", "stop") else {1}), ends
    cause = {"raise": "the fault of this test", "disk": "File too large"}.get(fault, "was lost")
    for i, (_, errors, seconds) in enumerate(ends):
        if i == process and fault in ("kill", "stop"):
            continue
        lines = [line for line in errors.splitlines() if line.startswith("dvaojax")]
        assert len(lines) == 1, errors
        assert "stack trace" not in errors
        if i != process:
            assert f"process {process}" in lines[0]
            assert seconds < 40
            assert cause in lines[0] or "see the output" in lines[0]
    steps = [*read_rows(tmp_path / "mini" / files.METRICS)] if moment != "compile" else []
    assert [row["step"] for row in steps] == list(range(1, len(steps) + 1))
