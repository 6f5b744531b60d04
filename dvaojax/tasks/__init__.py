"""Tasks: problems, a tokenizer and the objectives that completions are scored on, one a file."""

import importlib
from collections.abc import Mapping

from dvaojax.errors import UserError, nearest

BY_NAME: Mapping[str, str] = {
    "arithmetic": "dvaojax.tasks.arithmetic:Arithmetic",
    "arithmetic_sets": "dvaojax.tasks.arithmetic_sets:ArithmeticSets",
    "gsm8k": "dvaojax.tasks.gsm8k:GSM8K",
    "instructions": "dvaojax.tasks.instructions:Instructions",
    "mathematics": "dvaojax.tasks.mathematics:Mathematics",
    "programs": "dvaojax.tasks.programs:Programs",
    "rubrics": "dvaojax.tasks.rubrics:Rubrics",
    "tools": "dvaojax.tasks.tools:Tools",
}
"""Imported when asked for: what one task needs, a run of another can do without."""


def task_class(name: str) -> type:
    """The dataclass of the task of that name; its fields are what can be set.

    Raises:
        UserError: there is no such task.
    """
    if name not in BY_NAME:
        hint = nearest(name, BY_NAME)
        raise UserError(
            f"unknown task {name!r}; did you mean {hint!r}? Known: {', '.join(BY_NAME)}"
        )
    module, _, cls = BY_NAME[name].partition(":")
    return getattr(importlib.import_module(module), cls)
