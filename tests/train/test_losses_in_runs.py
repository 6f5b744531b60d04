"""Losses in whole runs: several updates a step, one step ahead."""

import dataclasses
import json
import math

import digits_run
import pytest
from tiny_run import compilation_cache

from dvaojax.train import train


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """One device; what the runs have in common, which is all but the update, is compiled once."""
    with compilation_cache(tmp_path_factory.mktemp("compiled")), digits_run.quick_programs():
        yield


def run(tmp_path, name):
    """The rows of a run of three steps of two passes, in two pieces each."""
    config = dataclasses.replace(digits_run.AHEAD, num_steps=3)
    loss = dataclasses.replace(config.loss, name=name)
    train(dataclasses.replace(config, loss=loss), tmp_path)
    path = tmp_path / config.name / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


# By tokens, by sequences, with all earlier tokens, by lot, by rank in the batch, in log-odds.
KINDS = ("dapo", "gspo", "minpro", "clip_cov", "kl_cov", "lco_mse")


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_run_with_a_loss_of_every_kind(name, quick, tmp_path):
    rows = run(tmp_path, name)
    assert len(rows) == 3
    for row in rows:
        assert all(math.isfinite(row[key]) for key in ("loss", "ratio", "entropy", "grad_norm"))
        assert row["skipped_updates"] == 0
        assert row["grad_norm"] > 0
    assert rows[-1]["approximate_kl"] > 0
