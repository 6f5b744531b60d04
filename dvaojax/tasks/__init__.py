"""Tasks: a set of problems, a tokenizer and the objectives to score completions on."""

import importlib
from collections.abc import Mapping

from dvaojax.errors import UserError, nearest

BY_NAME: Mapping[str, str] = {
    "arithmetic": "dvaojax.tasks.arithmetic:Arithmetic",
    "arithmetic_sets": "dvaojax.tasks.arithmetic_sets:ArithmeticSets",
    "comparisons": "dvaojax.tasks.comparisons:Comparisons",
    "gsm8k": "dvaojax.tasks.gsm8k:GSM8K",
    "instructions": "dvaojax.tasks.instructions:Instructions",
    "mathematics": "dvaojax.tasks.mathematics:Mathematics",
    "programs": "dvaojax.tasks.programs:Programs",
    "rubric_judging": "dvaojax.tasks.rubric_judging:RubricJudging",
    "rubric_writing": "dvaojax.tasks.rubric_writing:RubricWriting",
    "rubrics": "dvaojax.tasks.rubrics:Rubrics",
    "tools": "dvaojax.tasks.tools:Tools",
}
"""Imported on demand, so that a run does not need the dependencies of other tasks."""


def task_class(name: str) -> type:
    """Returns the dataclass of a task by its name; its fields are the settings of the task.

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
