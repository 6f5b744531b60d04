"""A configuration comes back from JSON as it was, or not at all."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import pytest

from dvaojax.config.from_json import from_json
from dvaojax.errors import UserError
from dvaojax.run.directory import config_to_json


class Task(Protocol):
    @property
    def name(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class Sums:
    digits: int = 3
    name: str = "sums"

    def __post_init__(self):
        if self.digits < 1:
            raise ValueError("digits must be at least 1")


@dataclasses.dataclass(frozen=True)
class Optimizer:
    learning_rate: float
    max_grad_norm: float = math.inf


@dataclasses.dataclass(frozen=True)
class Config:
    name: str = "trial"
    steps: int = 6
    checked: bool = False
    task: Task = Sums(digits=2)
    optimizer: Optimizer = Optimizer(learning_rate=1)
    weights: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"b": 1.0, "a": 0.5})
    mesh: tuple[int, ...] = (1, 2)
    options: Sequence[str] = ()
    limit: float | None = None
    start: Literal["new", "old"] = "old"


def recorded(**changes):
    """The default configuration as a file would hold it, with some values replaced."""
    return json.loads(json.dumps(config_to_json(Config()))) | changes


def decode(value):
    return from_json(Config, value, key="config", classes=[Sums])


def test_round_trip():
    assert decode(recorded()) == Config()
    assert decode(recorded(limit=2.5)).limit == 2.5
    assert decode(recorded(optimizer={"learning_rate": 1, "max_grad_norm": "inf"})) == Config()


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"steps": 6.0}, "config.steps=6.0 is not int"),
        ({"steps": True}, "config.steps=True is not int"),
        ({"checked": 1}, "config.checked=1 is not bool"),
        ({"name": None}, "config.name=None is not str"),
        ({"mesh": [1, "2"]}, "config.mesh[1]='2' is not int"),
        ({"mesh": 1}, "config.mesh=1 is not"),
        ({"weights": {"a": "heavy"}}, "config.weights.a='heavy' is not float"),
        ({"weights": [1.0]}, "config.weights=[1.0] is not"),
        ({"limit": "none"}, "config.limit='none' is not NoneType"),
        ({"start": "newer"}, "config.start='newer' is not"),
        ({"stepz": 1}, "config: unknown key 'stepz'; did you mean 'steps'?"),
        ({"optimizer": {"max_grad_norm": 1.0}}, "config.optimizer.learning_rate is missing"),
        ({"optimizer": 3}, "config.optimizer=3 is not Optimizer"),
        ({"task": {"digits": 2, "name": "sums"}}, "config.task does not name its class"),
        ({"task": {"class": f"{__name__}:Sums", "digits": 0, "name": ""}}, "digits must be"),
        ({"task": {"class": f"{__name__}:Optimizer"}}, "is not part of dvaojax; it has"),
        ({"task": {"class": "dvaojax.files:JsonLines"}}, "there is no configuration class"),
        ({"task": {"class": "dvaojax:"}}, "there is no configuration class"),
    ],
)
def test_errors_name_the_key(changes, answer):
    with pytest.raises(UserError) as refusal:
        decode(recorded(**changes))
    assert answer in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_field_that_was_added_later_has_its_default():
    earlier = recorded(optimizer={"learning_rate": 2.0})
    del earlier["mesh"], earlier["weights"]
    assert decode(earlier) == Config(optimizer=Optimizer(2.0, math.inf))


def test_reading_imports_no_module_named_in_the_file(monkeypatch, tmp_path):
    (tmp_path / "bait.py").write_text("raise SystemExit('was run')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="'bait:Task' is not part of dvaojax"):
        decode(recorded(task={"class": "bait:Task"}))
