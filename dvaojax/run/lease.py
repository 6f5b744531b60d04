"""Exclusive use of a directory in a bucket: one process at a time.

The object `.lock.lease` in the directory names the process, which renews it as long as it runs.
Every write of it is conditional on the version that was read, so that one of two processes wins.
Another process takes a lease that was not renewed while it watched for `LEASE_SECONDS`; clocks of
different hosts are not compared. On the same host a process that has ended loses its lease at once.
"""

import contextlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from dvaojax.errors import ServiceError, UserError
from dvaojax.run.bucket import NOTHING, Bucket
from dvaojax.run.lock import RenewedLock, describe_process, in_use, runs, scope
from dvaojax.run.working_copy import LEASE

LEASE_SECONDS = 60.0
_RENEWAL_SECONDS = 10.0
_POLL_SECONDS = 1.0


class BucketLease(RenewedLock):
    """An object that names this process."""

    def __init__(
        self, bucket: Bucket, name: str, record: Mapping[str, Any], generation: str, since: float
    ):
        """Begins to renew the lease; see `take`.

        Args:
            bucket: the directory.
            name: of the object.
            record: its content.
            generation: of the object, just written.
            since: monotonic time before it was written.
        """
        self._bucket, self._name, self._record = bucket, name, record
        self._generation = generation
        super().__init__(lasts=LEASE_SECONDS, every=_RENEWAL_SECONDS, since=since)

    def _renew(self) -> bool:
        begun = time.monotonic()
        content = _encoded({**self._record, "renewal": uuid.uuid4().hex})
        written = self._bucket.write_if(self._name, content, generation=self._generation)
        if written is None:
            return self._was_written()
        self._generation, self._renewed = written, begun
        return True

    def _remove(self) -> None:
        with contextlib.suppress(ServiceError, UserError):  # otherwise it expires
            if self._bucket.generation(self._name) == self._generation:
                self._bucket.delete(self._name)

    def _was_written(self) -> bool:
        """Whether the object is of this process, after a write of which the answer was lost."""
        generation = self._bucket.generation(self._name)
        if _decoded(self._bucket.read(self._name)).get("token") != self._record["token"]:
            return False
        self._generation = generation
        return True


def take(bucket: Bucket, *, name: str = LEASE) -> BucketLease:
    """Takes a directory in a bucket.

    Args:
        bucket: the directory.
        name: of the object; different names are different locks.

    Raises:
        UserError: another process uses it.
        ServiceError: the bucket does not answer.
    """
    record = {**describe_process(), "scope": scope(), "token": uuid.uuid4().hex}
    while True:
        generation = bucket.generation(name)
        holder = _decoded(bucket.read(name))
        if holder:
            _wait_until_free(bucket, name, generation, holder)
        begun = time.monotonic()
        written = bucket.write_if(name, _encoded(record), generation=generation)
        if written is not None:
            return BucketLease(bucket, name, record, written, begun)


@contextlib.contextmanager
def hold(bucket: Bucket, *, name: str = LEASE) -> Iterator[BucketLease]:
    """Like `take`, as a context manager."""
    lease = take(bucket, name=name)
    try:
        yield lease
    finally:
        lease.release()


def check_unused(bucket: Bucket, below: str) -> None:
    """Checks that no process holds a lease in a subdirectory.

    Raises:
        UserError: one does.
    """
    for name in bucket.generations():
        if name.startswith(f"{below}/") and PurePosixPath(name).name == LEASE:
            take(bucket, name=name).release()


def _wait_until_free(bucket: Bucket, name: str, generation: str, holder: Mapping[str, Any]) -> None:
    """Returns once the holder of a lease has ended, has given it back, or does not renew it.

    Raises:
        UserError: it renews it.
    """
    if holder.get("scope") == scope() and not runs(holder.get("process")):
        return
    deadline = time.monotonic() + LEASE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        now = bucket.generation(name)
        if now == NOTHING:
            return
        if now != generation:
            raise in_use(bucket.address / name, holder)


def _encoded(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode()


def _decoded(content: bytes | None) -> dict[str, Any]:
    with contextlib.suppress(ValueError, TypeError):
        record = json.loads(content or b"")
        return record if isinstance(record, dict) else {}
    return {}
