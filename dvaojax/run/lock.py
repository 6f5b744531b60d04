"""Exclusive use of a directory: one process at a time, on all hosts that share a file system.

The file `.lock` in the directory names the process. Where the file system has locks (`flock` on
local disks, NFS, Lustre with `-o flock`), the operating system holds the lock and releases it when
the process ends, however it ends. Elsewhere the file `.lock.lease` is a lease: the process renews
it as long as it runs, and others take it once it was not renewed for `LEASE_SECONDS`. File systems
in user space (gcsfuse, sshfs) get a lease, because their locks may not reach other hosts.
"""

import abc
import contextlib
import dataclasses
import datetime
import errno
import json
import math
import os
import platform
import threading
import time
import uuid
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from etils import epath

from dvaojax import files
from dvaojax.errors import ServiceError, UserError, writing

try:
    import fcntl
except ImportError:  # not on Windows, which then uses leases
    fcntl = None

LOCK = ".lock"
_LEASE = "{}.lease"
LEASE = _LEASE.format(LOCK)
FILES = frozenset({LOCK, LEASE, files.partial_path(Path(LEASE)).name})
"""Names that a lock may leave in its directory after a kill."""

LEASE_SECONDS = 120.0
_RENEWAL_SECONDS = 20.0
_SETTLE_SECONDS = 0.5  # until two processes that took an expired lease at once see who was last

_BUSY = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK}
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


class DirectoryLock(abc.ABC):
    """A directory that this process may use alone, until `release`."""

    @abc.abstractmethod
    def is_held(self) -> bool:
        """Whether no other process can have taken the directory; writers of state ask this."""

    @abc.abstractmethod
    def release(self) -> None:
        """Gives the directory back."""


class RenewedLock(DirectoryLock):
    """A record of this process, which a thread renews until the lock is released."""

    def __init__(self, *, lasts: float, every: float, since: float):
        """Begins to renew the record.

        Args:
            lasts: seconds after which others take a record that was not renewed.
            every: seconds between renewals.
            since: monotonic time before the record was written.
        """
        self._lasts, self._every, self._renewed = lasts, every, since
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew_regularly, daemon=True, name="lease")
        self._thread.start()

    def is_held(self) -> bool:
        """Whether the record was renewed so recently that no other process can have taken it."""
        return time.monotonic() - self._renewed < self._lasts

    def release(self) -> None:
        """Ends the renewals, and removes the record."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join(self._every)
            self._remove()

    def _renew_regularly(self) -> None:
        while not self._stop.wait(self._every):
            # A failed attempt is repeated; a record that another process took is left to it.
            with contextlib.suppress(OSError, ServiceError, UserError):
                if not self._renew():
                    self._renewed = -math.inf
                    return

    @abc.abstractmethod
    def _renew(self) -> bool:
        """Renews the record and sets `_renewed`; false if another process has taken it."""

    @abc.abstractmethod
    def _remove(self) -> None:
        """Removes the record, unless another process has taken it."""


class _SystemLock(DirectoryLock):
    """A lock of the operating system, which a kill releases."""

    def __init__(self, path: Path, descriptor: int):
        self._path = path
        self._descriptor: int | None = descriptor
        _system_locks.add(self)

    def is_held(self) -> bool:
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            if _is_file_of(self._descriptor, self._path):  # not that of another process
                self._path.unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Closes this process's descriptor; the lock ends with the last one."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _Lease(RenewedLock):
    """A file that names the process."""

    def __init__(self, path: Path, record: Mapping[str, Any]):
        self._path, self._record = path, record
        super().__init__(lasts=LEASE_SECONDS, every=_RENEWAL_SECONDS, since=time.monotonic())

    def _renew(self) -> bool:
        begun = time.monotonic()
        if not _is_same(_read(self._path), self._record):
            return False
        files.write_json(self._path, {**self._record, "renewed": time.time()})
        self._renewed = begun
        return True

    def _remove(self) -> None:
        if _is_same(_read(self._path), self._record):
            self._path.unlink(missing_ok=True)


_system_locks: weakref.WeakSet[_SystemLock] = weakref.WeakSet()


def _close_in_child() -> None:
    """Worker processes must not keep the lock of a trainer that was killed."""
    for lock in list(_system_locks):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def take(directory: Path, *, name: str = LOCK) -> DirectoryLock:
    """Takes a directory, which is created if it does not exist.

    Args:
        directory: to use alone.
        name: of the file in it; different names are different locks.

    Raises:
        UserError: another process uses it, or it cannot be written.
    """
    path = directory / name
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = None if _is_in_user_space(directory) else _lock_file(path)
        if descriptor is None:
            return _take_lease(path.with_name(_LEASE.format(name)))
        lock = _SystemLock(path, descriptor)
        try:
            os.truncate(descriptor, 0)
            os.write(descriptor, json.dumps(describe_process()).encode())
        except OSError:
            lock.release()
            raise
        return lock


@contextlib.contextmanager
def hold(directory: Path, *, name: str = LOCK) -> Iterator[DirectoryLock]:
    """Like `take`, as a context manager; removes a new directory if nothing was written to it."""
    with files.removing_empty(directory):
        lock = take(directory, name=name)
        try:
            yield lock
        finally:
            lock.release()


def _lock_file(path: Path) -> int | None:
    """A descriptor with the lock of the operating system; None if the file system has none."""
    if fcntl is None:
        return None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before may have removed the file between the two calls.
            if _is_file_of(descriptor, path):
                return descriptor
        except OSError as error:
            os.close(descriptor)
            if error.errno in _BUSY:
                raise in_use(path, _read(path)) from error
            if error.errno in _NO_LOCKS:
                path.unlink(missing_ok=True)
                return None
            raise
        os.close(descriptor)


def _is_file_of(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _take_lease(path: Path) -> DirectoryLock:
    own = {"scope": scope(), "renewed": time.time(), "token": uuid.uuid4().hex}
    record = {**describe_process(), **own}
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(record, file)
    except FileExistsError:
        if _is_alive(path):
            raise in_use(path, _read(path)) from None
        files.write_json(path, record)
        time.sleep(_SETTLE_SECONDS)
        if not _is_same(_read(path), record):
            raise in_use(path, _read(path)) from None
    return _Lease(path, record)


def _is_alive(path: Path) -> bool:
    """Whether the process that a lease names may still run."""
    record = _read(path)
    if record.get("scope") == scope() and not runs(record.get("process")):
        return False
    renewed = record.get("renewed")
    if not isinstance(renewed, int | float):  # it is just being written
        renewed = path.stat().st_mtime
    return time.time() - renewed < LEASE_SECONDS


def runs(process: Any) -> bool:
    """Whether a process of this host exists, by its number."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, TypeError, ValueError, OverflowError):
        return False
    except OSError:
        return True
    return True


def in_use(path: Path | epath.Path, record: Mapping[str, Any]) -> UserError:
    """The error of a directory that another process uses.

    Args:
        path: of the lock's file in it.
        record: its content.
    """
    by = "another process"
    if record:
        by = f"process {record.get('process')} on {record.get('host')} since {record.get('since')}"
    lease = f", or remove {path} if it no longer runs" if "token" in record else ""
    return UserError(f"{path.parent} is in use by {by}: wait until it has ended{lease}")


def describe_process() -> dict[str, Any]:
    """Number, host and time of this process, for the file of a lock."""
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"process": os.getpid(), "host": platform.node(), "since": since}


def scope() -> str:
    """Identifies the system, and on Linux the container, in which a process number has a meaning.

    Containers may have the name of their host.
    """
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            os.readlink("/proc/self/ns/pid"),
        ]
    return " ".join(parts)


def _read(path: Path) -> dict[str, Any]:
    """The record in a lock's file; empty if it is just being written."""
    with contextlib.suppress(OSError, ValueError):
        record = json.loads(path.read_bytes())
        return record if isinstance(record, dict) else {}
    return {}


def _is_same(record: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
    return record.get("token") == mine["token"]


@dataclasses.dataclass(frozen=True)
class _Mount:
    """A line of `/proc/self/mountinfo`."""

    point: Path
    kind: str


def _is_in_user_space(directory: Path) -> bool:
    """Whether the directory is on a FUSE file system; False where that is not known."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    mounts = [_parse_mount(line) for line in lines]
    place = directory.resolve()
    around = [mount for mount in mounts if place.is_relative_to(mount.point)]
    inner = max(around, key=lambda mount: len(mount.point.parts), default=None)
    return inner is not None and inner.kind.partition(".")[0] == "fuse"


def _parse_mount(line: str) -> _Mount:
    mounted, _, source = line.partition(" - ")
    point = mounted.split()[4].encode().decode("unicode_escape")  # spaces are written as \040
    return _Mount(Path(point), source.split()[0])
