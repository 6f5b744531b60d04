"""Runs with several answers per completion: their metrics, and exact resume."""

import dataclasses
from unittest import mock

import chex
import jax
import pytest
from digits_run import digits_config, make_mesh_of, quick_programs

from dvaojax import files
from dvaojax.config import AggregatorConfig, make_aggregator, validate
from dvaojax.errors import UserError
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.tasks.arithmetic_sets import ArithmeticSets
from dvaojax.train import loop, train
from dvaojax.train.program import make_program
from dvaojax.train.progress import checkpoint_shapes
from dvaojax.train.step_log import StepLog

TASK = ArithmeticSets(num_train=16, num_test=4, num_answers=2)
CONFIG = digits_config(
    task=TASK,
    weights=dict.fromkeys(TASK.objectives, 1.0),
    aggregator={"name": "vpo", "options": ("answers=2", "draws=4")},
    model={"vocab_size": 19},
    max_new_tokens=24,
    num_steps=2,
    warm_start={"num_steps": 60, "batch_size": 8, "learning_rate": 0.02},
    evaluation={"num_prompts": 4, "samples": 2},
)


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with quick_programs(), mock.patch.object(loop, "plot_run", return_value=[]):
        yield


def rows(runs):
    return [
        {k: v for k, v in row.items() if not k.endswith(("_seconds", "per_second"))}
        for row in files.read_json_lines(runs / "mini" / files.METRICS)
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a finished run, and its summary."""
    runs = tmp_path_factory.mktemp("finished")
    # The tests do not need correct answers, and real demonstrations would take more tokens.
    with mock.patch.object(ArithmeticSets, "demonstration", return_value="[1]|7=[12]"):
        return runs, train(CONFIG, runs)


@pytest.mark.slow
def test_every_row_has_best_answers_and_diversity(finished):
    for row in rows(finished[0]):
        assert row.keys() >= {"best/accuracy", "best/brevity", "answers", "diversity"}
        assert 1 <= row["answers"] <= 2
        assert row["best/brevity"] >= row["reward/brevity/1"]


@pytest.mark.slow
def test_summary_has_best_at_k_and_diversity(finished):
    for when in ("before", "after"):
        summary = finished[1][when]
        names = {f"{o}/best@{k}" for o in ("accuracy", "brevity") for k in (1, 2, 4)}
        assert summary.keys() == {*TASK.objectives, "length", *names, "diversity"}
        assert summary["brevity/best@1"]["mean"] <= summary["brevity/best@2"]["mean"]


def test_rejects_a_number_of_answers_that_does_not_divide_the_objectives():
    with pytest.raises(UserError, match=r"^aggregator.name=vpo: answers=3 does not divide"):
        validate(dataclasses.replace(CONFIG, aggregator=AggregatorConfig("vpo", ("answers=3",))))


# Three objectives whose rewards vary from the first step.
DRAWING = digits_config(
    aggregator={
        "name": "vpo",
        "options": ("draws=2",),
        "shadows": ("vpo:draws=2", "dvao"),
    },
    num_steps=4,
    warm_start={"num_steps": 0},
    checkpoints={"every": 2},
)


def last_state(runs):
    with make_mesh_of(1):
        shapes = checkpoint_shapes(DRAWING, make_program(DRAWING, make_aggregator(DRAWING)))
    checkpoints = SavedCheckpoints(runs / "mini" / files.CHECKPOINTS)
    saved, _ = checkpoints.restore(shapes)
    state = saved["state"]
    return state._replace(key=jax.random.key_data(state.key))


class Stop(Exception):
    """Ends a run early."""


@pytest.mark.nightly
@pytest.mark.slow
def test_resumed_run_draws_the_same_trade_offs(tmp_path):
    """A run stopped in step 4 and resumed from step 2 equals an uninterrupted run bit for bit."""
    at_once, broken = tmp_path / "at_once", tmp_path / "broken"
    train(DRAWING, at_once)
    add = StepLog.add

    def stopped(self, step):
        if step.number == 4:
            raise Stop
        add(self, step)

    with mock.patch.object(StepLog, "add", stopped), pytest.raises(Stop):
        train(DRAWING, broken)
    assert [row["step"] for row in rows(broken)] == [1, 2, 3]
    train(DRAWING, broken, start="resume")
    assert rows(broken) == rows(at_once)
    chex.assert_trees_all_equal(last_state(broken), last_state(at_once))
    for row in rows(at_once):
        assert row["grad_norm"] > 0
        assert row["shadow/vpo:draws=2/cosine"] == pytest.approx(1.0)
