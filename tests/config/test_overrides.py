"""Settings are typed by the configuration, and every mistake has its one line."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import pytest

from dvaojax.config import overrides
from dvaojax.errors import UserError


class Task(Protocol):
    @property
    def name(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    digits: int = 3
    name: str = "arithmetic"


@dataclasses.dataclass(frozen=True)
class Optimizer:
    learning_rate: float = 1e-4
    max_grad_norm: float = 1.0
    b1: float = 0.9
    b2: float = 0.95


@dataclasses.dataclass(frozen=True)
class Range:
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self):
        if self.low > self.high:
            raise ValueError(f"range.low={self.low} must not exceed range.high={self.high}")


@dataclasses.dataclass(frozen=True)
class Config:
    name: str = "trial"
    num_steps: int = 10
    early_stop: int | None = 5
    shuffle: bool = True
    reduction: Literal["token_mean", "sequence_mean"] = "token_mean"
    mesh: tuple[int, ...] = (1,)
    objectives: tuple[str, ...] = ("accuracy",)
    weights: dict[str, float] = dataclasses.field(default_factory=lambda: {"accuracy": 1.0})
    scales: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"a": 1, "b": 2})
    task: Task = Arithmetic()
    optimizer: Optimizer = Optimizer()
    range: Range = Range()
    callback: Callable[[int], int] = abs


@pytest.mark.parametrize(
    ("setting", "read", "expected"),
    [
        ("name=a=b c", lambda c: c.name, "a=b c"),
        ("name=", lambda c: c.name, ""),
        ("name=--help", lambda c: c.name, "--help"),
        ("num_steps=-3", lambda c: c.num_steps, -3),
        ("early_stop=None", lambda c: c.early_stop, None),
        ("early_stop=7", lambda c: c.early_stop, 7),
        ("shuffle=false", lambda c: c.shuffle, False),
        ("shuffle=True", lambda c: c.shuffle, True),
        ("reduction=sequence_mean", lambda c: c.reduction, "sequence_mean"),
        ("mesh=2,-4", lambda c: c.mesh, (2, -4)),
        ("objectives=", lambda c: c.objectives, ()),
        ("objectives=format,brevity", lambda c: c.objectives, ("format", "brevity")),
        ("weights.accuracy=0.5", lambda c: c.weights, {"accuracy": 0.5}),
        ("scales.b=7", lambda c: c.scales, {"a": 1, "b": 7}),
        ("task.digits=4", lambda c: c.task, Arithmetic(digits=4)),
        ("optimizer.learning_rate=3e-4", lambda c: c.optimizer.learning_rate, 3e-4),
        ("optimizer.max_grad_norm=inf", lambda c: c.optimizer.max_grad_norm, math.inf),
    ],
)
def test_value_is_read_as_the_type_of_its_field(setting, read, expected):
    config = Config()
    actual = read(overrides.apply(config, [setting]))
    assert actual == expected
    assert type(actual) is type(expected)
    assert config == Config()  # untouched


def test_other_fields_are_kept():
    config = overrides.apply(Config(), ["optimizer.b1=0.5", "num_steps=3"])
    optimizer = dataclasses.replace(Optimizer(), b1=0.5)
    assert config == dataclasses.replace(Config(), num_steps=3, optimizer=optimizer)
    assert overrides.apply(Config(), []) == Config()


def test_settings_take_effect_together_and_the_last_one_wins():
    config = overrides.apply(
        Config(), ["range.low=5", "range.high=6", "num_steps=1", "num_steps=2"]
    )
    assert (config.range, config.num_steps) == (Range(5.0, 6.0), 2)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("num_steps", "setting 'num_steps' has no value: write key=value"),
        ("=3", "setting '=3' has no value: write key=value"),
        ("mine.py", "write mine.py before --set, which takes key=value only"),
        ("learning_rate=1", "unknown key 'learning_rate'; did you mean 'optimizer.learning_rate'?"),
        ("optimiser.b1=1", "unknown key 'optimiser.b1'; did you mean 'optimizer.b1'?"),
        ("weights.acuracy=1", "unknown key 'weights.acuracy'; did you mean 'weights.accuracy'?"),
        ("task.digit=1", "unknown key 'task.digit'; did you mean 'task.digits'?"),
        ("task=x", "task is a section: set one of task.digits, task.name"),
        ("num_steps=1.5", "num_steps=1.5: '1.5' is not an int"),
        ("optimizer.b1=fast", "optimizer.b1=fast: 'fast' is not a float"),
        ("weights.accuracy=x", "weights.accuracy=x: 'x' is not a float"),
        ("shuffle=yes", "shuffle=yes: 'yes' is not true or false"),
        ("early_stop=x", "early_stop=x: 'x' is not an int or None"),
        ("reduction=mean", "reduction=mean: 'mean' is not one of token_mean, sequence_mean"),
        ("mesh=1,x", "mesh=1,x: '1,x' is not a sequence of an int, separated by commas"),
        ("mesh=--help", "mesh=--help: '--help' is not a sequence of an int, separated by commas"),
        ("range.low=2", "range.low=2.0 must not exceed range.high=1.0"),
        ("callback=abs", "callback=abs: 'abs' is not Callable"),
        ("optimizer.b3=0", "unknown key 'optimizer.b3'; did you mean 'optimizer.b2'?"),
    ],
)
def test_mistakes_are_reported_in_one_line(setting, line, capfd):
    with pytest.raises(UserError) as refusal:
        overrides.apply(Config(), [setting])
    assert str(refusal.value) == line
    assert capfd.readouterr() == ("", "")


def write(path, text):
    path.write_text(text)
    return path


def test_loads_an_experiment_file(tmp_path):
    text = """
        from __future__ import annotations
        import dataclasses
        @dataclasses.dataclass(frozen=True)
        class Config:
            seed: int = {seed}
            inner: Inner | None = None
        @dataclasses.dataclass(frozen=True)
        class Inner:
            x: int = 0
        def get_config():
            return Config(inner=Inner())
        """.replace("\n        ", "\n")
    first = overrides.load_experiment(write(tmp_path / "a.py", text.format(seed=1)))
    second = overrides.load_experiment(write(tmp_path / "b.py", text.format(seed=2)))
    assert (first.seed, second.seed) == (1, 2)
    changed = overrides.apply(second, ["seed=3", "inner.x=4"])
    assert (changed.seed, changed.inner.x) == (3, 4)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = 1\n", r"e\.py is not an experiment file: it has no function get_config\(\)"),
        ("x = 1\ndef f(:\n", r"e\.py:2: .*"),
        ("\nimport nowhere_at_all\n", r"e\.py:2: ModuleNotFoundError: No module named .*"),
        ("def get_config():\n    return 1 / 0\n", r"e\.py:2: ZeroDivisionError: .*"),
        (
            "def get_config():\n    return {}\n",
            r"e\.py: get_config\(\) returned {}, not a config.*",
        ),
    ],
)
def test_broken_experiment_file_is_reported_in_one_line(tmp_path, text, line):
    with pytest.raises(UserError, match=rf"^.*{line}$") as refusal:
        overrides.load_experiment(write(tmp_path / "e.py", text))
    assert "\n" not in str(refusal.value)


def test_missing_experiment_file_is_reported_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"^there is no experiment file .*/gsm8k\.py$"):
        overrides.load_experiment(tmp_path / "none" / "gsm8k.py")
    write(tmp_path / "arithmetic.py", "")
    write(tmp_path / "gsm8k_three_rewards.py", "")
    with pytest.raises(UserError, match=r"did you mean .*/gsm8k_three_rewards\.py\?$"):
        overrides.load_experiment(tmp_path / "gsm8k_rewards.py")
