"""A directory belongs to one process, which a kill of that process ends."""

import contextlib
import errno
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time

import pytest
from tiny_run import child_environment

from dvaojax.errors import UserError
from dvaojax.run import lock

HOLD = """
import os, sys, time
from pathlib import Path
from unittest import mock
from dvaojax.run import lock
if sys.argv[2] == "lease":
    mock.patch.object(lock, "_is_in_user_space", return_value=True).start()
held = lock.take(Path(sys.argv[1]))
forked = os.fork() if sys.argv[3] == "fork" else None
if forked != 0:
    print("held" if forked is None else forked, flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def holder(directory, *, kind="system", fork="no"):
    """A child process that holds the directory."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, directory, kind, fork],
        env=child_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    with child.stdout:
        try:
            yield child
        finally:
            child.kill()
            child.wait()


@pytest.fixture
def in_user_space(monkeypatch):
    """As if all directories were on a file system whose locks do not reach other hosts."""
    monkeypatch.setattr(lock, "_is_in_user_space", lambda directory: True)


def in_use_by(process):
    return re.escape(f"is in use by process {process} on {platform.node()} since ")


def test_a_second_taker_is_refused_and_a_kill_releases_the_lock(tmp_path):
    directory = tmp_path / "runs" / "a"
    with holder(directory) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=in_use_by(child.pid)) as refusal:
            lock.take(directory)
        assert "\n" not in str(refusal.value)
        assert (directory / lock.LOCK).exists()
        child.kill()
        child.wait()
        # The file that the killed process left does no harm.
        with lock.hold(directory), pytest.raises(UserError, match=in_use_by(os.getpid())):
            lock.take(directory)
    assert list(directory.iterdir()) == []


def test_a_forked_process_does_not_keep_the_lock_of_a_killed_one(tmp_path):
    """Workers that score rewards may live longer than a trainer that was killed."""
    with holder(tmp_path, fork="fork") as child:
        forked = int(child.stdout.readline())
        with pytest.raises(UserError, match="is in use by process"):
            lock.take(tmp_path)
        child.kill()
        child.wait()
        try:
            os.kill(forked, 0)  # it still runs
            lock.take(tmp_path).release()
        finally:
            os.kill(forked, signal.SIGKILL)


def test_a_lock_whose_file_was_removed_in_between_is_not_held_twice(tmp_path, monkeypatch):
    """The holder before removes the file after this process opened it and before it locks it."""
    first, flock = lock.take(tmp_path), lock.fcntl.flock
    calls = []

    def release_then_flock(descriptor, operation):
        if not calls:
            first.release()
        calls.append(descriptor)
        flock(descriptor, operation)

    monkeypatch.setattr(lock.fcntl, "flock", release_then_flock)
    second = lock.take(tmp_path)
    assert len(calls) == 2  # the first descriptor was that of the removed file
    monkeypatch.undo()
    with pytest.raises(UserError, match=in_use_by(os.getpid())):
        lock.take(tmp_path)
    second.release()
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_names_are_different_locks(tmp_path):
    with (
        lock.hold(tmp_path),
        lock.hold(tmp_path, name=".lock-1"),
        pytest.raises(UserError, match="in use"),
    ):
        lock.take(tmp_path, name=".lock-1")


def test_a_new_directory_without_content_is_removed(tmp_path):
    with lock.hold(tmp_path / "empty"):
        pass
    with lock.hold(tmp_path / "used"):
        (tmp_path / "used" / "file").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["used"]


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "a", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match="cannot be written: ") as refusal:
            lock.take(path)
        assert "\n" not in str(refusal.value)


def test_a_lease_of_a_running_process_is_refused_and_that_of_a_killed_one_taken(
    tmp_path, in_user_space, monkeypatch
):
    monkeypatch.setattr(lock, "_SETTLE_SECONDS", 0.01)
    with holder(tmp_path, kind="lease") as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=in_use_by(child.pid) + ".*or remove .*lock.lease"):
            lock.take(tmp_path)
        child.kill()
        child.wait()
        with lock.hold(tmp_path) as held:
            assert held.is_held()
            record = json.loads((tmp_path / ".lock.lease").read_text())
            assert record["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_lease_of_another_host_is_taken_when_it_was_not_renewed(
    tmp_path, in_user_space, monkeypatch
):
    """Whether its process runs cannot be asked there."""
    monkeypatch.setattr(lock, "_SETTLE_SECONDS", 0.01)
    record = {"process": os.getpid(), "host": "elsewhere", "since": "2026-01-01", "scope": "x"}
    path = tmp_path / ".lock.lease"
    path.write_text(json.dumps({**record, "renewed": time.time() - lock.LEASE_SECONDS / 2}))
    with pytest.raises(UserError, match=rf"process {os.getpid()} on elsewhere since 2026-01-01"):
        lock.take(tmp_path)
    path.write_text(json.dumps({**record, "renewed": time.time() - lock.LEASE_SECONDS - 1}))
    lock.take(tmp_path).release()
    path.write_text("")  # it is just being written
    with pytest.raises(UserError, match="in use by another process"):
        lock.take(tmp_path)
    os.utime(path, (0, 0))
    lock.take(tmp_path).release()


def test_a_lease_is_renewed_and_given_up_when_another_process_took_it(
    tmp_path, in_user_space, monkeypatch
):
    monkeypatch.setattr(lock, "_RENEWAL_SECONDS", 0.01)
    path = tmp_path / ".lock.lease"
    held = lock.take(tmp_path)
    first = json.loads(path.read_text())["renewed"]
    wait_until(lambda: json.loads(path.read_text())["renewed"] > first)
    assert held.is_held()
    other = json.dumps({"token": "other", "process": 1, "host": "elsewhere"})
    replacement = tmp_path / "replacement"
    wait_until(
        lambda: replacement.write_text(other) and replacement.replace(path) and not held.is_held()
    )
    held.release()
    assert path.read_text() == other


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_file_systems_without_locks_get_a_lease(tmp_path, monkeypatch, number):
    def fail(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", fail)
    with lock.hold(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock.lease"]
        with pytest.raises(UserError, match=in_use_by(os.getpid())):
            lock.take(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_mounts_in_user_space_are_found(tmp_path, monkeypatch):
    lines = [
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
        rf"40 22 0:33 / {tmp_path}/my\040bucket rw,nosuid - fuse.gcsfuse bucket rw,user_id=0",
        f"41 40 8:1 / {tmp_path}/my\\040bucket/disk rw - ext4 /dev/sda1 rw",
        f"42 22 0:34 / {tmp_path}/nfs rw shared:1 master:2 - nfs4 server:/ rw",
    ]
    monkeypatch.setattr(lock.Path, "read_text", lambda path: "\n".join(lines))
    are_found = [
        lock._is_in_user_space(tmp_path / name)
        for name in ("", "my bucket", "my bucket/runs/a", "my bucket/disk/a", "nfs/a", "my")
    ]
    assert are_found == [False, True, True, False, False, False]
