"""Exact resume: killed and interrupted runs equal uninterrupted runs bit for bit."""

import dataclasses
import json
import signal
import time
import zlib
from unittest import mock

import digits_run
import jax
import numpy as np
import optax
import pytest
from run_child import INTERRUPTED
from run_children import assert_same_run, begin, finish, rows, run, saved
from slowness import nightly_but
from tiny_run import child_environment

from dvaojax import aggregators, files
from dvaojax.config import make_aggregator
from dvaojax.errors import UserError
from dvaojax.run import lock
from dvaojax.train import loop, train
from dvaojax.train import program as train_program
from dvaojax.train.step_log import StepLog


@pytest.fixture(scope="module")
def environment():
    return child_environment()


def interrupt(environment, runs, number, *arguments):
    """Sends a signal to the process in the middle of a step, and returns its standard error."""
    process = begin(environment, runs, *arguments)
    while not (runs / "waiting").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    with pytest.raises(UserError, match=f"in use by process {process.pid} on"):
        lock.take(runs / "mini")
    process.send_signal(number)
    (runs / "signalled").touch()
    returned, errors = finish(process)
    (runs / "waiting").unlink()
    (runs / "signalled").unlink()
    assert returned == INTERRUPTED, errors
    return errors


# Kills, states and depth 1 are each tested by themselves, below and in test_unequal_groups.py.
@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "config"),
    [
        pytest.param("EPOCHS", digits_run.EPOCHS, id="depth 0"),
        pytest.param("AHEAD", digits_run.AHEAD, id="depth 1"),
    ],
)
def test_killed_run_resumes_with_several_epochs_and_a_stateful_aggregator(
    environment, tmp_path, name, config
):
    """Killed in step 5, after the row of step 4 was written and before its checkpoint.

    At depth 1 the completions of step 4 are in the checkpoint of step 3. There the order of the
    problems is Grain's, and twelve problems are taken from five.
    """
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    run(environment, uninterrupted, name, "create")
    run(environment, killed, name, "create", "--die-at", 5, 3, code=-signal.SIGKILL)
    assert [row["step"] for row in rows(killed)] == [1, 2, 3, 4]
    run(environment, killed, name, "resume")
    aggregator = digits_run.noisy_running_mean(config)
    assert_same_run(config, aggregator, uninterrupted, killed)

    arrays, _ = saved(config, aggregator, killed)
    assert int(arrays["state"].aggregator_state["updates"]) == 6
    assert np.abs(arrays["state"].aggregator_state["means"]).max() > 0.01
    starts = files.read_json(killed / "mini" / files.CONFIG)["starts"]
    assert len(starts) == 2


# Options with which each state changes within six steps.
STATEFUL = {
    "constrained_grpo": ("threshold=0.9",),
    "ctwa": ("target=2.0", "cap=9.0"),
    "dvao_shrunk_running": (),
    "hvpo": ("lower=-1.0",),
    "lagrangian": ("threshold.digits=0.9", "rate=0.5"),
    "rvpo_annealed": ("num_steps=6",),
}


class Killed(BaseException):
    """Ends a run in the middle of a step, like a kill."""


@pytest.mark.slow
@pytest.mark.parametrize("name", nightly_but(["lagrangian"], aggregators.STATEFUL))
def test_state_of_an_aggregator_is_resumed(tmp_path, name):
    config = digits_run.digits_config(
        aggregator={"name": name, "options": STATEFUL[name]},
        warm_start={"num_steps": 0},
        checkpoints={"every": 3},
    )
    state = after_kill_and_resume(config, tmp_path)
    before, after = make_aggregator(config).init(3), state.aggregator_state
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert np.any(old != new)


@dataclasses.dataclass(frozen=True)
class NoisyDigits(digits_run.Digits):
    """Rewards with noise that the number of the score determines."""

    @property
    def objectives(self):
        return {**super().objectives, "digits": noisy_digits}


def noisy_digits(completion, reference):
    noise = zlib.crc32(f"{completion.text}/{completion.scoring}".encode()) % 100 / 200
    return digits_run.digits(completion, reference) + noise


@pytest.mark.nightly
@pytest.mark.slow
def test_repeated_scores_and_advantages_of_tokens_are_resumed(tmp_path):
    config = digits_run.digits_config(
        task=NoisyDigits(),
        aggregator={"name": "optimal_token_baseline", "shadows": ("dvao_of_repeats", "dvao")},
        rewards={"repeats": 3},
        warm_start={"num_steps": 0},
        checkpoints={"every": 3},
    )
    with mock.patch.object(train_program, "policy_gradient_norms", digits_run.improbability):
        after_kill_and_resume(config, tmp_path)
    logged = rows(tmp_path / "killed")
    cosines = [
        [row[f"shadow/{name}/cosine"] for row in logged] for name in config.aggregator.shadows
    ]
    assert np.any(np.abs(np.subtract(*cosines)) > 1e-3), "noise was found"
    assert all(row["grad_norm"] > 0 for row in logged)
    # The variance of a third of the numbers 0 to 99, over 200.
    noises = [row["reward_noise/digits"] for row in logged]
    np.testing.assert_allclose(np.mean(noises), (100**2 - 1) / 12 / 200**2 / 3, rtol=0.3)
    assert all(row["reward_noise/brevity"] == 0 for row in logged)


@pytest.mark.nightly
def test_signal_and_noise_of_the_learning_rate_are_resumed(tmp_path):
    config = digits_run.digits_config(
        learning={"micro_batches": 2},
        optimizer={"snr_floor": 0.05, "snr_decay": 0.9},
        warm_start={"num_steps": 0},
        checkpoints={"every": 3},
    )
    state = after_kill_and_resume(config, tmp_path)
    noise = float(optax.tree.get(state.learner.optimizer_state, "noise"))
    measured = [row["gradient_noise"] for row in rows(tmp_path / "killed")]
    expected = sum(0.1 * 0.9 ** (5 - step) * noise for step, noise in enumerate(measured))
    np.testing.assert_allclose(noise, expected, rtol=1e-4)


def after_kill_and_resume(config, path):
    """The last state of a run killed in step 5 and resumed from step 3.

    Asserts that the run equals an uninterrupted run.
    """
    uninterrupted, killed = path / "uninterrupted", path / "killed"
    add = StepLog.add

    def add_then_die(log, step):
        add(log, step)
        if step.number == 5:
            raise Killed

    with digits_run.quick_programs(), mock.patch.object(loop, "plot_run", return_value=[]):
        train(config, uninterrupted)
        with mock.patch.object(StepLog, "add", add_then_die), pytest.raises(Killed):
            train(config, killed)
        assert [row["step"] for row in rows(killed)] == [1, 2, 3, 4]
        train(config, killed, start="resume")
        aggregator = make_aggregator(config)
        assert_same_run(config, aggregator, uninterrupted, killed)
        return saved(config, aggregator, killed)[0]["state"]


@pytest.mark.slow
def test_signals_stop_after_the_step_and_the_run_resumes_exactly(environment, tmp_path):
    """SIGTERM in step 2, Ctrl-C in step 3, and a last resume."""
    uninterrupted, stopped = tmp_path / "uninterrupted", tmp_path / "stopped"
    run(environment, uninterrupted, "PLAIN", "create")
    for number, start, step in (
        (signal.SIGTERM, "create", 2),
        (signal.SIGINT, "resume", 3),
    ):
        errors = interrupt(environment, stopped, number, "PLAIN", start, "--wait-at", step)
        line = errors.strip().splitlines()[-1]
        assert f"stopped after step {step} of 6 by {number.name}" in line
        assert "--resume" in line
        assert str(stopped / "mini") in line
        assert (stopped / "mini" / files.CHECKPOINTS / str(step)).is_dir()
        assert [row["step"] for row in rows(stopped)] == list(range(1, step + 1))
    run(environment, stopped, "PLAIN", "resume")
    aggregator = make_aggregator(digits_run.PLAIN)
    assert_same_run(digits_run.PLAIN, aggregator, uninterrupted, stopped)

    # Trap 46: if the first completions after a resume were sampled with other weights than the
    # restored ones, their ratio would not be 1.
    metrics = rows(stopped)
    np.testing.assert_allclose([row["ratio"] for row in metrics], 1.0, atol=1e-5)
    assert all(row["clip_fraction"] == 0.0 for row in metrics)
    assert all(row["grad_norm"] > 0.01 for row in metrics)
    json.dumps(metrics, allow_nan=False)
