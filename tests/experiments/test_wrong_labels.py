"""The choice of rightly labelled problems: the task, and the saved results against the claims."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import wrong_labels as script

from dvaojax.sweep.directory import DESCRIPTION, SweepDirectory, describe
from dvaojax.sweep.execution import REPORT
from dvaojax.sweep.grid import CellKey, cell_at
from dvaojax.sweep.report import report
from dvaojax.sweep.runner import CellRunner
from dvaojax.sweep.statistics import findings
from dvaojax.types import Completion

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results" / "wrong_labels"


@pytest.fixture(scope="module")
def sweep():
    return script.get_sweep()


@pytest.fixture(scope="module")
def rows():
    return SweepDirectory(RESULTS).rows()


def test_a_third_of_the_training_labels_lack_the_carry_and_no_test_label_does():
    task = script.WrongLabels()
    shares = []
    for split in ("train", "test"):
        wrong = 0
        for prompt in task.prompts(split):
            first, second = map(int, prompt.text.rstrip("=").split("+"))
            label = int(prompt.reference.removesuffix(script.WRONG))
            assert first % 10 + second % 10 > 9
            assert label - first - second == (-10 if prompt.reference.endswith(" wrong") else 0)
            wrong += label != first + second
        shares.append(wrong / len(task.prompts(split)))
    assert shares == pytest.approx([1 / 3, 0], abs=0.002)


def test_demonstrations_earn_right_and_wrong_labels_equally_often():
    task, generator = script.WrongLabels(), random.Random(0)
    earned = {True: [], False: []}
    for prompt in task.prompts("train"):
        for _ in range(8):
            text = task.demonstration(prompt, generator)
            completion = Completion(text, (1,), True)
            is_right = script.right_label(completion, prompt.reference) == 1
            earned[is_right].append(script.accuracy(completion, prompt.reference))
    assert np.mean(earned[True]) == pytest.approx(0.5, abs=0.04)
    assert np.mean(earned[False]) == pytest.approx(0.5, abs=0.06)


def test_results_are_those_of_this_sweep(sweep, rows):
    kept = json.loads((RESULTS / DESCRIPTION).read_text())
    now = json.loads(json.dumps(describe(sweep)))
    for part in kept["sweep"].keys() - {"base"}:
        assert kept["sweep"][part] == now[part]
    for key, value in kept["sweep"]["base"]["allocation"].items():
        assert now["base"]["allocation"][key] == value
    assert all(len(start["commit"]) == 12 for start in kept["starts"])
    assert len(rows) == len(script.METHODS) * len(sweep.seeds)
    assert (RESULTS / REPORT).read_text() == report(sweep, findings(sweep, rows))


def test_readme_has_the_table(rows):
    assert script.table(script.results(rows)) in (ROOT / "experiments/README.md").read_text()


def shares(rows, method):
    """Seed -> share of wrong labels among the problems trained on."""
    chosen = {key.seed: row for key, row in rows.items() if key.method == method}
    return {seed: 1 - row["during"]["right_label"] for seed, row in chosen.items()}


def test_fewer_wrong_labels_are_trained_on(rows):
    """In every seed, as the README says; their share among all problems is a third."""
    every, measured = shares(rows, "all"), script.results(rows)
    for method in ("sim", "simacc", "dot", "align"):
        chosen = shares(rows, method)
        assert all(chosen[seed] < share for seed, share in every.items())
        assert measured[method][0].high < measured["all"][0].low / 2
    assert measured["all"][0].mean == pytest.approx(1 / 3, abs=0.02)
    assert measured["sim"][0].mean < measured["all"][0].mean / 6
    assert measured["rand"][0].high > 1 / 3


@pytest.mark.nightly
def test_a_miniature_runs_every_code_path():
    small = script.get_smoke_sweep()
    with CellRunner(small) as runner:
        outcome = runner.run(cell_at(small, CellKey("third_wrong", 0, "sim", "accuracy")))
    assert 0 <= outcome.during["right_label"] <= 1
