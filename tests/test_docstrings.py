"""Docstrings of public names give meaning, shapes, errors and source.

The package follows the rules of `docstring_rules`, and a sample that breaks one is reported.
"""

import ast
from collections import defaultdict

import pytest
from docstring_rules import complaints
from import_layers import PACKAGE, modules

from dvaojax import aggregators, losses
from dvaojax.aggregators import methods
from dvaojax.losses import methods as loss_methods


def sourced_functions():
    """Module -> the aggregators and losses with a paper that it defines."""
    functions = defaultdict(set)
    for package, names in (
        (aggregators, {**methods.ROWS, **methods.OTHER_FUNCTIONS}),
        (losses, {**loss_methods.ROWS, **losses.KL_ESTIMATORS}),
    ):
        for name, row in names.items():
            if getattr(row, "paper", True):
                functions[getattr(package, name).__module__].add(name)
    return functions


def test_public_names_of_the_package_are_documented():
    trees, sourced = modules(PACKAGE), sourced_functions()
    assert sum(map(len, sourced.values())) > 50
    packages = {name.rpartition(".")[0] for name in trees}
    lines = [
        line
        for name, tree in trees.items()
        for line in complaints(
            name, tree, is_package=name in packages, sourced=sourced.get(name, ())
        )
    ]
    assert not lines, "\n".join(lines)


def lacking(source, **about):
    """The complaints about a sample module."""
    return complaints("made.up", ast.parse(source), **about)


GOOD = '''
"""Methods of a sample; ours."""

NAMED = 1
"""A named constant."""


def centred(rewards: Array, *, scale: float = 1.0) -> Array:
    """Rewards minus their mean (Author et al., arXiv 2601.00001).

    Args:
        rewards: `[..., G]`, as they come.
        scale: what they are multiplied by.

    Returns:
        `[..., G]`.

    Raises:
        AssertionError: the shapes do not fit.
        ValueError: the scale is negative.
    """
    chex.assert_rank(rewards, 1)
    if scale < 0:
        raise ValueError(scale)

    def inner():
        raise KeyError("another's")


class Pair(NamedTuple):
    """Two.

    Attributes:
        first: `[B]` of them.
        second: the same.
    """

    first: Array
    second: jax.Array

    @property
    def both(self) -> np.ndarray:
        """`[2, B]`."""

    def _hidden(self, x: Array): ...


class Step(Protocol):
    """`[B]` of one step to `[B]` of the next."""

    def __call__(self, x: Array, /) -> Array: ...


def of_function(apply: Callable[[Array], Array], kind: Literal["Array"]) -> None:
    """Callables that take arrays are no arrays."""


def short(completion: Completion, reference: str) -> float | None:
    """1 where it is short."""


MINE = DataSet(name="mine")
"""From owner/repository 0123abcd."""


def _hidden(x: Array): ...
'''


def test_accepts_a_complete_module():
    assert lacking(GOOD, is_package=True, sourced={"centred"}) == []


@pytest.mark.parametrize(
    ("text", "replacement", "complaint"),
    [
        ('"""Methods of a sample; ours."""', "", "made.up lacks a docstring"),
        ("Methods of a sample; ours.", "Up.", "made.up lacks a meaning beyond its name"),
        ('"""A named constant."""', "", "NAMED lacks a docstring"),
        ('"""1 where it is short."""', "...", "short lacks a docstring"),
        ('"""1 where it is short."""', '"""The short."""', "short lacks a meaning beyond its name"),
        ('"""`[2, B]`."""', "...", "Pair.both lacks a docstring"),
        ("        scale: what they are multiplied by.\n", "", "centred lacks `scale` under Args"),
        (
            "scale: what they",
            "size: what they",
            "centred lacks a parameter or field `size`, which is listed",
        ),
        (
            "second: the same",
            "third: the same",
            "Pair lacks a parameter or field `third`, which is listed",
        ),
        ("rewards: `[..., G]`, as", "rewards: as", "centred lacks the shape of rewards"),
        (
            "    Returns:\n        `[..., G]`.\n",
            "",
            "centred lacks the shape of the result",
        ),
        ("first: `[B]` of them", "first: of them", "Pair lacks the shape of first"),
        ("second: the same.\n", "", "Pair lacks the shape of second"),
        ("`[2, B]`", "Both of them", "Pair.both lacks the shape of the result"),
        ("`[B]` of one step to `[B]` of", "One step to", "Step.__call__ lacks the shape of x"),
        (
            "        AssertionError: the shapes do not fit.\n",
            "",
            "centred lacks AssertionError under Raises",
        ),
        (
            "        ValueError: the scale is negative.\n",
            "",
            "centred lacks ValueError under Raises",
        ),
        (
            "def _hidden(self, x: Array): ...",
            "def __post_init__(self):\n        raise TypeError",
            "Pair lacks TypeError under Raises",
        ),
        ("owner/repository 0123abcd", "owner", "MINE lacks a source"),
        ('"""From owner/repository 0123abcd."""', "", "MINE lacks a docstring"),
    ],
)
def test_reports_a_missing_part(text, replacement, complaint):
    assert GOOD.count(text) == 1
    lines = lacking(GOOD.replace(text, replacement), is_package=True, sourced={"centred"})
    assert complaint.removeprefix("made.up ") in [
        line.removeprefix("made.up: ").removeprefix("made.up ") for line in lines
    ]


def test_methods_and_rewards_name_a_source_in_their_docstring_or_module():
    without = GOOD.replace("; ours", "")
    assert lacking(without, sourced={"centred"}) == ["made.up: short lacks a source"]
    nowhere = without.replace(" (Author et al., arXiv 2601.00001)", "")
    assert lacking(nowhere, sourced={"centred"}) == [
        "made.up: centred lacks a source",
        "made.up: short lacks a source",
    ]
    assert lacking(nowhere) == ["made.up: short lacks a source"]


def test_a_module_may_give_the_shapes_of_all_its_functions():
    source = (
        '"""Of things; each takes and returns `[B]`."""\n'
        'def f(x: Array) -> Array:\n    """Halves."""'
    )
    assert lacking(source) == []
    assert lacking(source.replace("`[B]`", "one")) == [
        "made.up: f lacks the shape of x",
        "made.up: f lacks the shape of the result",
    ]
