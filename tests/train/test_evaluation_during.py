"""Evaluations on held-out problems during a run: rows, the best checkpoint, early stopping."""

import dataclasses
from unittest import mock

import pytest
from digits_run import digits_config, quick_programs

from dvaojax import files
from dvaojax.config import Config, config_from_json, make_aggregator, validate
from dvaojax.errors import UserError
from dvaojax.evaluation.measures import averages
from dvaojax.run.description import config_to_json, first_difference, with_defaults
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.train import loop, train
from dvaojax.train.best import EVALUATED, BestEvaluation, is_due, stops_early, weighted_reward
from dvaojax.train.evaluator import evaluate_policy, evaluator_of
from dvaojax.train.program import make_program
from dvaojax.train.progress import restore_params
from dvaojax.train.scoring import make_scorer
from dvaojax.train.session import BEST_METRIC
from dvaojax.train.step_log import StepLog

# Three evaluations in five steps, none of them at a checkpoint's time.
EVALUATED_RUN = digits_config(
    num_steps=5,
    warm_start={"num_steps": 0},
    optimizer={"learning_rate": 0.5, "warmup_updates": 0},
    checkpoints={"every": 3},
    evaluation={"every": 2},
)
WITHOUT = dataclasses.replace(
    EVALUATED_RUN, evaluation=dataclasses.replace(EVALUATED_RUN.evaluation, every=0)
)
# The policy does not change, so that no evaluation is better than the one before training.
UNCHANGED = dataclasses.replace(
    EVALUATED_RUN,
    num_steps=9,
    optimizer=dataclasses.replace(EVALUATED_RUN.optimizer, learning_rate=0.0),
    early_stop=2,
)


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with quick_programs(), mock.patch.object(loop, "plot_run", return_value=[]):
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The parent directory of a finished run, and its summary."""
    runs = tmp_path_factory.mktemp("evaluated")
    return runs, train(EVALUATED_RUN, runs)


def rows(runs):
    """`metrics.jsonl` without wall times."""
    return [
        {k: v for k, v in row.items() if not k.endswith(("_seconds", "per_second"))}
        for row in files.read_json_lines(runs / "mini" / files.METRICS)
    ]


def test_rows_of_evaluated_steps_have_the_measures_of_their_policy(finished):
    """The newest checkpoint and the best one are evaluated again, outside the run."""
    runs, summary = finished
    evaluated = {row["step"]: row for row in rows(runs) if EVALUATED in row}
    assert list(evaluated) == [2, 4, 5]
    program = make_program(EVALUATED_RUN, make_aggregator(EVALUATED_RUN))
    shapes = program.state_shapes.learner.params
    checkpoints = SavedCheckpoints(runs / "mini" / files.CHECKPOINTS, best_metric=BEST_METRIC)
    with make_scorer(EVALUATED_RUN) as scorer:
        best = checkpoints.best_step
        for step in {best, 5} - {0}:
            params = restore_params(checkpoints, shapes, step=step)
            again = averages(evaluate_policy(EVALUATED_RUN, evaluator_of(program), scorer, params))
            means = {f"evaluation/{name}": interval["mean"] for name, interval in again.items()}
            assert {name: evaluated[step][name] for name in means} == means
            total = sum(w * again[name]["mean"] for name, w in EVALUATED_RUN.weights.items())
            assert evaluated[step][EVALUATED] == pytest.approx(total)
    before = sum(w * summary["before"][name]["mean"] for name, w in EVALUATED_RUN.weights.items())
    values = {0: before} | {step: row[EVALUATED] for step, row in evaluated.items()}
    assert len(set(values.values())) > 2
    assert best == max(values, key=values.__getitem__) == summary["best"]["step"]
    assert summary["best"]["weighted_reward"] == pytest.approx(values[best])
    assert summary["after"]["digits"]["mean"] == evaluated[5]["evaluation/digits"]
    assert summary["stopped_early"] is False


def test_evaluating_changes_no_number_of_training(finished, tmp_path):
    summary = train(WITHOUT, tmp_path)
    trained = [
        {name: value for name, value in row.items() if not name.startswith("evaluation/")}
        for row in rows(finished[0])
    ]
    assert trained == rows(tmp_path)
    assert not any(EVALUATED in row for row in rows(tmp_path))
    for when in ("before", "after"):
        assert summary[when] == finished[1][when]


class Killed(BaseException):
    """Ends a run in the middle of a step, like a kill."""


@pytest.mark.parametrize("step", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_run_resumes_with_the_same_evaluations(finished, tmp_path, step):
    """Killed in step 3 after the evaluation of step 2, and in step 5 between two evaluations."""
    add = StepLog.add

    def die(log, dispatched):
        add(log, dispatched)
        if dispatched.number == step:
            raise Killed

    with mock.patch.object(StepLog, "add", die), pytest.raises(Killed):
        train(EVALUATED_RUN, tmp_path)
    summary = train(EVALUATED_RUN, tmp_path, start="resume")
    assert rows(tmp_path) == rows(finished[0])
    whole = {name: value for name, value in finished[1].items() if name != "wall_seconds"}
    assert {name: value for name, value in summary.items() if name != "wall_seconds"} == whole


@pytest.mark.slow
def test_run_stops_early_and_a_resume_says_so_or_continues(tmp_path, capsys):
    summary = train(UNCHANGED, tmp_path)
    line = "stopped early after step 4 of 9: 2 evaluations since the best one, after step 0"
    assert line in capsys.readouterr().out
    assert (summary["steps"], summary["stopped_early"]) == (4, True)
    assert summary["after"] == summary["before"]
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]
    assert files.read_json(tmp_path / "mini" / files.SUMMARY)["steps"] == 4

    again = train(UNCHANGED, tmp_path, start="resume")
    assert line in capsys.readouterr().out
    assert again["steps"] == 4
    assert len(rows(tmp_path)) == 4

    patient = dataclasses.replace(UNCHANGED, early_stop=4)
    longer = train(patient, tmp_path, start="resume")
    assert "stopped early after step 8 of 9: 4 evaluations" in capsys.readouterr().out
    assert longer["steps"] == 8
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, 9))


def test_an_evaluation_is_better_only_if_it_is_greater():
    best = BestEvaluation(0, 1.0)
    for step, value in ((2, 0.5), (4, 1.0), (6, None), (8, 1.5), (10, 1.4)):
        best = best.followed_by(step, value)
        expected = {2: (0, 1.0, 1), 4: (0, 1.0, 2), 6: (0, 1.0, 3), 8: (8, 1.5, 0)}
        assert best == expected.get(step, (8, 1.5, 1))
    assert BestEvaluation(0, None).followed_by(2, -3.0) == (2, -3.0, 0)


def test_evaluation_is_due_at_its_steps_and_the_last():
    config = digits_config(num_steps=7, evaluation={"every": 3})
    assert [step for step in range(1, 8) if is_due(config, step)] == [3, 6, 7]
    assert not any(is_due(digits_config(num_steps=7), step) for step in range(1, 8))
    assert not stops_early(config, BestEvaluation(0, 1.0, waited=99))
    patient = dataclasses.replace(config, early_stop=3)
    waited = [stops_early(patient, BestEvaluation(0, 1.0, waited=n)) for n in range(5)]
    assert waited == [False, False, False, True, True]
    assert not stops_early(patient, None)


def test_objectives_that_could_not_be_scored_are_left_out():
    config = digits_config()
    interval = {"mean": 0.5, "low": 0.0, "high": 1.0}
    summary = {"digits": interval, "largest": None, "brevity": interval, "length": interval}
    assert weighted_reward(config, summary) == pytest.approx(0.5 * (1.0 + 2.0))
    none = dict.fromkeys(summary) | {"length": interval}
    assert weighted_reward(config, none) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"early_stop": 3}, "early_stop=3 counts evaluations during training, and there are none"),
        ({"early_stop": -1, "evaluation": {"every": 2}}, "early_stop=-1 must not be negative"),
    ],
)
def test_early_stop_is_checked(changes, message):
    with pytest.raises(UserError, match=message):
        validate(digits_config(**changes))


def test_negative_interval_of_evaluations_is_refused():
    with pytest.raises(ValueError, match=r"evaluation\.every=-1 must be at least 0"):
        digits_config(evaluation={"every": -1})


def test_reads_a_run_recorded_before_there_were_evaluations_during_training():
    recorded = config_to_json(Config())
    older = {name: v for name, v in recorded.items() if name not in ("early_stop", "hints")}
    for section, name in (
        ("evaluation", "every"),
        ("loss", "mask_truncated"),
        ("rewards", "concurrency"),
        ("task", "hint_levels"),
    ):
        older[section] = {key: v for key, v in older[section].items() if key != name}
    assert first_difference(with_defaults(older, Config()), recorded) is None
    assert config_from_json(older) == Config()
