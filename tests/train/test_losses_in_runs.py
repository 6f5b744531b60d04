"""Losses in whole runs, with several updates per step and pipeline depth 1."""

import dataclasses
import json
import math

import digits_run
import pytest
from slowness import nightly_but

from dvaojax.train import train


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with digits_run.quick_programs():
        yield


PAIRS = {f"gradient_cosine/{p}" for p in ("digits/largest", "digits/brevity", "largest/brevity")}


def run(tmp_path, name):
    """The rows of a run with three steps, two epochs and two mini-batches."""
    config = dataclasses.replace(digits_run.AHEAD, num_steps=3)
    learning = dataclasses.replace(config.learning, gradient_cosines=2)
    config = dataclasses.replace(config, learning=learning)
    loss = dataclasses.replace(config.loss, name=name)
    train(dataclasses.replace(config, loss=loss), tmp_path)
    path = tmp_path / config.name / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


# Ratios per token, per sequence and per prefix; random, rank-based and log-odds bounds.
KINDS = ("dapo", "gspo", "minpro", "clip_cov", "kl_cov", "lco_mse")


@pytest.mark.slow
@pytest.mark.parametrize("name", nightly_but(["kl_cov", "lco_mse"], KINDS))
def test_run_with_a_loss_of_each_kind(name, tmp_path):
    rows = run(tmp_path, name)
    assert len(rows) == 3
    for row in rows:
        assert all(math.isfinite(row[key]) for key in ("loss", "ratio", "entropy", "grad_norm"))
        assert row["skipped_updates"] == 0
        assert row["grad_norm"] > 0
    assert rows[-1]["approximate_kl"] > 0
    logged = [{name for name in row if name.startswith("gradient_cosine/")} for row in rows]
    assert logged == [set(), PAIRS, set()]
    assert any(rows[1][pair] is not None for pair in PAIRS)
    assert all(rows[1][pair] is None or abs(rows[1][pair]) <= 1 for pair in PAIRS)
