"""Metrics: means are divided once, and every sink gets the same rows."""

import math
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dvaojax import files
from dvaojax.errors import UserError
from dvaojax.numerics import Mean
from dvaojax.run.metrics import MetricsWriter, SampleRecord, TensorBoard, to_host
from dvaojax.run.wandb import WandB


def read_events(directory):
    """Reads scalars with TensorBoard itself, checksums included."""
    reader = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    reader.Reload()
    tags = reader.Tags()["scalars"]
    return [(event.step, tag, event.value) for tag in tags for event in reader.Scalars(tag)]


def test_divides_sums_by_counts_in_float64():
    metrics = {
        "reward": Mean(jnp.array([1.0, 9.0, 0.0]), jnp.array([3.0, 4.0, 0.0])),
        "agreement": Mean(jnp.array(1.0), jnp.array(3.0)),
        "kl": Mean(jnp.array(0.0), jnp.array(0.0)),
        "spread": jnp.array([0.5, 0.25, 0.0]),
        "grad_norm": jnp.array(2.0, jnp.bfloat16),
        "skipped": jnp.array(3),
        "rollout_seconds": 0.1,
    }
    row = to_host(metrics, objectives=["accuracy", "brevity", "format"])
    assert math.isnan(row.pop("reward/format"))  # nothing was scored, which is not a reward of 0
    assert math.isnan(row.pop("kl"))
    assert row == {
        "reward/accuracy": 1 / 3,  # in float64, not in float32
        "reward/brevity": 2.25,
        "agreement": 1 / 3,
        "spread/accuracy": 0.5,
        "spread/brevity": 0.25,
        "spread/format": 0.0,
        "grad_norm": 2.0,
        "skipped": 3.0,
        "rollout_seconds": 0.1,
    }
    assert {type(value) for value in row.values()} == {float}


def test_sums_of_partial_sums_give_the_same_row():
    values = jnp.arange(12.0) ** 2
    whole = to_host({"x": Mean(values.sum(), jnp.array(12.0))})
    for pieces in (2, 3, 4):
        parts = values.reshape(pieces, -1)
        total = sum((part.sum() for part in parts), jnp.array(0.0))
        assert to_host({"x": Mean(total, jnp.array(12.0))}) == whole


def test_reads_replicated_values():
    mesh = Mesh(np.array(jax.devices()), ("data",))
    value = jax.device_put(jnp.array([1.0, 2.0]), NamedSharding(mesh, P()))
    assert to_host({"reward": value}, objectives=["a", "b"]) == {"reward/a": 1.0, "reward/b": 2.0}


def test_rejects_a_vector_of_wrong_length():
    with pytest.raises(ValueError, match=r"'reward' has shape \(2,\); expected a scalar or \(3,\)"):
        to_host({"reward": jnp.ones(2)}, objectives=["a", "b", "c"])


def test_all_sinks_get_all_rows_and_drop_the_same_steps(tmp_path):
    def run(first, last):
        sinks = [files.JsonLines(tmp_path / "m.jsonl"), TensorBoard(tmp_path / "tb")]
        with MetricsWriter(sinks) as metrics:
            metrics.truncate_after(first - 1)
            for step in range(first, last + 1):
                metrics.write(step, {"reward/a": step / 4, "kl": math.nan})

    run(1, 5)
    run(4, 6)  # resumed from the checkpoint of step 3
    rows = files.read_json_lines(tmp_path / "m.jsonl")
    assert rows == [{"step": s, "reward/a": s / 4, "kl": None} for s in range(1, 7)]
    assert read_events(tmp_path / "tb") == [(s, "reward/a", s / 4) for s in range(1, 7)]


def test_tensorboard_rows_are_flushed_immediately(tmp_path):
    board = TensorBoard(tmp_path)
    board.write(1, {"x": 2.0})
    assert read_events(tmp_path) == [(1, "x", 2.0)]
    board.close()


def test_tensorboard_tags_have_no_control_characters(tmp_path):
    board = TensorBoard(tmp_path)
    board.write(1, {"reward/a\x1b[2J\ud800": 0.5})
    board.close()
    assert read_events(tmp_path) == [(1, r"reward/a\x1b[2J\ud800", 0.5)]


def test_sample_record_has_every_reward_by_name(tmp_path):
    lines = files.JsonLines(tmp_path / "s.jsonl")
    sample = SampleRecord("1+1=", "2", {"accuracy": 1.0, "rubric": None}, -0.5)
    lines.write(3, sample._asdict())
    lines.close()
    assert files.read_json_lines(tmp_path / "s.jsonl") == [
        {
            "step": 3,
            "prompt": "1+1=",
            "completion": "2",
            "rewards": {"accuracy": 1.0, "rubric": None},
            "advantage": -0.5,
        }
    ]


def test_wandb_is_an_optional_dependency(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    with pytest.raises(
        UserError, match=r"^wandb is not installed: pip install '.\[wandb\]' in the "
    ):
        WandB(tmp_path, project="p", name="n", config={})


def test_wandb_gets_the_rows(tmp_path, monkeypatch):
    calls = []

    class Run:
        def log(self, values, *, step):
            calls.append((step, values))

        def finish(self):
            calls.append("finished")

    def init(**settings):
        calls.append(settings)
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    with MetricsWriter([WandB(tmp_path, project="p", name="n", config={"seed": 0})]) as metrics:
        metrics.truncate_after(0)
        metrics.write(1, {"x": 0.5})
    assert calls[0]["id"] == "n"
    assert calls[0]["resume"] == "allow"
    assert calls[1:] == [(1, {"x": 0.5}), "finished"]
