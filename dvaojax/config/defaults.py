"""Defaults of a run that depend on its task, and on where its first parameters come from."""

from collections.abc import Mapping
from typing import Any

from dvaojax.errors import suggest
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models import ModelConfig
from dvaojax.types import Task, TaskWithRunDefaults

BY_TASK: Any = object()
"""Marks a value that the caller of `Config` did not give."""

MAX_NEW_TOKENS = 256

PUBLISHED_OPTIMIZER = OptimizerConfig(learning_rate=1e-6, warmup_updates=10)
"""For published weights, which a larger rate damages within a few steps."""

# A decoder that trains on a laptop, for tasks that recommend none; its vocabulary is the task's.
_SMALL_DECODER: Mapping[str, Any] = {
    "width": 128,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_width": 32,
    "ff_width": 384,
    "rope_theta": 10_000.0,
}

_SECTIONS: Mapping[str, type] = {
    "learning": LearningConfig,
    "optimizer": OptimizerConfig,
    "warm_start": WarmStartConfig,
}
_KEYS = ("max_new_tokens", "model", *_SECTIONS)


def default_of(field: str, task: Task, *, pretrained: str) -> Any:
    """The value of a field of `Config` that was not given.

    For random parameters the task may recommend it in its `run_defaults`; otherwise, and for
    published weights, it does not depend on the task.

    Args:
        field: "max_new_tokens", "model", "learning", "optimizer" or "warm_start".
        task: of the run.
        pretrained: the published weights of the run; empty for random parameters.

    Raises:
        ValueError: published weights have no default for `model`, or the task recommends a value
            for another field.
    """
    recommended = _recommended(task)
    if field == "max_new_tokens":
        return recommended.get(field, MAX_NEW_TOKENS)
    if pretrained:
        return _for_published_weights(field, pretrained)
    if field == "model":
        sizes = recommended.get(field, _SMALL_DECODER)
        return ModelConfig(**{"vocab_size": task.tokenizer.vocab_size, **sizes})
    return _SECTIONS[field](**recommended.get(field, {}))


def _for_published_weights(field: str, pretrained: str) -> Any:
    """The value of a field for published weights."""
    if field == "model":
        raise ValueError(
            f"model is not given: for the weights of {pretrained!r} write "
            f"model=dvaojax.models.pretrained.model_config({pretrained!r})"
        )
    return PUBLISHED_OPTIMIZER if field == "optimizer" else _SECTIONS[field]()


def _recommended(task: Task) -> Mapping[str, Any]:
    """The values that the task recommends, by field."""
    if not isinstance(task, TaskWithRunDefaults):
        return {}
    for key in task.run_defaults:
        if key not in _KEYS:
            raise ValueError(f"run_defaults of task {task.name}: unknown key {suggest(key, _KEYS)}")
    return task.run_defaults
