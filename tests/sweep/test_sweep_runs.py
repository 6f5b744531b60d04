"""Sweeps end to end: cells equal runs of `dvaojax train`, and killed sweeps continue."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import jax
import pytest
from bucket_server import BUCKET, bucket_environment, bucket_server
from etils import epath
from little_sweep import SWEEP
from rich.console import Console
from tiny_run import child_environment

from dvaojax import cli, sharding
from dvaojax.cli.exit_codes import RESTART
from dvaojax.run import directory as run_directory
from dvaojax.run import lock
from dvaojax.run.bucket import Bucket
from dvaojax.sweep.directory import SweepDirectory
from dvaojax.sweep.display import SweepDisplay
from dvaojax.sweep.execution import run_processes
from dvaojax.sweep.grid import CellKey, cell_at
from dvaojax.sweep.runner import CellRunner
from dvaojax.train import train

# Parts of the little sweep: one situation, six cells for each seed.
PART = """
from little_sweep import changed

def get_sweep():
    return changed(situations={{"long": ("task.long=16",)}}, seeds={seeds}, expected={{}})
"""


@pytest.fixture(scope="module")
def one_device():
    """Runs of this process use one device."""
    make_mesh = sharding.make_mesh
    with pytest.MonkeyPatch.context() as patch:
        one = jax.devices()[:1]
        patch.setattr(sharding, "make_mesh", lambda config, devices=None: make_mesh(config, one))
        yield


@pytest.fixture(scope="module")
def finished(one_device, tmp_path_factory):
    """The directory of a finished sweep; its file is in the parent directory."""
    parent = tmp_path_factory.mktemp("sweeps")
    (parent / "one_start.py").write_text(PART.format(seeds=(1,)))
    out = parent / "finished"
    assert cli.main(["sweep", str(parent / "one_start.py"), "--out", str(out)]) == 0
    return out


def measured(out):
    """Key -> result of each cell, without its duration."""
    return {
        key: {name: value for name, value in row.items() if name != "seconds"}
        for key, row in SweepDirectory(out).rows().items()
    }


def test_cell_equals_a_training_run(finished, tmp_path):
    key = CellKey("long", 1, "annealed", "digits")
    config = dataclasses.replace(cell_at(SWEEP, key).config, name="alone")
    summary = train(config, tmp_path)
    row = measured(finished)[key]
    assert row["step"] == summary["steps"] == 2
    for name in (*config.objectives, "length"):
        assert row["before"][name] == pytest.approx(summary["before"][name]["mean"], abs=1e-6)
        assert row["after"][name] == pytest.approx(summary["after"][name]["mean"], abs=1e-6)
    assert abs(row["after"]["length"] - row["before"]["length"]) > 1.0
    steps = [
        json.loads(line) for line in (tmp_path / "alone/metrics.jsonl").read_text().splitlines()
    ]
    for name in config.objectives:
        mean = sum(step[f"reward/{name}"] for step in steps) / len(steps)
        assert row["during"][name] == pytest.approx(mean, abs=1e-6)


def test_writes_tables_and_figures(finished):
    assert {path.name for path in finished.iterdir()} == {
        "cells.jsonl",
        "long.png",
        "report.md",
        "sweep.json",
    }
    report = (finished / "report.md").read_text()
    assert all(f"`{method}`" in report for method in SWEEP.methods)
    assert len(measured(finished)) == 6


def test_methods_and_trade_offs_differ(finished):
    lengths = {row["after"]["length"] for row in measured(finished).values()}
    assert len(lengths) == 6


def test_restart_runs_only_missing_cells_with_equal_results(finished, tmp_path, capsys):
    before = measured(finished)
    cells = finished / "cells.jsonl"
    lines = cells.read_bytes().splitlines(keepends=True)
    # As after a kill: a missing cell in the middle, and an incomplete line.
    cells.write_bytes(b"".join([*lines[:2], *lines[3:5], lines[5][:40]]))
    kept = lines[0]
    capsys.readouterr()
    file = str(finished.parent / "one_start.py")
    assert cli.main(["sweep", file, "--out", str(finished)]) == 0
    assert measured(finished) == before
    assert cells.read_bytes().splitlines(keepends=True)[0] == kept
    assert capsys.readouterr().out.count("of 6 cells") == 2


@pytest.mark.nightly
@pytest.mark.slow
def test_a_sweep_in_a_bucket_continues_with_equal_results(finished, capsys):
    file, place = str(finished.parent / "one_start.py"), epath.Path(f"gs://{BUCKET}/sweep")
    with (
        bucket_server() as address,
        mock.patch.dict("os.environ", bucket_environment(address)),
        run_directory.at(place) as before,
        run_directory.at(place) as after,
    ):
        shutil.copytree(finished, before.path)
        lines = (finished / "cells.jsonl").read_bytes().splitlines(keepends=True)
        (before.path / "cells.jsonl").write_bytes(b"".join([*lines[:5], lines[5][:40]]))
        (before.path / "report.md").unlink()
        before.store()
        assert cli.main(["sweep", file, "--out", str(place)]) == 0
        assert f"cells, tables and figures: {place}; start with" in capsys.readouterr().out
        after.fetch()
        assert measured(after.path) == measured(finished)
        assert {p.name for p in after.path.iterdir()} == {p.name for p in finished.iterdir()}
        assert cli.main(["sweep", file, "--out", str(place), "--report"]) == 0
        assert set(Bucket(place).generations()) == {p.name for p in finished.iterdir()}


def test_report_runs_no_cell(finished, monkeypatch, capsys):
    monkeypatch.setattr(CellRunner, "run", None)
    file = str(finished.parent / "one_start.py")
    (finished / "report.md").unlink()
    assert cli.main(["sweep", file, "--out", str(finished), "--report"]) == 0
    assert (finished / "report.md").is_file()
    assert cli.main(["sweep", file, "--out", str(finished.parent / "nowhere"), "--report"]) == 2
    assert "no cell of the sweep is finished" in capsys.readouterr().err


def test_rejects_a_file_without_a_sweep(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("other.py").write_text("from dvaojax.config import Config\nget_sweep = Config")
    assert cli.main(["sweep", "other.py"]) == 2
    assert "not a Sweep" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["other.py"]


def begin(file, out, *options):
    command = [sys.executable, "-m", "dvaojax", "sweep", str(file), "--out", str(out), *options]
    return subprocess.Popen(
        command,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_cells(out, count):
    deadline = time.monotonic() + 120
    while len(SweepDirectory(out).rows()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("name", [lock.LOCK, f"{lock.LOCK}-0"])
def test_a_sweep_in_progress_is_refused(tmp_path, capsys, name):
    """The second name is that of a process that still finishes a cell of a killed sweep."""
    (tmp_path / "one_start.py").write_text(PART.format(seeds=(1,)))
    with lock.hold(tmp_path / "out", name=name):
        command = ["sweep", str(tmp_path / "one_start.py"), "--out", str(tmp_path / "out")]
        assert cli.main(command) == 2
    assert f"out is in use by process {os.getpid()} on" in capsys.readouterr().err
    assert not SweepDirectory(tmp_path / "out").rows()


@pytest.mark.nightly
def test_two_processes_share_the_grid_and_a_killed_sweep_continues(finished, tmp_path, capsys):
    file, out = tmp_path / "two_starts.py", tmp_path / "killed"
    file.write_text(PART.format(seeds=(0, 1)))
    killed = begin(file, out, "--processes", "2")
    wait_for_cells(out, 2)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)  # its child processes hold the pipes until they have noticed
    some = SweepDirectory(out).rows()
    assert 2 <= len(some) < 12
    stopped = begin(file, out)
    wait_for_cells(out, len(some) + 1)
    stopped.send_signal(signal.SIGTERM)
    _, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == RESTART
    assert errors == "dvaojax: stopped after a cell by SIGTERM: the same command continues\n"
    capsys.readouterr()
    assert cli.main(["sweep", str(file), "--out", str(out)]) == 0
    assert "12 of 12 cells" in capsys.readouterr().out
    for key, row in some.items():  # these cells were not run again
        assert SweepDirectory(out).rows()[key] == row
    cells, uninterrupted = measured(out), measured(finished)
    assert len(cells) == 2 * len(uninterrupted)
    assert {key: cells[key] for key in uninterrupted} == uninterrupted


def test_a_failed_process_ends_the_others(tmp_path):
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    failing = [sys.executable, "-c", "raise SystemExit(3)"]
    display, began = SweepDisplay(SWEEP, Console(quiet=True)), time.monotonic()
    assert run_processes(SweepDirectory(tmp_path), [sleeping, failing], display) == 3
    assert time.monotonic() - began < 30
