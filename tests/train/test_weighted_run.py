"""A run at pipeline depth 1 with importance weights between sampler and trainer."""

import dataclasses
import json

import digits_run
import pytest

from dvaojax.train import train


@pytest.mark.slow
def test_importance_weights_start_at_one_and_are_capped(tmp_path):
    config = dataclasses.replace(digits_run.AHEAD, num_steps=3)
    loss = dataclasses.replace(config.loss, importance_cap=1.01)
    with digits_run.make_mesh_of(1):
        train(dataclasses.replace(config, loss=loss), tmp_path)
    text = (tmp_path / config.name / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    # Only the first completions were sampled with the parameters that they update.
    assert rows[0]["importance_weight"] == pytest.approx(1.0, abs=1e-4)
    assert any(row["importance_truncated"] > 0 for row in rows[1:])
    assert all(row["importance_weight"] <= 1.01 for row in rows)
