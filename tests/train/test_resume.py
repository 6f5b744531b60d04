"""Exact resume: whatever ends a process, the run goes on as if nothing had."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import chex
import jax
import digits_run
import numpy as np
import pytest
from run_child import INTERRUPTED

import dvaojax
from dvaojax import aggregators, files
from dvaojax.config import make_aggregator
from dvaojax.run.checkpoint import Checkpoints
from dvaojax.train import loop, train
from dvaojax.train.step_log import StepLog
from dvaojax.train.program import make_program
from dvaojax.train.progress import checkpoint_shapes

HERE = Path(__file__).parents[1] / "helpers"


EXACT = [("EPOCHS", digits_run.EPOCHS), ("AHEAD", digits_run.AHEAD)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Of processes that share what they compile, and turn warnings into errors."""
    return {
        **os.environ,
        "PYTHONPATH": f"{Path(dvaojax.__file__).parents[1]}{os.pathsep}{HERE}",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.getbasetemp() / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_PLATFORMS": "cpu",
    }


def begin(environment, runs, *arguments):
    command = [sys.executable, "-W", "error", HERE / "run_child.py", runs, *map(str, arguments)]
    runs.mkdir(exist_ok=True)
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    """The exit code and the standard error of a process."""
    _, errors = process.communicate(timeout=240)
    return process.returncode, errors


def run(environment, runs, *arguments, code=0):
    returned, errors = finish(begin(environment, runs, *arguments))
    assert returned == code, errors


def interrupt(environment, runs, number, *arguments):
    """Sends the signal while the process is in the middle of a step; what it says at its end."""
    process = begin(environment, runs, *arguments)
    while not (runs / "waiting").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(number)
    (runs / "signalled").touch()
    returned, errors = finish(process)
    (runs / "waiting").unlink()
    (runs / "signalled").unlink()
    assert returned == INTERRUPTED, errors
    return errors


def rows(runs, *, durations=False):
    """`metrics.jsonl` without what depends on the clock."""
    return [
        {k: v for k, v in row.items() if durations or not k.endswith(("_seconds", "per_second"))}
        for row in files.read_json_lines(runs / "mini" / files.METRICS)
    ]


def saved(config, aggregator, runs):
    """The last checkpoint: parameters, optimiser, aggregator, keys, reference; and its record."""
    with digits_run.make_mesh_of(1):
        shapes = checkpoint_shapes(config, make_program(config, aggregator))
    checkpoints = Checkpoints.to_read(runs / "mini" / files.CHECKPOINTS)
    arrays, extra = checkpoints.restore(shapes)
    checkpoints.close()
    unwrapped = jax.tree.map(
        lambda a: (
            jax.random.key_data(a) if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key) else a
        ),
        arrays,
    )
    return unwrapped, {name: value for name, value in extra.items() if name != "seconds"}


def assert_same_run(config, aggregator, left, right):
    """Bit for bit, everything that a run leaves but durations."""
    (arrays, extra), (other_arrays, other_extra) = (
        saved(config, aggregator, runs) for runs in (left, right)
    )
    chex.assert_trees_all_equal(arrays, other_arrays)
    assert extra == other_extra
    assert extra["step"] == int(arrays["state"].step) == config.num_steps
    assert rows(left) == rows(right)
    assert [row["step"] for row in rows(left)] == list(range(1, config.num_steps + 1))
    left_samples, right_samples = (
        files.read_json_lines(runs / "mini" / files.SAMPLES) for runs in (left, right)
    )
    assert left_samples == right_samples
    summaries = [files.read_json(runs / "mini" / files.SUMMARY) for runs in (left, right)]
    for summary in summaries:
        assert summary.pop("wall_seconds") > 0
    assert summaries[0] == summaries[1]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "config"), EXACT, ids=["depth 0", "depth 1"])
def test_six_steps_are_three_a_kill_and_three_with_several_epochs_and_a_memory(
    environment, tmp_path, name, config
):
    """Killed in step 5, when the row of step 4 was written and its checkpoint was not.

    At depth 1 completions are in flight; those of step 4 are in the checkpoint of step 3. There
    the order of the problems is Grain's, and five problems are read twelve times.
    """
    at_once, killed = tmp_path / "at_once", tmp_path / "killed"
    run(environment, at_once, name, "create")
    run(environment, killed, name, "create", "--die-at", 5, 3, code=-signal.SIGKILL)
    assert [row["step"] for row in rows(killed)] == [1, 2, 3, 4]
    run(environment, killed, name, "resume")
    aggregator = digits_run.remembering(config)
    assert_same_run(config, aggregator, at_once, killed)

    arrays, _ = saved(config, aggregator, killed)
    assert int(arrays["state"].aggregator_state["updates"]) == 6
    assert np.abs(arrays["state"].aggregator_state["means"]).max() > 0.01
    starts = files.read_json(killed / "mini" / files.CONFIG)["starts"]
    assert len(starts) == 2


# Such that each state moves in six steps of the miniature.
STATEFUL = {
    "constrained_grpo": ("threshold=0.9",),
    "ctwa": ("target=2.0", "cap=9.0"),
    "dvao_shrunk_running": (),
    "hvpo": ("lower=-1.0",),
    "lagrangian": ("threshold.digits=0.9", "rate=0.5"),
    "rvpo_annealed": ("num_steps=6",),
}


class Killed(BaseException):
    """Ends a run in the middle of a step, as if it were killed."""


@pytest.mark.slow
@pytest.mark.parametrize("name", aggregators.STATEFUL)
def test_an_aggregator_with_memory_goes_on_where_it_was(tmp_path, name):
    """Three steps, an end without warning in step 5, and three more are six at once."""
    at_once, killed = tmp_path / "at_once", tmp_path / "killed"
    config = digits_run.digits_config(
        aggregator=name,
        aggregator_options=STATEFUL[name],
        warm_start={"num_steps": 0},
        checkpoints={"every": 3},
    )
    add = StepLog.add

    def watched(journal, step):
        add(journal, step)
        if step.number == 5:
            raise Killed

    with digits_run.quick_programs(), mock.patch.object(loop, "plot_run", return_value=[]):
        train(config, at_once)
        with mock.patch.object(StepLog, "add", watched), pytest.raises(Killed):
            train(config, killed)
        assert [row["step"] for row in rows(killed)] == [1, 2, 3, 4]
        train(config, killed, start="resume")
        aggregator = make_aggregator(config)
        assert_same_run(config, aggregator, at_once, killed)
        arrays, _ = saved(config, aggregator, killed)
    before, after = aggregator.init(3), arrays["state"].aggregator_state
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert np.any(old != new)


@pytest.mark.slow
def test_signals_finish_the_step_save_say_how_to_resume_and_change_nothing(environment, tmp_path):
    """SIGTERM in step 2, Ctrl-C in step 3, a kill in step 6, and on to the end."""
    at_once, stopped = tmp_path / "at_once", tmp_path / "stopped"
    run(environment, at_once, "PLAIN", "create")
    for number, start, step in (
        (signal.SIGTERM, "create", 2),
        (signal.SIGINT, "resume", 3),
    ):
        said = interrupt(environment, stopped, number, "PLAIN", start, "--wait-at", step)
        line = said.strip().splitlines()[-1]
        assert f"stopped after step {step} of 6 by {number.name}" in line
        assert "--resume" in line
        assert str(stopped / "mini") in line
        assert (stopped / "mini" / files.CHECKPOINTS / str(step)).is_dir()
        assert [row["step"] for row in rows(stopped)] == list(range(1, step + 1))
    run(environment, stopped, "PLAIN", "resume", "--die-at", 6, 4, code=-signal.SIGKILL)
    run(environment, stopped, "PLAIN", "resume")
    aggregator = make_aggregator(digits_run.PLAIN)
    assert_same_run(digits_run.PLAIN, aggregator, at_once, stopped)

    # Trap 46: were the first completions after a resume those of other weights than the restored
    # ones, their ratio would not be 1.
    seen = rows(stopped)
    np.testing.assert_allclose([row["ratio"] for row in seen], 1.0, atol=1e-5)
    assert all(row["clip_fraction"] == 0.0 for row in seen)
    assert all(row["grad_norm"] > 0.01 for row in seen)
    json.dumps(seen, allow_nan=False)
