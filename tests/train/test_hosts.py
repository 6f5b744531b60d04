"""Several processes: equal numbers, files written once, all processes stop after the same step."""

import json
import re
import signal
import socket
import subprocess
from unittest import mock

import digits_run
import jax
import numpy as np
import pytest
from bucket_server import BUCKET, bucket_environment, bucket_server
from etils import epath
from run_child import INTERRUPTED
from run_children import content, rows
from tiny_run import HELPERS, STRICT_PYTHON, child_environment

from dvaojax import files, sharding
from dvaojax.config import make_aggregator
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.train import hosts, loop, train
from dvaojax.train.program import make_program
from dvaojax.train.progress import checkpoint_shapes


@pytest.fixture(scope="module")
def environment():
    return child_environment()


def on_hosts(environment, processes, *arguments, timeout):
    """Runs the child in several processes; exit code, output and errors of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            [*STRICT_PYTHON, HELPERS / "host_child.py"]
            + [str(a) for a in (port, processes, index, *arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(processes)
    ]
    try:
        outputs = [process.communicate(timeout=timeout) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(p.returncode, *output) for p, output in zip(started, outputs, strict=True)]


@pytest.fixture(scope="module")
def results(environment):
    """The results of the exchanges, from both processes."""
    ends = on_hosts(environment, 2, "exchange", timeout=300)
    assert [code for code, _, _ in ends] == [0, 0], [errors[-2000:] for _, _, errors in ends]
    return [json.loads(output.strip().splitlines()[-1]) for _, output, _ in ends]


@pytest.mark.slow
def test_groups_are_split_by_process_index(results):
    """Trap 48: the owner of a group follows from its devices; each group is scored once."""
    split, spread = zip(*(process["shares"] for process in results), strict=True)
    assert split == ([[0, 1, 2, 3]] * 2, [[4, 5, 6, 7]] * 2)
    everything = list(range(8))
    assert spread == ([everything, everything], [everything, []]), "held twice, scored once"


@pytest.mark.slow
def test_a_process_provides_its_own_rows_and_gets_the_others(results):
    for index, process in enumerate(results):
        assert process["rows"] == [[row] * 3 for row in range(4 * index, 4 * index + 4)]
        assert process["whole"] == [[row] * 3 for row in range(8)]
        assert process["gathered"] == [10, 11]
        assert process["rewards"] == [-1.0 if i % 3 == 0 else 9.0 * i for i in range(8)]


@pytest.mark.slow
def test_a_failure_in_one_process_stops_all(results):
    """Trap 49: no process waits in a collective that another one never enters."""
    first, second = (process["failures"] for process in results)
    assert (
        first == ["TrainingError: scoring failed in process 1; see the output of that process"] * 2
    )
    assert second[0] == "RewardError: here"
    assert second[1].startswith("RewardError: objective 'length' failed: ValueError: seven")


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_step(results):
    """SIGINT to the second one, in its second step."""
    (step, number), other = (process["signal"] for process in results)
    assert [step, number] == other
    assert number == signal.SIGINT
    assert 2 < step < 600


def test_one_process_holds_and_scores_everything():
    mesh = sharding.make_mesh(sharding.MeshConfig(data=4, tensor=2))
    share = hosts.share(sharding.named(mesh, "group"), 8)
    assert share.held.tolist() == share.scored.tolist() == list(range(8))
    array = np.arange(24).reshape(8, 3)
    placed = hosts.place({"a": array}, sharding.named(mesh, "group"))["a"]
    assert placed.sharding.shard_shape(placed.shape) == (2, 3)
    np.testing.assert_array_equal(hosts.rows(placed, np.array([5, 2])), array[[5, 2]])
    np.testing.assert_array_equal(hosts.whole(placed), array)
    np.testing.assert_array_equal(hosts.assemble(array, np.arange(8)[::-1], 8), array[::-1])
    with pytest.raises(KeyError, match="no"):
        hosts.together("this", lambda: {}["no"])


def final(runs):
    """Parameters and optimizer of the last checkpoint, read in this process with eight devices."""
    program = make_program(digits_run.SPREAD, make_aggregator(digits_run.SPREAD))
    checkpoints = SavedCheckpoints(runs / "mini" / files.CHECKPOINTS)
    saved, extra = checkpoints.restore(checkpoint_shapes(digits_run.SPREAD, program))
    assert extra["step"] == digits_run.SPREAD.num_steps
    return jax.device_get(saved["state"].learner)


@pytest.fixture(params=["directory", pytest.param("bucket", marks=pytest.mark.nightly)])
def place(request, environment, tmp_path):
    """Environment of the processes and parent of the run's directory: local, or in a bucket."""
    if request.param == "directory":
        yield environment, tmp_path / "spread"
        return
    with bucket_server() as address:
        variables = bucket_environment(address)
        with mock.patch.dict("os.environ", variables):
            yield {**environment, **variables}, epath.Path(f"gs://{BUCKET}/spread")


@pytest.mark.slow
def test_two_processes_of_four_devices_train_as_one_of_eight(place, tmp_path):
    """DataState, scoring, logging, saving, a signal to one of them, and resuming; one step ahead.

    Tolerance 1e-5: float32 sums are computed in another order.
    """
    alone, (environment, spread) = tmp_path / "alone", place
    with mock.patch.object(loop, "plot_run", return_value=[]):
        train(digits_run.SPREAD, alone)
    ends = on_hosts(environment, 2, "run", spread, "create", "--signal-at", 1, timeout=600)
    assert [code for code, _, _ in ends] == [INTERRUPTED] * 2, [e[-2000:] for _, _, e in ends]
    messages = [errors.strip().splitlines()[-1] for _, _, errors in ends]
    assert messages[0] == messages[1]
    stopped = re.match(r"stopped after step (\d) of 4 by SIGTERM", messages[0])
    assert stopped, messages[0]
    assert 2 <= int(stopped[1]) < 4, "after the signal, and before the end"
    assert [row["step"] for row in rows(spread)] == list(range(1, int(stopped[1]) + 1))
    ends = on_hosts(environment, 2, "run", spread, "resume", timeout=600)
    assert [code for code, _, _ in ends] == [0, 0], [errors[-2000:] for _, _, errors in ends]
    assert "step 4/4" in ends[0][1]
    assert "step" not in ends[1][1], "only the first process prints and writes"

    expected, actual = rows(alone), rows(spread)
    assert [row["step"] for row in actual] == [1, 2, 3, 4]
    for one, other in zip(expected, actual, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_allclose(other[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    samples = [content(runs, files.SAMPLES) for runs in (alone, spread)]
    for one, other in zip(*samples, strict=True):
        assert other.pop("advantage") == pytest.approx(one.pop("advantage"), abs=1e-5)
        assert one == other
    summaries = [content(runs, files.SUMMARY) for runs in (alone, spread)]
    assert summaries[0]["after"] == summaries[1]["after"]
    recorded = content(spread, files.CONFIG)["starts"]
    assert [start["devices"]["processes"] for start in recorded] == [2, 2]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        final(alone),
        final(spread),
    )


@pytest.mark.nightly
@pytest.mark.slow
def test_a_run_of_four_processes_continues_with_two(environment, tmp_path):
    """The data continues at its position; the numbers are those of one process up to rounding."""
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    with mock.patch.object(loop, "plot_run", return_value=[]):
        train(digits_run.SPREAD, alone)
    ends = on_hosts(environment, 4, "run", spread, "create", "--signal-at", 1, timeout=600)
    assert [code for code, _, _ in ends] == [INTERRUPTED] * 4, [e[-2000:] for _, _, e in ends]
    ends = on_hosts(environment, 2, "run", spread, "resume", timeout=600)
    assert [code for code, _, _ in ends] == [0, 0], [errors[-2000:] for _, _, errors in ends]
    assert "of 2 process(es) with the mesh" in ends[0][1]
    assert "numbers may differ in the last bits" in ends[0][1]
    assert [row["step"] for row in rows(spread)] == [1, 2, 3, 4]
    for one, other in zip(rows(alone), rows(spread), strict=True):
        for name, value in one.items():
            np.testing.assert_allclose(other[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
