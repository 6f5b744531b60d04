"""Runs on a disk that is full, read-only, or not a disk: one line, and nothing half-written."""

import collections
import itertools
import json
import logging
import os
import sys

import pytest
from digits_run import quick_programs
from small_disk import enlarge, read_only, small_disk

from dvaojax import cli, files
from dvaojax.config import Config
from dvaojax.errors import UserError
from dvaojax.run import directory as run_directory
from dvaojax.run.rows import read_rows

EXPERIMENT = """
import dataclasses, digits_run

def get_config():
    return digits_run.digits_config(checkpoints={"every": 1})
"""


ROW = {"text": "x" * 3000}


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An experiment file of a small run; what a failing command changes is restored."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    path = tmp_path / "mini.py"
    path.write_text(EXPERIMENT)
    yield path
    logging.disable(logging.NOTSET)


def train(capfd, *arguments):
    """The exit code, and the lines that the command and its threads wrote on standard error."""
    capfd.readouterr()
    with quick_programs():
        code = cli.main(["train", *map(str, arguments)])
    return code, capfd.readouterr().err.splitlines()


@pytest.mark.slow
def test_disk_too_small_for_the_first_checkpoint(tmp_path, capfd, experiment):
    with small_disk(tmp_path / "disk", kilobytes=40) as disk:
        code, lines = train(capfd, experiment, "--runs", disk)
        assert (code, len(lines)) == (1, 1), lines
        assert "No space left on device: free space there" in lines[0]
        assert str(disk / "mini") in lines[0]
        assert os.listdir(disk) == []


@pytest.mark.slow
def test_run_on_a_full_disk_continues_when_there_is_space(tmp_path, capfd, experiment):
    with small_disk(tmp_path / "disk", kilobytes=240) as disk:
        code, lines = train(capfd, experiment, "--runs", disk)
        assert (code, len(lines)) == (1, 1), lines
        assert "No space left on device: free space there" in lines[0]
        kept = [path.name for path in (disk / "mini" / "checkpoints").iterdir()]
        assert any(name.isdigit() for name in kept)
        enlarge(disk)
        assert train(capfd, experiment, "--runs", disk, "--resume") == (0, [])
        steps = [row["step"] for row in read_rows(disk / "mini" / "metrics.jsonl")]
        assert steps == [1, 2, 3, 4, 5, 6]


def test_read_only_disk_and_paths_that_cannot_be_directories(tmp_path, capfd, experiment):
    (tmp_path / "file").write_text("")
    directories = {
        "/proc/nope": "/proc/nope/mini cannot be written",
        str(tmp_path / "file"): "a part of the path is a file",
        str(tmp_path / ("long" * 100)): "choose a shorter name",
    }
    with small_disk(tmp_path / "disk", kilobytes=64) as disk, read_only(disk):
        for directory, words in {**directories, str(disk): "Read-only file system"}.items():
            code, lines = train(capfd, experiment, "--runs", directory)
            assert (code, len(lines)) == (2, 1)
            assert words in lines[0]
    assert sorted(os.listdir(tmp_path)) == ["disk", "file", "mini.py"]


def test_files_are_whole_on_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", kilobytes=16) as disk:
        rows = files.JsonLines(disk / "rows.jsonl")
        with pytest.raises(OSError, match="No space left"):
            collections.deque(map(rows.write, itertools.count(), itertools.repeat(ROW)))
        rows.close()
        assert len(files.read_json_lines(disk / "rows.jsonl")) > 2
        assert (disk / "rows.jsonl").read_bytes().endswith(b'x"}\n')
        with pytest.raises(OSError, match="No space left"):
            files.write_text(disk / "page", "y" * 9000)
        with (
            pytest.raises(UserError, match="new cannot be written: No space"),
            files.creating(disk / "new"),
        ):
            files.write_text(disk / "new" / "page", "y" * 9000)
        assert os.listdir(disk) == ["rows.jsonl"]


def test_plots_reports_and_data_sets_are_written_whole_or_not_at_all(tmp_path, capsys, experiment):
    del experiment  # its cleaning up
    run, rows = tmp_path / "run", tmp_path / "rows.jsonl"
    run_directory.create(run, Config(name="run"))
    with (run / "metrics.jsonl").open("w") as file:
        for step in range(1, 9):
            values = {"reward/a": step / 9, "reward/b": 0.5, "agreement": 0.5}
            file.write(json.dumps({"step": step, **values}) + "\n")
    rows.write_text('{"prompt": "1+1", "answer": "2"}\n' * 5000)
    with small_disk(tmp_path / "disk", kilobytes=16) as disk:
        for command in (
            f"plot {run} --out {disk}/plots",
            f"report {run} --out {disk}/report.html",
            f"data prepare mine --source {rows} --data-dir {disk}/sets",
        ):
            assert cli.main(command.split()) in (1, 2)
            line = capsys.readouterr().err
            assert line.count("\n") == 1
            assert "No space left on device" in line
            assert str(disk) in line
            assert os.listdir(disk) == []
