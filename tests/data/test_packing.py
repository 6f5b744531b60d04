"""Layouts of a step's completions fit all tokens, are few, and cheaper than the rectangle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvaojax.data.packing import CompletionLayout, choose_layout, num_inputs, pack, packed_widths

LENGTHS = st.integers(1, 5).flatmap(
    lambda group: st.lists(
        st.lists(st.integers(0, 20), min_size=group, max_size=group), min_size=1, max_size=4
    )
)


def layout_of(lengths, *, limit=20):
    return choose_layout(
        longest=int(lengths.max()),
        most_inputs=int(num_inputs(lengths).max()),
        group_size=lengths.shape[1],
        limit=limit,
    )


@given(LENGTHS)
def test_every_token_but_the_last_of_each_completion_has_one_slot_in_order(lengths):
    lengths = np.array(lengths)
    layout = CompletionLayout(width=20, slots=int(num_inputs(lengths).max()) + 3)
    packed = pack(lengths, layout)
    assert packed.shape == (len(lengths), layout.slots)
    for row, members in zip(packed, lengths, strict=True):
        expected = [20 * g + t for g, n in enumerate(members) for t in range(n - 1)]
        np.testing.assert_array_equal(row[: len(expected)], expected)
        assert (row[len(expected) :] == -1).all()


def test_rejects_a_group_that_does_not_fit():
    with pytest.raises(ValueError, match="7 tokens do not fit into 6 slots"):
        pack(np.array([[4, 5]]), CompletionLayout(width=8, slots=6))


@given(LENGTHS)
def test_a_layout_fits_all_and_costs_no_more_than_the_rectangle(lengths):
    lengths = np.array(lengths)
    layout = layout_of(lengths)
    assert layout.width >= lengths.max()
    if layout.slots:
        widths = packed_widths(lengths.shape[1] * 20)
        computed = min(width for width in widths if width >= num_inputs(lengths).max())
        assert layout.slots == widths[-1]
        assert computed < lengths.shape[1] * (max(lengths.max(), 1) - 1 + 5)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 48, 50, 1000])
def test_a_rectangle_is_the_narrowest_of_four_that_fits_the_longest(limit):
    # With completions of one length, packing saves nothing.
    layouts = [layout_of(np.full((2, 4), n), limit=limit) for n in range(1, limit + 1)]
    lengths = range(1, limit + 1)
    rectangles = [(n, x.width) for n, x in zip(lengths, layouts, strict=True) if x.slots == 0]
    assert all(n <= width < n + -(-limit // 4) for n, width in rectangles)
    assert len({width for _, width in rectangles}) <= 4
    assert rectangles[-1] == (limit, limit)


def test_there_are_at_most_five_layouts():
    generator = np.random.default_rng(0)
    layouts = {
        layout_of(generator.integers(1, high, (8, 8)), limit=64)
        for high in generator.integers(2, 65, 3_000)
    }
    assert len(layouts) <= 5


@given(st.integers(1, 10**6))
def test_packed_widths_are_few_and_ascending_with_a_minimal_step(size):
    widths = packed_widths(size)
    assert 1 <= len(widths) <= 7
    assert np.diff(widths).min(initial=32) >= 32
    assert 3 * size <= 4 * widths[-1] < 3 * size + 4


def test_a_few_long_completions_do_not_widen_the_others():
    lengths = np.full((4, 8), 10)
    lengths[:, 0] = 100
    assert layout_of(lengths, limit=100).slots
    computed = min(w for w in packed_widths(8 * 100) if w >= num_inputs(lengths).max())
    assert 8 * 100 / computed > 3
