"""Files of a published model: in a directory, a bucket, or a repository of the Hugging Face hub.

Of a bucket, small files are copied to a directory of this machine, for libraries that read local
files only. Weights stay there: `tensors` reads the bytes that it needs.
"""

import contextlib
import fnmatch
import functools
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
import fsspec.config

from dvaojax.errors import (
    ServiceError,
    UserError,
    first_line,
    import_extra,
    root_cause,
    writing,
)

# The files of a tokenizer, and those that name the model's end-of-turn tokens.
TEXT_FILES = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "generation_config.json",
    "config.json",
)
WEIGHT_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")

_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://")
PROTOCOL = "gs://"
"""Addresses of Google Cloud Storage begin so."""

_ANSWER_SECONDS = 30.0  # without a byte, after which a request is sent again

_REPEATABLE = ("408", "429")  # of the codes of HTTP for errors of the client

_TENSORSTORE = {
    "TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": f"{_ANSWER_SECONDS:.0f}",
    "TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES": "1",
}

_REPOSITORY = re.compile(r"([\w-][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def local_directory(path: str, patterns: Sequence[str]) -> Path:
    """The local directory with the files of a model.

    Args:
        path: a directory; `gs://bucket/path`, of which a copy is made; or a repository of the hub,
            `owner/name` or `owner/name@revision`, which is downloaded unless it is in the hub's
            cache. Without a revision, all calls of a process use the commit that is the newest at
            the first one.
        patterns: glob patterns of the files to download; ignored for a directory.

    Raises:
        UserError: `path` is none of these, or the download fails.
    """
    if is_address(path):
        return _copy_of_objects(path, patterns)
    directory = Path(path).expanduser()
    if directory.is_dir():
        return directory
    name, _, commit = resolve(path).partition("@")
    return _download(path, name, commit, patterns)


def is_address(path: str) -> bool:
    """Whether a path is an address such as `gs://bucket/path`, of which `Path` makes `gs:/`."""
    return _ADDRESS.match(path) is not None


def file_system(address: str) -> tuple[Any, str]:
    """The file system of an address, as fsspec's, and the path in it.

    Raises:
        UserError: the address is not one of Google Cloud Storage, or its extra is not installed.
    """
    if not address.startswith(PROTOCOL):
        raise UserError(f"{address}: only addresses that begin with {PROTOCOL} are supported")
    prepare_access()
    with reading(address):
        return fsspec.url_to_fs(address)


def prepare_access() -> None:
    """Prepares the libraries that Orbax reaches buckets with: gcsfs and TensorStore.

    They do not wait for ever, and gcsfs keeps no listings and prints nothing.

    Raises:
        UserError: gcsfs is not installed.
    """
    import_extra("gcsfs", extra="gcs")
    aiohttp = import_extra("aiohttp", extra="gcs")
    # Unlike a limit of the whole request, this is an error after which gcsfs sends it again.
    limit = aiohttp.ClientTimeout(
        total=None, sock_connect=_ANSWER_SECONDS, sock_read=_ANSWER_SECONDS
    )
    settings = {"use_listings_cache": False, "requests_timeout": limit}
    for name, value in _TENSORSTORE.items():
        os.environ.setdefault(name, value)
    fsspec.config.conf.setdefault("gs", {}).update(settings)
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # what it logs is raised as well


@contextlib.contextmanager
def reading(address: str) -> Iterator[None]:
    """Turns an error of a bucket's server, credentials or network into one line.

    gcsfs repeats failed requests by itself, with growing waits, before it raises.

    Raises:
        UserError: there is no such bucket or object, or access is refused.
        ServiceError: there is no answer, or errors only.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{address} does not exist") from error
    # gcsfs raises exceptions of aiohttp, google.auth and its own, without a common class.
    except Exception as error:
        raise failure(address, error) from error


def failure(address: object, error: Exception) -> Exception:
    """One line for an error that a request to a bucket raised.

    Args:
        address: of what was requested.
        error: of any class, since there are several libraries.
    """
    reason = f"{address}: {first_line(root_cause(error))}"
    code = str(getattr(error, "code", ""))  # of HTTP, in gcsfs's own exceptions
    is_refused = code.startswith("4") and code not in _REPEATABLE
    is_refused |= "Forbidden" in reason or "credentials" in reason
    return UserError(reason) if is_refused else ServiceError(reason)


def resolve(path: str) -> str:
    """A repository with its commit, `owner/name@commit`; a directory or an address unchanged.

    Raises:
        UserError: `path` is none of these, or the hub cannot be reached.
    """
    if is_address(path) or Path(path).expanduser().is_dir():
        return path
    match = _REPOSITORY.fullmatch(path)
    if match is None:
        raise UserError(
            f"{path!r} is neither a directory nor a repository of the Hugging Face hub "
            "(owner/name or owner/name@revision)"
        )
    name, revision = match.groups()
    return f"{name}@{_commit(name, revision)}"


def is_commit_of(path: str, repository: str) -> bool:
    """Whether a path is `owner/name@commit` for the repository `owner/name`."""
    name, _, commit = path.partition("@")
    return name == repository and _COMMIT.fullmatch(commit) is not None


@functools.cache
def _commit(name: str, revision: str | None) -> str:
    """The commit of a revision, by default the newest; without a network that in the cache."""
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    path = name if revision is None else f"{name}@{revision}"
    # The directory of a snapshot has the name of its commit.
    commit = _download(path, name, revision, ("config.json",)).name
    if not _COMMIT.fullmatch(commit):
        raise UserError(f"{path!r}: the hub names no commit")
    return commit


def _download(path: str, name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Downloads the files of a revision; returns their directory."""
    hub = import_extra("huggingface_hub", extra="hf")
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    # Network, name, access rights or disk: report any failure in one line.
    except Exception as error:
        raise UserError(
            f"{path!r} is not a directory, and downloading it failed ({type(error).__name__}: "
            f"{first_line(error)})"
        ) from error


def objects(address: str, patterns: Sequence[str]) -> tuple[Any, dict[str, Mapping[str, Any]]]:
    """The objects directly below an address in a bucket whose names match.

    Returns:
        The file system, and name below the address -> entry of the listing.

    Raises:
        UserError: see `file_system`, or the bucket cannot be read.
    """
    system, root = file_system(address)
    with reading(address):
        listing = system.find(root, maxdepth=1, detail=True)
    names = {path.removeprefix(root).lstrip("/"): entry for path, entry in listing.items()}
    return system, {
        name: entry
        for name, entry in names.items()
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    }


def object_version(entry: Mapping[str, Any]) -> list[Any]:
    """Numbers and names of an object that are different after it has changed."""
    return [entry.get(key) for key in ("size", "generation", "etag", "md5Hash")]


def _copy_of_objects(address: str, patterns: Sequence[str]) -> Path:
    """A local directory with the files of an address that match; downloaded when they change."""
    system, chosen = objects(address, patterns)
    if not chosen:
        raise UserError(f"{address} does not exist, or has none of: {', '.join(patterns)}")
    for name in chosen:
        if "/" in name or name in ("", ".", ".."):
            raise UserError(f"{address}: {name[:100]!r} is not the name of a file")
    versions = [[name, object_version(entry)] for name, entry in sorted(chosen.items())]
    identity = json.dumps([address, versions], default=str)
    directory = _cache() / hashlib.sha256(identity.encode()).hexdigest()[:32]
    if directory.is_dir():
        return directory
    with writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".copying-", dir=directory.parent))
        try:
            for name, entry in chosen.items():
                with reading(address):
                    system.get_file(entry["name"], str(temporary / name))
            try:
                temporary.rename(directory)
            except OSError:
                if not directory.is_dir():  # else another process was faster
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return directory


def _cache() -> Path:
    """The directory for copies of files in buckets."""
    parent = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(parent).expanduser() / "dvaojax"
