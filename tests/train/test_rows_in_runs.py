"""A step of a run with every row of the tables of `dvaojax methods`, as its page selects it."""

import math
from unittest import mock

import digits_run
import pytest

from dvaojax import aggregators, allocation, files, losses
from dvaojax.cli import method_page
from dvaojax.config import overrides
from dvaojax.train import loop, program, train

CONFIG = digits_run.digits_config(
    num_steps=1,
    warm_start={"num_steps": 0},
    evaluation={"num_prompts": 1},
)
# `gradalign` needs problems to choose from; see `test_selection`.
NAMES = [*aggregators.ROWS, *losses.ROWS, *losses.OTHERS, *allocation.ROWS]
NAMES = [name for name in dict.fromkeys(NAMES) if name != "gradalign"]


@pytest.mark.nightly
@pytest.mark.parametrize("name", NAMES)
def test_a_step_with_every_row(tmp_path, name):
    for number, entry in enumerate(method_page.find(name)):
        config = overrides.apply(CONFIG, [*entry.use.split()[3:], f"name=run-{number}"])
        with (
            digits_run.quick_programs(),
            mock.patch.object(program, "policy_gradient_norms", digits_run.improbability),
            mock.patch.object(loop, "plot_run", return_value=[]),
        ):
            train(config, tmp_path)
        (row,) = files.read_json_lines(tmp_path / config.name / files.METRICS)
        assert all(math.isfinite(row[key]) for key in ("loss", "entropy", "reward/digits"))
        assert row["skipped_updates"] == 0
        assert row["grad_norm"] > 0
