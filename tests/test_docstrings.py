"""Every public name says what it means: its meaning, shapes, errors and source.

The rules stand in `docstring_rules`; here the package keeps them, and a sample that breaks one is
found out.
"""

import ast
from collections import defaultdict

import pytest
from docstring_rules import complaints
from import_layers import PACKAGE, modules

from dvaojax import aggregators, losses
from dvaojax.aggregators import methods
from dvaojax.losses import methods as loss_methods


def with_a_source():
    """Module -> the aggregators and losses that are defined there."""
    found = defaultdict(set)
    for room, names in (
        (aggregators, {**methods.ROWS, **methods.OTHER_FUNCTIONS}),
        (losses, {**loss_methods.ROWS, **losses.KL_ESTIMATORS}),
    ):
        for name in names:
            found[getattr(room, name).__module__].add(name)
    return found


def test_every_public_name_says_what_it_means():
    trees, sourced = modules(PACKAGE), with_a_source()
    assert sum(map(len, sourced.values())) > 50
    packages = {name.rpartition(".")[0] for name in trees}
    found = [
        line
        for name, tree in trees.items()
        for line in complaints(
            name, tree, is_package=name in packages, sourced=sourced.get(name, ())
        )
    ]
    assert not found, "\n".join(found)


def lacking(source, **about):
    """What a made-up module lacks."""
    return complaints("made.up", ast.parse(source), **about)


GOOD = '''
"""Methods that nobody has; ours."""

NAMED = 1
"""What there is."""


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
    """What takes an array is none."""


def short(completion: Completion, reference: str) -> float | None:
    """1 where it is short."""


MINE = DataSet(name="mine")
"""From somebody/somewhere 0123abcd."""


def _hidden(x: Array): ...
'''


def test_a_module_that_says_everything_lacks_nothing():
    assert lacking(GOOD, is_package=True, sourced={"centred"}) == []


@pytest.mark.parametrize(
    ("said", "instead", "complaint"),
    [
        ('"""Methods that nobody has; ours."""', "", "made.up lacks a docstring"),
        ("Methods that nobody has; ours.", "Up.", "made.up lacks a meaning beyond its name"),
        ('"""What there is."""', "", "NAMED lacks a docstring"),
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
            "centred lacks the shape of what is returned",
        ),
        ("first: `[B]` of them", "first: of them", "Pair lacks the shape of first"),
        ("second: the same.\n", "", "Pair lacks the shape of second"),
        ("`[2, B]`", "Both of them", "Pair.both lacks the shape of what is returned"),
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
        ("somebody/somewhere 0123abcd", "somebody", "MINE lacks a source"),
        ('"""From somebody/somewhere 0123abcd."""', "", "MINE lacks a docstring"),
    ],
)
def test_what_a_name_lacks_is_said_in_a_line(said, instead, complaint):
    assert GOOD.count(said) == 1
    found = lacking(GOOD.replace(said, instead), is_package=True, sourced={"centred"})
    assert complaint.removeprefix("made.up ") in [
        line.removeprefix("made.up: ").removeprefix("made.up ") for line in found
    ]


def test_methods_and_rewards_name_a_source_themselves_or_in_their_module():
    without = GOOD.replace("; ours", "")
    assert lacking(without, sourced={"centred"}) == ["made.up: short lacks a source"]
    nowhere = without.replace(" (Author et al., arXiv 2601.00001)", "")
    assert lacking(nowhere, sourced={"centred"}) == [
        "made.up: centred lacks a source",
        "made.up: short lacks a source",
    ]
    assert lacking(nowhere) == ["made.up: short lacks a source"]


def test_modules_whose_functions_are_alike_tell_the_shapes_once():
    alike = (
        '"""Of things; each takes and returns `[B]`."""\n'
        'def f(x: Array) -> Array:\n    """Halves."""'
    )
    assert lacking(alike) == []
    assert lacking(alike.replace("`[B]`", "one")) == [
        "made.up: f lacks the shape of x",
        "made.up: f lacks the shape of what is returned",
    ]
