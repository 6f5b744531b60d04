"""Runs of `digits_run` in child processes, and the comparison of their results bit for bit."""

import subprocess
from pathlib import Path

import chex
import digits_run
import jax
from tiny_run import HELPERS, STRICT_PYTHON

from dvaojax import files
from dvaojax.run import directory as run_directory
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.train.program import make_program
from dvaojax.train.progress import checkpoint_shapes


def begin(environment, runs, *arguments):
    """Starts `run_child.py` with the runs in a directory or in a bucket."""
    command = [*STRICT_PYTHON, HELPERS / "run_child.py", runs, *map(str, arguments)]
    if isinstance(runs, Path):
        runs.mkdir(exist_ok=True)
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Exit code and standard error of a process."""
    _, errors = process.communicate(timeout=600)
    return process.returncode, errors


def run(environment, runs, *arguments, code=0):
    """Runs `run_child.py` to its end, which must have an exit code."""
    returned, errors = finish(begin(environment, runs, *arguments))
    assert returned == code, errors


def rows(runs, *, durations=False):
    """`metrics.jsonl` without wall times."""
    return [
        {k: v for k, v in row.items() if durations or not k.endswith(("_seconds", "per_second"))}
        for row in content(runs, files.METRICS)
    ]


def content(runs, name):
    """The content of a JSON file of the run in a directory or in a bucket."""
    with run_directory.at(runs / "mini") as directory:
        directory.fetch()
        read = files.read_json if name.endswith(".json") else files.read_json_lines
        return read(directory.path / name)


def saved(config, aggregator, runs):
    """Arrays and record of the last checkpoint."""
    with digits_run.make_mesh_of(1):
        shapes = checkpoint_shapes(config, make_program(config, aggregator))
    checkpoints = SavedCheckpoints(runs / "mini" / files.CHECKPOINTS)
    arrays, extra = checkpoints.restore(shapes)
    unwrapped = jax.tree.map(
        lambda a: (
            jax.random.key_data(a) if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key) else a
        ),
        arrays,
    )
    return unwrapped, {name: value for name, value in extra.items() if name != "seconds"}


def assert_same_run(config, aggregator, left, right):
    """Asserts that all results of two runs except durations are equal bit for bit."""
    (arrays, extra), (other_arrays, other_extra) = (
        saved(config, aggregator, runs) for runs in (left, right)
    )
    chex.assert_trees_all_equal(arrays, other_arrays)
    assert extra == other_extra
    assert extra["step"] == int(arrays["state"].step) == config.num_steps
    assert rows(left) == rows(right)
    assert [row["step"] for row in rows(left)] == list(range(1, config.num_steps + 1))
    assert content(left, files.SAMPLES) == content(right, files.SAMPLES)
    summaries = [content(runs, files.SUMMARY) for runs in (left, right)]
    for summary in summaries:
        assert summary.pop("wall_seconds") > 0
    assert summaries[0] == summaries[1]
