"""The order of the problems: a position says it all."""

import numpy as np
import pytest

from dvaojax.data.stream import PromptStream
from dvaojax.types import Prompt

PROBLEMS = [Prompt(str(i), i, i) for i in range(7)]


def indices(stream, position, count):
    return [prompt.index for prompt in stream.take(position, count)]


def test_a_position_holds_the_same_problem_however_it_is_read():
    stream = PromptStream(PROBLEMS, seed=3)
    whole = indices(stream, 0, 40)
    for position, count in [(0, 3), (5, 4), (6, 1), (7, 7), (13, 16), (39, 1)]:
        assert (
            indices(PromptStream(PROBLEMS, seed=3), position, count)
            == (whole[position : position + count])
        )


def test_every_epoch_is_a_permutation_and_another_one():
    order = np.array(indices(PromptStream(PROBLEMS, seed=0), 0, 7 * 20)).reshape(20, 7)
    assert all(sorted(epoch) == list(range(7)) for epoch in order.tolist())
    assert len({tuple(epoch) for epoch in order.tolist()}) > 15


def test_batches_that_do_not_divide_the_problems_run_on_into_the_next_epoch():
    """Trap 52: no short batch, nothing dropped, nothing twice within an epoch."""
    stream = PromptStream(PROBLEMS, seed=1)
    batches = [indices(stream, step * 4, 4) for step in range(7)]
    assert all(len(batch) == 4 for batch in batches)
    read = [index for batch in batches for index in batch]
    assert all(sorted(read[i : i + 7]) == list(range(7)) for i in range(0, 28, 7))


def test_a_batch_larger_than_the_problems_takes_them_several_times():
    read = indices(PromptStream(PROBLEMS[:3], seed=0), 1, 8)
    assert sorted(read[2:5]) == sorted(read[5:8]) == [0, 1, 2]


def test_a_resumed_run_reads_on_where_it_was():
    """Trap 45: the order is neither begun anew nor skipped over."""
    at_once = [indices(PromptStream(PROBLEMS, seed=5), step * 3, 3) for step in range(6)]
    resumed = PromptStream(PROBLEMS, seed=5)
    assert [indices(resumed, step * 3, 3) for step in range(3, 6)] == at_once[3:]


def test_the_seed_decides_the_order():
    orders = {tuple(indices(PromptStream(PROBLEMS, seed=seed), 0, 7)) for seed in range(10)}
    assert len(orders) > 7


def test_no_problems_are_refused():
    with pytest.raises(ValueError, match="at least one problem"):
        PromptStream([], seed=0)
