"""What a sweep keeps: it goes on with more, refuses something else, and loses only a torn line."""

import dataclasses
import json

import pytest
from little_sweep import SWEEP, changed

from dvaojax.errors import UserError
from dvaojax.sweep.grid import places
from dvaojax.sweep.record import CELLS, DESCRIPTION, Record

ROW = {"before": {"digits": 0.1}, "after": {"digits": 0.5}, "seconds": 1.0}


def measure(record, number, some):
    part = record.part(number)
    for place in some:
        part.write(2, {**place._asdict(), **ROW})
    part.close()


def test_lines_of_several_processes_are_gathered_in_the_order_of_the_grid(tmp_path):
    record, grid = Record(tmp_path / "sweep"), places(SWEEP)
    record.claim(SWEEP)
    measure(record, 0, grid[3:5])
    measure(record, 1, grid[:2])
    assert list(record.rows()) == [*grid[3:5], *grid[:2]]
    record.gather(SWEEP)
    assert list(record.rows()) == [*grid[:2], *grid[3:5]]
    assert sorted(path.name for path in record.path.iterdir()) == [CELLS, DESCRIPTION]
    measure(record, 0, grid[5:6])
    record.gather(SWEEP)
    assert list(record.rows()) == [*grid[:2], *grid[3:6]]


def test_what_the_sweep_has_no_longer_is_kept(tmp_path):
    record = Record(tmp_path)
    record.claim(SWEEP)
    measure(record, 0, places(SWEEP))
    record.gather(changed(seeds=(1,)))
    assert set(record.rows()) == set(places(SWEEP))


def test_a_torn_line_is_measured_again(tmp_path):
    record, grid = Record(tmp_path), places(SWEEP)
    record.claim(SWEEP)
    measure(record, 0, grid[:2])
    with (tmp_path / "cells-0.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "situation": "sh')
    assert list(record.rows()) == grid[:2]
    measure(record, 0, grid[2:3])
    assert list(record.rows()) == grid[:3]


def test_every_start_is_noted_with_commit_and_command(tmp_path):
    record = Record(tmp_path)
    record.claim(SWEEP)
    record.claim(changed(seeds=range(9)))
    described = json.loads((tmp_path / DESCRIPTION).read_text())
    assert described["sweep"]["seeds"] == list(range(9))
    assert len(described["starts"]) == 2
    for start in described["starts"]:
        assert start["command"].split()[0] == "dvaojax"
        assert {"commit", "time", "versions", "devices"} <= start.keys()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"base": dataclasses.replace(SWEEP.base, num_steps=3)},
            "base.num_steps was 2 and is 3; name another --out",
        ),
        ({"methods": {"dvao": ("aggregator=grpo",)}}, "methods.dvao was"),
        ({"situations": {"short": ("task.long=5",)}}, "situations.short was"),
    ],
)
def test_another_sweep_is_refused(tmp_path, changes, complaint):
    record = Record(tmp_path)
    record.claim(SWEEP)
    before = (tmp_path / DESCRIPTION).read_bytes()
    with pytest.raises(UserError, match=complaint):
        record.claim(changed(**changes))
    assert (tmp_path / DESCRIPTION).read_bytes() == before


def test_more_values_of_an_axis_are_not_another_sweep(tmp_path):
    record = Record(tmp_path)
    record.claim(SWEEP)
    record.claim(changed(methods={**SWEEP.methods, "grpo": ("aggregator=grpo",)}))


def test_something_else_is_refused(tmp_path):
    (tmp_path / "diary.txt").write_text("not a sweep")
    with pytest.raises(UserError, match="is not a sweep"):
        Record(tmp_path).claim(SWEEP)
