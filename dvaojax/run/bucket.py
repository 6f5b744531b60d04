"""A directory in a bucket, `gs://bucket/directory`: objects that are read and written whole.

gcsfs, through which `etils.epath` and so Orbax reach buckets, sends the requests. Those that fail
or are not answered are sent again, with longer and longer waits; the last failure is one line.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from etils import epath

from dvaojax import hub
from dvaojax.errors import UserError, error_chain

NOTHING = "0"
"""The generation of an object that does not exist."""

_DAMAGE = re.compile(r"NOT_FOUND|DATA_LOSS|FAILED_PRECONDITION|[Nn]ot found|does not exist|CRC")

_BOUNDARY = "parts-of-the-request"


class Bucket:
    """Objects below a directory of a bucket, by their paths relative to it."""

    def __init__(self, address: epath.Path):
        """Opens the directory; nothing is read.

        Args:
            address: such as `gs://bucket/runs/NAME`.

        Raises:
            UserError: gcsfs is not installed, it has no credentials, or the address is incomplete.
        """
        hub.prepare_access()
        self.address = address
        self._path = str(address).removeprefix(hub.PROTOCOL).rstrip("/")
        if not all(self._path.partition("/")):
            raise UserError(f"{address} is no directory in a bucket, such as gs://BUCKET/runs")
        self._system: Any = self._answer(lambda: fsspec.filesystem("gs"))

    def generations(self) -> dict[str, str]:
        """The objects by name, each with what identifies its present content.

        Raises:
            UserError: there is no such bucket.
        """
        try:
            listing = self._answer(lambda: self._system.find(self._path, detail=True))
        except FileNotFoundError as error:
            bucket = self._path.partition("/")[0]
            raise UserError(f"{self.address}: there is no bucket {bucket}") from error
        start = f"{self._path}/"
        return {
            path.removeprefix(start): str(entry["generation"])
            for path, entry in sorted(listing.items())
            if path.startswith(start)
        }

    def read(self, name: str) -> bytes | None:
        """The content of an object; None if there is none of that name."""
        try:
            return self._answer(lambda: self._system.cat_file(f"{self._path}/{name}"))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Writes an object: readers see the old content or the new, never a part."""
        self._answer(lambda: self._system.pipe_file(f"{self._path}/{name}", content))

    def generation(self, name: str) -> str:
        """Identifies the present content of an object; "0" if there is none."""
        try:
            entry = self._answer(lambda: self._system.info(f"{self._path}/{name}"))
        except FileNotFoundError:
            return NOTHING
        return str(entry.get("generation", NOTHING))

    def write_if(self, name: str, content: bytes, *, generation: str) -> str | None:
        """Writes an object if it is still of a generation, as one step.

        Args:
            name: of the object.
            content: differs from what any other process writes.
            generation: as read; "0" if there must be no object.

        Returns:
            The generation that was written; None if the object was of another one.
        """
        bucket, _, key = f"{self._path}/{name}".partition("/")
        named = json.dumps({"name": key}).encode()
        start = f"--{_BOUNDARY}\r\nContent-Type: application/".encode()
        body = [start, b"json\r\n\r\n", named, b"\r\n", start, b"octet-stream\r\n\r\n", content]
        try:
            described = self._answer(
                lambda: self._system.call(
                    "POST",
                    f"{self._system.base.replace('/storage/', '/upload/storage/')}b/{bucket}/o",
                    uploadType="multipart",
                    ifGenerationMatch=generation,
                    headers={"Content-Type": f"multipart/related; boundary={_BOUNDARY}"},
                    data=b"".join([*body, f"\r\n--{_BOUNDARY}--".encode()]),
                    json_out=True,
                )
            )
        except FileExistsError:  # of another generation; or this was sent twice
            written = self.generation(name)
            return written if self.read(name) == content else None
        return str(described["generation"])

    def delete(self, name: str) -> None:
        """Deletes an object; nothing happens if there is none."""
        try:
            self._answer(lambda: self._system.rm_file(f"{self._path}/{name}"))
        except FileNotFoundError:
            return

    def _answer(self, send: Callable[[], Any]) -> Any:
        """The answer to a request.

        Raises:
            FileNotFoundError, FileExistsError: the object does not exist, or does.
            UserError: the server refuses the request.
            ServiceError: there is no answer, or errors only.
        """
        try:
            return send()
        except (FileNotFoundError, FileExistsError):
            raise
        except Exception as error:  # of aiohttp, requests, google.auth, or gcsfs
            raise hub.failure(self.address, error) from error


def absolute(path: Path | epath.Path) -> Path | epath.Path:
    """A path that does not depend on the working directory; addresses in buckets are such paths."""
    return path.absolute() if isinstance(path, Path) else path


def is_damage(error: BaseException) -> bool:
    """Whether an error of reading says that an object is missing or damaged.

    Any other may be one of the server or of the network.
    """
    parts = list(error_chain(error))
    return any(
        isinstance(part, FileNotFoundError | json.JSONDecodeError | KeyError)
        or _DAMAGE.search(str(part)) is not None
        for part in parts
    )
