"""A run one step ahead whose tokens are weighted between sampler and trainer; the whole policy."""

import dataclasses
import json

import digits_run
import pytest

from dvaojax.train import train


@pytest.mark.slow
def test_the_first_completions_weigh_one_and_later_ones_at_most_the_cap(tmp_path):
    config = dataclasses.replace(digits_run.AHEAD, num_steps=3)
    loss = dataclasses.replace(config.loss, importance_cap=1.01)
    with digits_run.make_mesh_of(1):
        train(dataclasses.replace(config, loss=loss), tmp_path)
    text = (tmp_path / config.name / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    # The first completions were sampled by the policy that learns from them, later ones before it.
    assert rows[0]["importance_weight"] == pytest.approx(1.0, abs=1e-4)
    assert any(row["importance_truncated"] > 0 for row in rows[1:])
    assert all(row["importance_weight"] <= 1.01 for row in rows)
