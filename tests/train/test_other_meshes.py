"""A checkpoint of one mesh is restored on another; a run continues on other devices."""

import contextlib
import dataclasses
import os
import signal
from unittest import mock

import digits_run
import jax
import numpy as np
import pytest
from digits_run import make_mesh_of

from dvaojax import files, sharding
from dvaojax.config import make_aggregator
from dvaojax.run.checkpoint import Checkpoints
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.train import Interrupted, loop, train
from dvaojax.train.keys import KeyPurpose, run_key
from dvaojax.train.program import make_program
from dvaojax.train.step_log import StepLog

# Number of devices, and their mesh.
MESHES = [
    (8, sharding.MeshConfig(data=4, fsdp=2)),
    (4, sharding.MeshConfig(data=2, fsdp=2)),
    (8, sharding.MeshConfig(data=2, tensor=4)),
]


def on(mesh):
    return dataclasses.replace(digits_run.SPREAD, mesh=mesh)


def program_on(count, mesh):
    with make_mesh_of(count):
        return make_program(on(mesh), make_aggregator(on(mesh)))


def bits(tree):
    return [
        np.asarray(jax.device_get(jax.random.key_data(leaf) if is_key(leaf) else leaf)).tobytes()
        for leaf in jax.tree.leaves(tree)
    ]


def is_key(leaf):
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@pytest.mark.slow
def test_a_state_is_bit_equal_on_every_mesh(tmp_path):
    """Parameters, both moments of the optimizer, the aggregator and the key, from mesh to mesh."""
    programs = [program_on(*mesh) for mesh in MESHES]
    config = on(MESHES[0][1])
    state = programs[0].begin(
        programs[0].init(run_key(config, KeyPurpose.PARAMETERS)), run_key(config, KeyPurpose.STEPS)
    )
    state = jax.tree.map(
        lambda leaf: leaf + 0.1 * leaf.size if jax.numpy.issubdtype(leaf.dtype, float) else leaf,
        state,
    )
    expected = bits(state)
    for step, program in enumerate([*programs[1:], programs[0]]):
        with Checkpoints(tmp_path, keep_latest=9) as checkpoints:
            checkpoints.save(step, state, extra={})
        state, _ = SavedCheckpoints(tmp_path).restore(program.state_shapes, step=step)
        assert bits(state) == expected
        wanted = jax.tree.map(lambda shape: shape.sharding, program.state_shapes)
        assert jax.tree.map(lambda leaf: leaf.sharding, state) == wanted
    split = [len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state)]
    assert max(split) == 8


def rows(runs):
    return [
        {k: v for k, v in row.items() if not k.endswith(("_seconds", "per_second"))}
        for row in files.read_json_lines(runs / "mini" / files.METRICS)
    ]


@pytest.mark.nightly
@pytest.mark.slow
def test_a_run_continues_on_other_meshes(tmp_path, capsys):
    """8, then 4, then 2 x 4 devices: the rows of a run on 8, up to rounding."""
    add, stop_at = StepLog.add, 0

    def add_then_stop(self, step):
        add(self, step)
        if step.number == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    with mock.patch.object(loop, "plot_run", return_value=[]):
        train(digits_run.SPREAD, tmp_path / "alone")
        with mock.patch.object(StepLog, "add", add_then_stop):
            for stop_at, (count, mesh) in enumerate(MESHES, start=1):
                with make_mesh_of(count), contextlib.suppress(Interrupted):
                    train(on(mesh), tmp_path / "moved", start="auto")
                line = "sums are taken in another order"
                assert (line in capsys.readouterr().out) == (stop_at > 1)
        with make_mesh_of(8):
            train(on(MESHES[2][1]), tmp_path / "moved", start="auto")
        assert line not in capsys.readouterr().out
    expected, actual = rows(tmp_path / "alone"), rows(tmp_path / "moved")
    assert [row["step"] for row in actual] == [1, 2, 3, 4]
    for one, other in zip(expected, actual, strict=True):
        for name, value in one.items():
            np.testing.assert_allclose(other[name], value, rtol=1e-4, atol=1e-4, err_msg=name)
    samples = [
        files.read_json_lines(runs / "mini" / files.SAMPLES)
        for runs in (tmp_path / "alone", tmp_path / "moved")
    ]
    for one, other in zip(*samples, strict=True):
        assert one["prompt"] == other["prompt"]
        assert one["completion"] == other["completion"]
