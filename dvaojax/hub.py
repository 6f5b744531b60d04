"""Files of a published model: in a local directory, or in a repository of the Hugging Face hub."""

import re
from collections.abc import Sequence
from pathlib import Path

from dvaojax.errors import UserError, import_extra

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

_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def local_directory(path: str, patterns: Sequence[str]) -> Path:
    """The local directory with the files of a model.

    Args:
        path: a directory, or a repository of the hub, `owner/name`, whose newest version is
            downloaded unless it is in the hub's cache.
        patterns: glob patterns of the files to download; ignored for a directory.

    Raises:
        UserError: `path` is neither a directory nor a repository, or the download fails.
    """
    directory = Path(path).expanduser()
    if directory.is_dir():
        return directory
    if not _REPOSITORY.fullmatch(path):
        raise UserError(
            f"{path!r} is neither a directory nor a repository of the Hugging Face hub (owner/name)"
        )
    hub = import_extra("huggingface_hub", extra="hf")
    try:
        return Path(hub.snapshot_download(path, allow_patterns=list(patterns)))
    # Network, name, access rights or disk: report any failure in one line.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{path!r} is not a directory, and downloading it failed ({type(error).__name__}: "
            f"{reason[:200]})"
        ) from error
