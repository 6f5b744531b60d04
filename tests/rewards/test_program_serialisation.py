"""Values sent between a test and a program arrive unchanged, as exact built-in types."""

import collections
import enum
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvaojax.rewards.programs.serialisation import RemoteValue, decode, encode

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters(), max_size=5)
    | st.binary(max_size=5)
    | st.fractions()
    | st.decimals(allow_nan=False)
)
few = {"max_size": 3}
hashable = scalars | st.tuples(scalars, scalars) | st.frozensets(scalars, **few)
values = st.recursive(
    hashable | st.sets(hashable, **few),
    lambda inner: st.lists(inner, **few) | st.dictionaries(hashable, inner, **few),
    max_leaves=4,
)


def sent(value):
    """The received value, after encoding as JSON."""
    return decode(json.loads(json.dumps(encode(value, lambda kept: 0))), RemoteValue)


@given(values)
def test_plain_values_round_trip(value):
    assert sent(value) == value
    assert type(sent(value)) is type(value)


class Liar(int):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


class Names(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "arrived"),
    [
        (Liar(3), 3),
        (Names.ONE, 1),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.namedtuple("Point", "x y")(1, 2), (1, 2)),
        (type("Text", (str,), {"__str__": lambda self: "lie"})("truth"), "truth"),
        (bytearray(b"ab"), bytearray(b"ab")),
        (range(2, 8, 3), range(2, 8, 3)),
        (collections.deque([1]), collections.deque([1])),
        (2**53, 2**53),
        (-(10**4000), -(10**4000)),
    ],
)
def test_subclasses_arrive_as_built_in_types(value, arrived):
    assert type(sent(value)) is type(arrived)
    assert sent(value) == arrived


def test_other_objects_stay_and_equal_only_themselves():
    kept = []

    def keep(value):
        kept.append(value)
        return len(kept) - 1

    stored = object()
    handle = decode(encode([stored], keep), RemoteValue)[0]
    assert isinstance(handle, RemoteValue)
    assert handle != decode(encode(stored, keep), RemoteValue)
    assert decode(encode(handle, keep), kept.__getitem__) is stored


BARE = [[], [1], {}, {"list": [], "set": []}, {"eval": "1"}]
ILL_FORMED = [
    {"int": "x"},
    {"list": 1},
    {"dict": [1]},
    {"range": ["x"]},
    {"complex": [1, 2, 3]},
    {"set": [{"list": []}]},
    {"bytes": "zz"},
]


@pytest.mark.parametrize("hostile", [*BARE, *ILL_FORMED])
def test_rejects_data_that_was_not_encoded(hostile):
    with pytest.raises((ValueError, TypeError)):
        decode(hostile, RemoteValue)
