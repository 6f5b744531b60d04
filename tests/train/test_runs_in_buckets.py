"""Runs whose directory is in a bucket: killed, resumed, refused, and read by the other commands."""

import contextlib
import signal
from unittest import mock

import digits_run
import pytest
from bucket_server import BUCKET, bucket_environment, bucket_server
from etils import epath
from faulty_bucket import FaultyBucket
from run_children import assert_same_run, content, rows, run
from tiny_run import child_environment

from dvaojax import cli, files
from dvaojax.config import make_aggregator
from dvaojax.errors import ServiceError, UserError
from dvaojax.run import lease
from dvaojax.run.bucket import Bucket
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.train import loop, train
from dvaojax.train.step_log import StepLog

pytestmark = pytest.mark.slow

RUNS = epath.Path(f"gs://{BUCKET}/runs")
BUCKET_OF_RUN = RUNS / "mini"


@pytest.fixture(scope="module")
def server():
    with bucket_server() as address, mock.patch.dict("os.environ", bucket_environment(address)):
        yield address


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with digits_run.make_mesh_of(1):
        yield


@pytest.fixture(scope="module")
def uninterrupted(server, tmp_path_factory):
    """A local run, and the same run in a bucket, killed in step 6 and resumed.

    It is killed after the checkpoint of step 4 and the row of step 5.
    """
    local = tmp_path_factory.mktemp("runs")
    killed = ["PLAIN", "create", "--quick", "--die-at", 6, 4]
    run(child_environment(), RUNS, *killed, code=-signal.SIGKILL)
    bucket = Bucket(BUCKET_OF_RUN)
    assert lease.LEASE in bucket.generations()
    assert [row["step"] for row in rows(RUNS)] == [1, 2, 3, 4]
    assert SavedCheckpoints(BUCKET_OF_RUN / files.CHECKPOINTS).steps == [0, 4]
    with digits_run.quick_programs(), mock.patch.object(loop, "plot_run", return_value=[]):
        with (
            mock.patch.object(lease, "_RENEWAL_SECONDS", 0.2),
            lease.hold(bucket),
            pytest.raises(UserError, match=f"{BUCKET_OF_RUN} is in use by process"),
        ):
            train(digits_run.PLAIN, RUNS, start="auto")
        train(digits_run.PLAIN, RUNS, start="auto")
        train(digits_run.PLAIN, local)
    return local


def test_a_killed_run_resumes_exactly(uninterrupted):
    assert_same_run(digits_run.PLAIN, make_aggregator(digits_run.PLAIN), RUNS, uninterrupted)
    assert len(content(RUNS, files.CONFIG)["starts"]) == 2
    stored = Bucket(BUCKET_OF_RUN).generations()
    assert lease.LEASE not in stored
    assert sum(name.startswith("tensorboard/") for name in stored) == 2
    assert Bucket(BUCKET_OF_RUN).read(files.SUMMARY) is not None

    with pytest.raises(UserError, match=f"{BUCKET_OF_RUN} exists: --resume continues it"):
        train(digits_run.PLAIN, RUNS)
    assert train(digits_run.PLAIN, RUNS, start="auto") == content(RUNS, files.SUMMARY)
    assert Bucket(BUCKET_OF_RUN).generations() == stored


@contextlib.contextmanager
def through_proxy(server):
    """The bucket is reached through a proxy, until the end of the context."""
    with FaultyBucket(server) as proxy:
        with mock.patch.dict("os.environ", bucket_environment(proxy.url)):
            yield proxy
        bucket_environment(server)  # forgets the proxy


@pytest.mark.nightly
def test_a_server_that_fails_every_tenth_request_changes_nothing(uninterrupted, server):
    def fault(number):
        return "none" if number % 10 else ("error", "reset")[number // 10 % 2]

    runs = epath.Path(f"gs://{BUCKET}/faulty")
    with (
        digits_run.quick_programs(),
        mock.patch.object(loop, "plot_run", return_value=[]),
        through_proxy(server) as proxy,
    ):
        proxy.fault = fault
        train(digits_run.PLAIN, runs)
    assert min(proxy.faults["error"], proxy.faults["reset"]) > 10
    assert_same_run(digits_run.PLAIN, make_aggregator(digits_run.PLAIN), runs, uninterrupted)


@pytest.mark.nightly
def test_a_server_that_ends_is_one_line_and_the_run_resumes_exactly(uninterrupted, server):
    """It ends in step 6, after the checkpoint of step 4."""
    add, runs = StepLog.add, epath.Path(f"gs://{BUCKET}/ended")

    def add_then_end(log, step):
        add(log, step)
        if step.number == 6:
            log._session.checkpoints.wait()
            proxy.stop()

    with digits_run.quick_programs(), mock.patch.object(loop, "plot_run", return_value=[]):
        with (
            through_proxy(server) as proxy,
            mock.patch.object(StepLog, "add", add_then_end),
            pytest.raises(ServiceError, match=rf"^{runs}/mini\S*: \S.*$"),
        ):
            train(digits_run.PLAIN, runs)
        assert [row["step"] for row in rows(runs)] == [1, 2, 3, 4]
        train(digits_run.PLAIN, runs, start="auto")
    assert_same_run(digits_run.PLAIN, make_aggregator(digits_run.PLAIN), runs, uninterrupted)


@pytest.mark.nightly
def test_other_commands_read_it_like_a_local_run(uninterrupted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.py").write_text(
        "import digits_run\n\n\ndef get_config():\n    return digits_run.PLAIN\n"
    )
    experiment = ["--experiment", "digits.py"]
    for number, run_path in enumerate([uninterrupted / "mini", BUCKET_OF_RUN]):
        assert cli.main(["evaluate", str(run_path), "--samples", "2", *experiment]) == 0
        printed = capsys.readouterr().out
        assert f"completions and numbers: {run_path}/evaluations/" in printed
        assert cli.main(["plot", str(run_path)]) == 0
        assert f"{run_path}/plots/objectives.png\n" in capsys.readouterr().out
        assert cli.main(["report", str(run_path)]) == 0
        assert capsys.readouterr().out == f"{run_path}/report.html\n"
        assert cli.main(["export", str(run_path), f"out{number}", *experiment]) == 0
        assert f"{run_path}, step 6: " in capsys.readouterr().out
    bucket = Bucket(BUCKET_OF_RUN)
    for path in (uninterrupted / "mini").glob("evaluations/*/completions.jsonl"):
        (name,) = (n for n in bucket.generations() if n.endswith("completions.jsonl"))
        assert bucket.read(name) == path.read_bytes() != b""
    assert b"<html" in (bucket.read(files.REPORT) or b"")[:1000]
    for path in (tmp_path / "out0").iterdir():
        assert path.read_bytes() == (tmp_path / "out1" / path.name).read_bytes()
    assert not (tmp_path / "gs:").exists()
