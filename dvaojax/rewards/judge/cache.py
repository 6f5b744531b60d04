"""On-disk cache of a judge's replies, so that no question is sent twice."""

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dvaojax.errors import UserError

_WAIT_SECONDS = 60.0


def request_key(request: Mapping[str, Any]) -> str:
    """Key of a request: a hash of its model, messages and parameters."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


class ReplyCache:
    """One SQLite file of replies; several threads and processes may share it.

    It is opened for each batch of questions and closed in between.
    """

    def __init__(self, path: Path):
        """Creates the file if it does not exist.

        Raises:
            UserError: it cannot be created, or is not a cache.
        """
        self._path = path
        with self._open():
            pass

    @contextlib.contextmanager
    def session(self) -> Iterator["ReplySession"]:
        """Opens the cache.

        Raises:
            UserError: it is damaged, or remains locked by another process.
        """
        with self._open() as connection:
            yield ReplySession(connection)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self._path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            with contextlib.closing(connection):
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT NOT NULL)"
                )
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise UserError(
                f"judge.cache={self._path}: {error}; delete the file, or choose another"
            ) from error


class ReplySession:
    """An open cache."""

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection

    def get(self, key: str) -> str | None:
        """The reply to a request, or None if there is none."""
        rows = self._connection.execute("SELECT text FROM replies WHERE key = ?", (key,))
        row = rows.fetchone()
        return row[0] if row is not None and isinstance(row[0], str) else None

    def put(self, key: str, text: str) -> None:
        """Stores a reply; an existing reply to the same request is kept."""
        self._connection.execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (key, text))
