"""Replies of a judge on disk, so that nothing is asked and paid for twice."""

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
    """The key of a request: a hash of its model, messages and parameters."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


class ReplyCache:
    """One SQLite file of replies; several threads and processes may share it.

    It is opened for each batch of questions and holds nothing open between them.
    """

    def __init__(self, path: Path):
        """Makes the file where there is none.

        Raises:
            UserError: it cannot be made, or is not a cache.
        """
        self._path = path
        with self._open():
            pass

    @contextlib.contextmanager
    def session(self) -> Iterator["ReplySession"]:
        """The cache, open.

        Raises:
            UserError: it is damaged, or stays locked by another process.
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
                f"judge.cache={self._path}: {error}; delete the file, or name another"
            ) from error


class ReplySession:
    """An open cache."""

    def __init__(self, connection: sqlite3.Connection):
        self._connection = connection

    def get(self, key: str) -> str | None:
        """The reply to a request, or None where there is none."""
        found = self._connection.execute("SELECT text FROM replies WHERE key = ?", (key,))
        row = found.fetchone()
        return None if row is None else row[0]

    def put(self, key: str, text: str) -> None:
        """Keeps a reply; the first of two to the same request stays."""
        self._connection.execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (key, text))
