"""A local copy of a run's directory in a bucket, where rows can be appended.

Objects cannot be appended to, so everything but the checkpoints is written to the copy, an ordinary
directory below the temporary one. `store` writes what has changed since to the bucket, each file as
a whole and as one step. A run does so before each checkpoint, and so a kill loses no row that a
checkpoint counts; later rows are written again by the resumed run.
"""

from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dvaojax import files
from dvaojax.run.bucket import Bucket
from dvaojax.run.lock import LEASE, LOCK


class _State(NamedTuple):
    """Size and time of a file that is equal to its object in the bucket."""

    size: int
    modified: int


class WorkingCopy:
    """The files of a directory in a bucket, without checkpoints and locks.

    Attributes:
        path: of the copy, which exists if there is anything in the bucket.
        bucket: the directory in the bucket.
    """

    def __init__(self, path: Path, bucket: Bucket):
        self.path, self.bucket = path, bucket
        self._generations: dict[str, str] = {}
        self._stored: dict[str, _State] = {}

    def fetch(self) -> None:
        """Makes the copy equal to the directory in the bucket."""
        objects = {name: g for name, g in self.bucket.generations().items() if _is_kept(name)}
        copied = {name: g for name, g in objects.items() if _is_copied(name)}
        for name in self._names():
            if name not in copied:
                (self.path / name).unlink()
        for name, generation in copied.items():
            if generation != self._generations.get(name) or not self._is_stored(name):
                self._fetch(name)
        self._generations = copied
        self._stored = {name: state for name, state in self._stored.items() if name in copied}
        for folder in {PurePosixPath(name).parts[0] for name in objects if "/" in name}:
            (self.path / folder).mkdir(parents=True, exist_ok=True)

    def store(self) -> None:
        """Makes the directory in the bucket equal to the copy.

        Files are written before others are deleted.
        """
        names = self._names()
        for name in names:
            if not self._is_stored(name):
                state = self._state(name)
                self.bucket.write(name, (self.path / name).read_bytes())
                self._stored[name] = state
                self._generations.pop(name, None)
        for name in sorted(self._stored.keys() - set(names)):
            self.bucket.delete(name)
            del self._stored[name]

    def delete_in_bucket(self, *, but: Collection[str] = ()) -> None:
        """Deletes the directory in the bucket with its checkpoints, but not the locks.

        Args:
            but: names of files that stay.
        """
        for name in self.bucket.generations():
            if name not in but and PurePosixPath(name).name != LEASE:
                self.bucket.delete(name)
                self._stored.pop(name, None)

    def _fetch(self, name: str) -> None:
        content, file = self.bucket.read(name), self.path / name
        if content is not None:  # not deleted in the meantime
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            self._stored[name] = self._state(name)

    def _is_stored(self, name: str) -> bool:
        return (self.path / name).is_file() and self._stored.get(name) == self._state(name)

    def _state(self, name: str) -> _State:
        status = (self.path / name).stat()
        return _State(status.st_size, status.st_mtime_ns)

    def _names(self) -> list[str]:
        """The files of the copy, by their sorted paths relative to it."""
        return sorted(
            file.relative_to(self.path).as_posix()
            for file in self.path.rglob("*")
            if file.is_file() and not file.is_symlink() and not file.name.startswith(LOCK)
        )


def _is_kept(name: str) -> bool:
    """Whether an object can be a file of the directory, and is no lock."""
    parts = name.split("/")
    return not {"", ".", ".."} & set(parts) and not parts[-1].startswith(LOCK)


def _is_copied(name: str) -> bool:
    """Whether an object is no part of a checkpoint."""
    return not name.startswith(f"{files.CHECKPOINTS}/")
