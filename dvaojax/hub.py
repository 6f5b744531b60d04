"""Files of a published model: in a local directory, or in a repository of the Hugging Face hub."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from dvaojax.errors import UserError, first_line, import_extra

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

_REPOSITORY = re.compile(r"([\w-][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def local_directory(path: str, patterns: Sequence[str]) -> Path:
    """The local directory with the files of a model.

    Args:
        path: a directory, or a repository of the hub, `owner/name` or `owner/name@revision`, which
            is downloaded unless it is in the hub's cache. Without a revision, all calls of a
            process use the commit that is the newest at the first one.
        patterns: glob patterns of the files to download; ignored for a directory.

    Raises:
        UserError: `path` is neither a directory nor a repository, or the download fails.
    """
    directory = Path(path).expanduser()
    if directory.is_dir():
        return directory
    name, _, commit = resolve(path).partition("@")
    return _download(path, name, commit, patterns)


def resolve(path: str) -> str:
    """A repository with its commit, `owner/name@commit`; a directory unchanged.

    Raises:
        UserError: `path` is neither a directory nor a repository, or the hub cannot be reached.
    """
    if Path(path).expanduser().is_dir():
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
