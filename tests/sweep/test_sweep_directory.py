"""The directory of a sweep: it can be extended, and a kill loses at most the line being written."""

import dataclasses
import json

import pytest
from little_sweep import SWEEP, changed

from dvaojax.errors import UserError
from dvaojax.sweep.directory import CELLS, DESCRIPTION, SweepDirectory
from dvaojax.sweep.grid import cell_keys

ROW = {"before": {"digits": 0.1}, "after": {"digits": 0.5}, "seconds": 1.0}


def write_cells(directory, number, keys):
    part = directory.part(number)
    for key in keys:
        part.write(2, {**key._asdict(), **ROW})
    part.close()


def test_gather_merges_the_parts_in_the_order_of_the_grid(tmp_path):
    directory, grid = SweepDirectory(tmp_path / "sweep"), cell_keys(SWEEP)
    directory.claim(SWEEP)
    write_cells(directory, 0, grid[3:5])
    write_cells(directory, 1, grid[:2])
    assert list(directory.rows()) == [*grid[3:5], *grid[:2]]
    directory.gather(SWEEP)
    assert list(directory.rows()) == [*grid[:2], *grid[3:5]]
    assert sorted(path.name for path in directory.path.iterdir()) == [CELLS, DESCRIPTION]
    write_cells(directory, 0, grid[5:6])
    directory.gather(SWEEP)
    assert list(directory.rows()) == [*grid[:2], *grid[3:6]]


def test_gather_keeps_cells_that_are_no_longer_in_the_sweep(tmp_path):
    directory = SweepDirectory(tmp_path)
    directory.claim(SWEEP)
    write_cells(directory, 0, cell_keys(SWEEP))
    directory.gather(changed(seeds=(1,)))
    assert set(directory.rows()) == set(cell_keys(SWEEP))


def test_ignores_an_incomplete_last_line(tmp_path):
    directory, grid = SweepDirectory(tmp_path), cell_keys(SWEEP)
    directory.claim(SWEEP)
    write_cells(directory, 0, grid[:2])
    with (tmp_path / "cells-0.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "situation": "sh')
    assert list(directory.rows()) == grid[:2]
    write_cells(directory, 0, grid[2:3])
    assert list(directory.rows()) == grid[:3]


def test_records_commit_and_command_of_every_start(tmp_path):
    directory = SweepDirectory(tmp_path)
    directory.claim(SWEEP)
    directory.claim(changed(seeds=range(9)))
    described = json.loads((tmp_path / DESCRIPTION).read_text())
    assert described["sweep"]["seeds"] == list(range(9))
    assert len(described["starts"]) == 2
    for start in described["starts"]:
        assert start["command"].split()[0] == "dvaojax"
        assert {"commit", "time", "versions", "devices"} <= start.keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"base": dataclasses.replace(SWEEP.base, num_steps=3)},
            "base.num_steps was 2 and is 3; choose another --out",
        ),
        ({"methods": {"dvao": ("aggregator=grpo",)}}, "methods.dvao was"),
        ({"situations": {"short": ("task.long=5",)}}, "situations.short was"),
    ],
)
def test_rejects_changed_settings(tmp_path, changes, message):
    directory = SweepDirectory(tmp_path)
    directory.claim(SWEEP)
    before = (tmp_path / DESCRIPTION).read_bytes()
    with pytest.raises(UserError, match=message):
        directory.claim(changed(**changes))
    assert (tmp_path / DESCRIPTION).read_bytes() == before


def test_accepts_additional_values_of_an_axis(tmp_path):
    directory = SweepDirectory(tmp_path)
    directory.claim(SWEEP)
    directory.claim(changed(methods={**SWEEP.methods, "grpo": ("aggregator=grpo",)}))


def test_continues_a_sweep_recorded_before_the_aggregator_was_a_section(tmp_path):
    directory = SweepDirectory(tmp_path)
    directory.claim(SWEEP)
    recorded = json.loads((tmp_path / DESCRIPTION).read_text())
    base = recorded["sweep"]["base"]
    section = base.pop("aggregator")
    base["aggregator"] = section["name"]
    base["aggregator_options"] = section["options"]
    base |= {key: section[key] for key in ("shadows", "check_invariants")}
    methods = recorded["sweep"]["methods"]
    methods["annealed"] = ["aggregator=rvpo_annealed", "aggregator_options=num_steps=2"]
    (tmp_path / DESCRIPTION).write_text(json.dumps(recorded))
    directory.claim(SWEEP)
    methods["annealed"] = ["aggregator=rvpo_annealed", "aggregator_options=num_steps=3"]
    (tmp_path / DESCRIPTION).write_text(json.dumps(recorded))
    with pytest.raises(UserError, match=r"methods.annealed was"):
        directory.claim(SWEEP)


def test_rejects_a_directory_with_other_files(tmp_path):
    (tmp_path / "diary.txt").write_text("not a sweep")
    with pytest.raises(UserError, match="is not a sweep"):
        SweepDirectory(tmp_path).claim(SWEEP)
