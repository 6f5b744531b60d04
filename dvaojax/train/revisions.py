"""The commits of published models: resolved when a run begins, and the same ever after.

A repository of the hub changes. So the configuration that a run records has `owner/name@commit`
where the experiment file has `owner/name`, and a resumed run, an evaluation or an export reads the
same files.
"""

import dataclasses
from pathlib import Path
from typing import Any

from dvaojax import files, hub
from dvaojax.config import Config
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.run import directory as run_directory


def with_commits(config: Config, run: Path, *, start: str) -> Config:
    """The configuration with the commits of the model and of the tokenizer.

    Args:
        config: as the experiment file has it.
        run: the run's directory; with "resume", the commits it recorded are used.
        start: see `train`.

    Raises:
        UserError: the hub cannot be reached, and the commit is not in its cache.
    """
    recorded: Any = {}
    if start == "resume" and (run / files.CONFIG).is_file():
        recorded = run_directory.read_config(run)
    if config.pretrained:
        path = _with_commit(config.pretrained, _entry(recorded, "pretrained"))
        config = dataclasses.replace(config, pretrained=path)
    tokenizer = config.task.tokenizer
    if isinstance(tokenizer, PretrainedTokenizer) and _has_field(config.task, "tokenizer"):
        path = _with_commit(tokenizer.path, _entry(recorded, "task", "tokenizer", "path"))
        task: Any = dataclasses.replace(
            config.task,  # pyright: ignore[reportArgumentType]
            tokenizer=PretrainedTokenizer(path),
        )
        config = dataclasses.replace(config, task=task)
    return config


def _with_commit(path: str, recorded: Any) -> str:
    """The path that a run recorded if it is the same, or else the path with its commit."""
    if isinstance(recorded, str) and (path == recorded or hub.is_commit_of(recorded, path)):
        return recorded
    return hub.resolve(path)


def _entry(recorded: Any, *keys: str) -> Any:
    """An entry of a recorded configuration; None if it has no such entry."""
    for key in keys:
        recorded = recorded.get(key) if isinstance(recorded, dict) else None
    return recorded


def _has_field(task: Any, name: str) -> bool:
    """Whether a task is a dataclass that is made with this field."""
    return dataclasses.is_dataclass(task) and any(
        field.name == name and field.init for field in dataclasses.fields(task)
    )
