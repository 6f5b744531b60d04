"""Tasks by name."""

import dataclasses
import importlib
import pkgutil

import pytest

from dvaojax import tasks
from dvaojax.errors import UserError
from dvaojax.types import Task


def test_every_task_module_has_a_name():
    modules = [
        importlib.import_module(f"dvaojax.tasks.{module.name}")
        for module in pkgutil.iter_modules(tasks.__path__)
    ]
    by_name = {
        value.name: value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
        if dataclasses.is_dataclass(value) and hasattr(value, "name") and hasattr(value, "prompts")
    }
    assert by_name == {name: tasks.task_class(name) for name in tasks.BY_NAME}


def test_named_classes_are_tasks():
    assert isinstance(tasks.task_class("arithmetic")(), Task)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UserError, match=r"unknown task 'mathematic'; did you mean 'mathematics'"):
        tasks.task_class("mathematic")
