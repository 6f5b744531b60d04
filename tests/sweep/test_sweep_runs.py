"""Cells are runs: they take the steps of `dvaojax train`, and go on after whatever ends them."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from little_sweep import SWEEP
from rich.console import Console
from tiny_run import compiled_once

import dvaojax
from dvaojax import cli, sharding
from dvaojax.sweep.grid import Place, cell_at, places
from dvaojax.sweep.progress import Progress
from dvaojax.sweep.record import Record
from dvaojax.sweep.runner import Runner
from dvaojax.sweep.sweeping import watch
from dvaojax.train import train

HERE = Path(__file__).parents[1] / "helpers"
# Half of the little sweep: one situation, one seed.
ONE_START = """
from little_sweep import changed

def get_sweep():
    return changed(situations={"long": ("task.long=16",)}, seeds=(1,), expected={})
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What is compiled here is compiled once, and for one device."""
    directory = tmp_path_factory.getbasetemp() / "compiled"
    make_mesh = sharding.make_mesh
    with compiled_once(directory), pytest.MonkeyPatch.context() as patch:
        one = jax.devices()[:1]
        patch.setattr(sharding, "make_mesh", lambda config, devices=None: make_mesh(config, one))
        yield directory


@pytest.fixture(scope="module")
def finished(compiled, tmp_path_factory):
    """The directory of a sweep that came to its end, and its file."""
    place = tmp_path_factory.mktemp("sweeps")
    (place / "one_start.py").write_text(ONE_START)
    out = place / "finished"
    assert cli.main(["sweep", str(place / "one_start.py"), "--out", str(out)]) == 0
    return out


def measured(out):
    """Place -> what a cell came to, without how long it took."""
    return {
        place: {key: value for key, value in row.items() if key != "seconds"}
        for place, row in Record(out).rows().items()
    }


@pytest.mark.slow
def test_a_cell_takes_the_steps_of_a_run(finished, tmp_path):
    place = Place("long", 1, "annealed", "digits")
    config = dataclasses.replace(cell_at(SWEEP, place).config, name="alone")
    summary = train(config, tmp_path)
    row = measured(finished)[place]
    assert row["step"] == summary["steps"] == 2
    for name in (*config.objectives, "length"):
        assert row["before"][name] == pytest.approx(summary["before"][name]["mean"], abs=1e-6)
        assert row["after"][name] == pytest.approx(summary["after"][name]["mean"], abs=1e-6)
    assert abs(row["after"]["length"] - row["before"]["length"]) > 1.0
    steps = [
        json.loads(line) for line in (tmp_path / "alone/metrics.jsonl").read_text().splitlines()
    ]
    for name in config.objectives:
        paid = sum(step[f"reward/{name}"] for step in steps) / len(steps)
        assert row["during"][name] == pytest.approx(paid, abs=1e-6)


@pytest.mark.slow
def test_it_ends_with_tables_and_pictures(finished):
    assert {path.name for path in finished.iterdir()} == {
        "cells.jsonl",
        "long.png",
        "report.md",
        "sweep.json",
    }
    report = (finished / "report.md").read_text()
    assert all(f"`{method}`" in report for method in SWEEP.methods)
    assert len(measured(finished)) == 6


@pytest.mark.slow
def test_methods_and_trade_offs_come_to_something_else(finished):
    lengths = {row["after"]["length"] for row in measured(finished).values()}
    assert len(lengths) == 6


@pytest.mark.slow
def test_only_what_is_missing_is_measured_and_comes_out_the_same(finished, tmp_path, capsys):
    before = measured(finished)
    cells = finished / "cells.jsonl"
    lines = cells.read_bytes().splitlines(keepends=True)
    # As a kill leaves it: a cell missing in the middle, and a line that is not whole.
    cells.write_bytes(b"".join([*lines[:2], *lines[3:5], lines[5][:40]]))
    kept = lines[0]
    capsys.readouterr()
    file = str(finished.parent / "one_start.py")
    assert cli.main(["sweep", file, "--out", str(finished)]) == 0
    assert measured(finished) == before
    assert cells.read_bytes().splitlines(keepends=True)[0] == kept
    assert capsys.readouterr().out.count("of 6 cells") == 2


@pytest.mark.slow
def test_a_report_measures_nothing(finished, monkeypatch, capsys):
    monkeypatch.setattr(Runner, "run", None)
    file = str(finished.parent / "one_start.py")
    (finished / "report.md").unlink()
    assert cli.main(["sweep", file, "--out", str(finished), "--report"]) == 0
    assert (finished / "report.md").is_file()
    assert cli.main(["sweep", file, "--out", str(finished.parent / "nowhere"), "--report"]) == 2
    assert "no cell of a sweep was measured here" in capsys.readouterr().err


def test_a_file_without_a_sweep_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("other.py").write_text("from dvaojax.config import Config\nget_sweep = Config")
    assert cli.main(["sweep", "other.py"]) == 2
    assert "not a Sweep" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["other.py"]


def begin(compiled, out, *options):
    environment = {
        **os.environ,
        "PYTHONPATH": f"{Path(dvaojax.__file__).parents[1]}{os.pathsep}{HERE}",
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-m", "dvaojax", "sweep", str(HERE / "little_sweep.py")]
    return subprocess.Popen(
        [*command, "--out", str(out), *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_cells(out, count):
    deadline = time.monotonic() + 120
    while len(Record(out).rows()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_two_processes_share_the_grid_and_a_killed_sweep_goes_on(compiled, tmp_path):
    whole = begin(compiled, tmp_path / "whole")
    assert whole.communicate(timeout=300)[1] == ""
    out = tmp_path / "killed"
    killed = begin(compiled, out, "--processes", "2")
    wait_for_cells(out, 3)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)  # its processes hold the pipes until they have noticed
    some = Record(out).rows()
    assert 3 <= len(some) < len(places(SWEEP))
    stopped = begin(compiled, out, "--processes", "2")
    wait_for_cells(out, len(some) + 2)
    stopped.send_signal(signal.SIGTERM)
    _, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 128 + signal.SIGTERM
    assert errors == "dvaojax: stopped after a cell by SIGTERM: the same command goes on\n"
    last = begin(compiled, out, "--processes", "2")
    output, errors = last.communicate(timeout=300)
    assert (last.returncode, errors) == (0, "")
    assert "20 of 20 cells" in output
    assert measured(out) == measured(tmp_path / "whole")
    for place, row in some.items():  # was not measured twice
        assert Record(out).rows()[place] == row


def test_a_process_that_fails_ends_the_others(tmp_path):
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    failing = [sys.executable, "-c", "raise SystemExit(3)"]
    silent, began = Progress(SWEEP, Console(quiet=True)), time.monotonic()
    assert watch(Record(tmp_path), [sleeping, failing], silent) == 3
    assert time.monotonic() - began < 30
