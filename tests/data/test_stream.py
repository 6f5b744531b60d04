"""Stateless order of the problems, by `ShuffledPrompts` and by Grain."""

import dataclasses
import itertools
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from dvaojax.data import prepared, preparing
from dvaojax.data.grain_stream import GrainStream
from dvaojax.data.stream import ShuffledPrompts, training_stream
from dvaojax.errors import UserError
from dvaojax.tasks.arithmetic import Arithmetic
from dvaojax.train import batches, hosts
from dvaojax.types import Prompt

PROBLEMS = [Prompt(str(i), i, i) for i in range(7)]

both = pytest.mark.parametrize("order", [ShuffledPrompts, GrainStream])


def indices(stream, position, count):
    return [prompt.index for prompt in stream.take(range(position, position + count))]


@both
def test_position_determines_the_problem(order):
    whole = indices(order(PROBLEMS, seed=3), 0, 40)
    for position, count in [(0, 3), (5, 4), (6, 1), (7, 7), (13, 16), (39, 1)]:
        assert (
            indices(order(PROBLEMS, seed=3), position, count) == whole[position : position + count]
        )
    scattered = [31, 2, 2, 17]
    again = order(PROBLEMS, seed=3).take(scattered)
    assert [prompt.index for prompt in again] == [whole[i] for i in scattered]


@both
def test_every_epoch_is_a_different_permutation(order):
    read = np.array(indices(order(PROBLEMS, seed=0), 0, 7 * 20)).reshape(20, 7)
    assert all(sorted(epoch) == list(range(7)) for epoch in read.tolist())
    assert len({tuple(epoch) for epoch in read.tolist()}) > 15


@pytest.mark.slow
@both
def test_shuffle_is_global(order):
    """A global shuffle, not a local one: over 200 epochs every problem is at every position."""
    read = np.array(indices(order(PROBLEMS, seed=8), 0, 7 * 200)).reshape(200, 7)
    counts = np.array([[np.sum(read[:, offset] == i) for offset in range(7)] for i in range(7)])
    # 200 / 7 = 28.6 on average, with a standard deviation of 4.9.
    assert counts.min() > 28.6 - 4.5 * 4.9
    assert counts.max() < 28.6 + 4.5 * 4.9


@both
def test_batches_cross_epoch_boundaries(order):
    """Trap 52: no short batch, no problem dropped or repeated within an epoch."""
    stream = order(PROBLEMS, seed=1)
    read = [indices(stream, step * 4, 4) for step in range(7)]
    assert all(len(batch) == 4 for batch in read)
    whole = list(itertools.chain(*read))
    assert all(sorted(whole[i : i + 7]) == list(range(7)) for i in range(0, 28, 7))


@both
def test_batch_larger_than_dataset_repeats_problems(order):
    read = indices(order(PROBLEMS[:3], seed=0), 1, 8)
    assert sorted(read[2:5]) == sorted(read[5:8]) == [0, 1, 2]


@both
def test_resumed_stream_continues_at_its_position(order):
    """Trap 45: the order neither restarts nor skips, at any step."""
    at_once = [indices(order(PROBLEMS, seed=5), step * 3, 3) for step in range(6)]
    for stopped in range(6):
        resumed = order(PROBLEMS, seed=5)
        assert [indices(resumed, step * 3, 3) for step in range(stopped, 6)] == at_once[stopped:]


@both
def test_seed_determines_the_order(order):
    orders = {tuple(indices(order(PROBLEMS, seed=seed), 0, 7)) for seed in range(10)}
    assert len(orders) > 7


@both
def test_refuses_empty_dataset(order):
    with pytest.raises(ValueError, match="at least one problem"):
        order([], seed=0)


class Reading(list):
    """A list that records which problems were read."""

    def __init__(self, problems):
        super().__init__(problems)
        self.read = []

    def __getitem__(self, index):
        self.read.append(int(index))
        return super().__getitem__(index)


@dataclasses.dataclass(frozen=True)
class Grained(Arithmetic):
    """The built-in task in Grain's order."""

    problems: tuple[Prompt, ...] = ()

    def stream(self, split, seed):
        return GrainStream(self.prompts(split) if split == "test" else self.problems, seed)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_read_only_their_share_of_an_epoch(monkeypatch, processes):
    """The shares of all processes form an epoch, with each problem in exactly one share."""
    task = Grained(num_train=32, num_test=8)
    problems = task.prompts("train")
    everywhere = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shares = []
    for process in range(processes):
        mine = Reading(problems)
        held = np.arange(8).reshape(processes, -1)[process]
        monkeypatch.setattr(hosts, "share", lambda *_, held=held: hosts.Share(held, held))
        stream = training_stream(dataclasses.replace(task, problems=mine), seed=6)
        assert isinstance(stream, GrainStream)
        process_batches = batches.PromptBatches(
            task, stream, everywhere, prompts_per_step=8, kept=1
        )
        for first in range(0, 32, 8):
            batch = process_batches.from_position(first)
            assert sorted(batch.prompts) == held.tolist()
            # Rows of other processes are not encoded.
            assert np.flatnonzero(np.asarray(batch.lengths)).tolist() == held.tolist()
        shares.append(mine.read)
    assert [len(share) for share in shares] == [32 // processes] * processes
    assert sorted(itertools.chain(*shares)) == list(range(32))


def test_prepared_dataset_is_read_in_grain_order(tmp_path):
    lines = [json.dumps({"prompt": f"{i} + {i}", "answer": str(2 * i)}) for i in range(50)]
    (tmp_path / "sums.jsonl").write_text("\n".join(lines))
    preparing.prepare("sums", source=tmp_path / "sums.jsonl", data_dir=tmp_path)
    records = prepared.read("sums", "train", data_dir=tmp_path)
    stream = GrainStream(records, seed=2)
    answers = [int(record.answer) for record in stream.take(range(50))]
    assert sorted(answers) == list(range(0, 100, 2))
    assert answers != sorted(answers)
    in_memory = GrainStream([Prompt("", "", 2 * i) for i in range(50)], seed=2)
    assert answers == indices(in_memory, 0, 50)


@pytest.mark.slow
def test_embedded_task_does_not_import_grain():
    code = (
        "import sys, dvaojax.train.loop\n"
        "from dvaojax.data.stream import training_stream\n"
        "from dvaojax.tasks.arithmetic import Arithmetic\n"
        "training_stream(Arithmetic(), seed=0).take([0])\n"
        "print({'grain', 'tensorflow_datasets', 'array_record', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_missing_grain_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(UserError, match=r"grain is not installed: pip install '.\[data\]'"):
        GrainStream(PROBLEMS, seed=0).take([0])
