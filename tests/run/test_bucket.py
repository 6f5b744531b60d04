"""Runs in buckets, below training: objects, the local copy, the lease, and overwriting."""

import dataclasses
import threading
import time
from unittest import mock

import jax
import pytest
from bucket_server import BUCKET, bucket_environment, bucket_server
from etils import epath
from faulty_bucket import FaultyBucket

from dvaojax import files, hub
from dvaojax.errors import ServiceError, UserError
from dvaojax.run import directory as run_directory
from dvaojax.run import lease
from dvaojax.run.bucket import NOTHING, Bucket
from dvaojax.run.saved_checkpoints import DamagedCheckpoint, SavedCheckpoints
from dvaojax.run.working_copy import WorkingCopy


@dataclasses.dataclass(frozen=True)
class Config:
    num_steps: int = 6


@pytest.fixture(scope="module")
def server():
    with bucket_server() as address, mock.patch.dict("os.environ", bucket_environment(address)):
        yield address


@pytest.fixture
def bucket(server, request):
    return Bucket(epath.Path(f"gs://{BUCKET}/tests/{request.node.name}"))


@pytest.fixture
def copy(bucket, tmp_path):
    return WorkingCopy(tmp_path / "copy", bucket)


def test_objects_are_written_whole_and_on_condition(bucket):
    assert bucket.generations() == {}
    assert bucket.read("a") is None
    assert bucket.generation("a") == NOTHING
    bucket.write("a", b"1")
    bucket.write("b/c", b"2")
    assert bucket.read("a") == b"1"
    assert list(bucket.generations()) == ["a", "b/c"]
    assert bucket.write_if("a", b"3", generation=NOTHING) is None
    old = bucket.generation("a")
    new = bucket.write_if("a", b"3", generation=old)
    assert new == bucket.generation("a") != old
    assert bucket.write_if("a", b"4", generation=old) is None
    assert bucket.read("a") == b"3"
    assert bucket.write_if("a", b"3", generation=old) == new  # the same request, sent twice
    for _ in range(2):
        bucket.delete("a")
    assert list(bucket.generations()) == ["b/c"]


def test_the_neighbours_of_a_directory_are_not_part_of_it(bucket):
    Bucket(epath.Path(f"{bucket.address}-longer")).write("a", b"1")
    Bucket(bucket.address.parent).write(bucket.address.name, b"1")
    assert bucket.generations() == {}


def test_unusable_addresses_are_refused_in_one_line(server):
    with pytest.raises(UserError, match=f"gs://{BUCKET} is no directory in a bucket"):
        Bucket(epath.Path(f"gs://{BUCKET}"))
    with pytest.raises(UserError, match=r"gs://missing/runs: there is no bucket missing"):
        Bucket(epath.Path("gs://missing/runs")).generations()
    with (
        mock.patch.dict("sys.modules", {"gcsfs": None}),
        pytest.raises(UserError, match=r"gcsfs is not installed: .*gcs"),
    ):
        Bucket(epath.Path(f"gs://{BUCKET}/runs"))


def requests(bucket):
    """Records the names that are written and deleted."""
    write = mock.patch.object(bucket, "write", wraps=bucket.write)
    delete = mock.patch.object(bucket, "delete", wraps=bucket.delete)
    return write, delete


def test_a_copy_and_its_bucket_are_made_equal(bucket, copy, tmp_path):
    copy.fetch()
    assert not copy.path.exists()
    (copy.path / "plots").mkdir(parents=True)
    (copy.path / "rows").write_bytes(b"1\n")
    (copy.path / "plots/a.png").write_bytes(b"a")
    copy.store()
    with (copy.path / "rows").open("ab") as file:
        file.write(b"2\n")
    (copy.path / "plots/a.png").unlink()
    write, delete = requests(bucket)
    with write as written, delete as deleted:
        copy.store()
        copy.store()
    assert [call.args[0] for call in written.mock_calls] == ["rows"]
    assert [call.args[0] for call in deleted.mock_calls] == ["plots/a.png"]
    assert bucket.read("rows") == b"1\n2\n"

    bucket.write("checkpoints/1/arrays/d/0", b"large")
    bucket.write(".lock.lease", b"{}")
    bucket.write("../outside", b"never below the copy")
    other = WorkingCopy(tmp_path / "other/copy", bucket)
    other.fetch()
    assert sorted(p.name for p in other.path.iterdir()) == ["checkpoints", "rows"]
    assert not list((other.path / "checkpoints").iterdir())
    assert not (tmp_path / "other/outside").exists()
    (other.path / "rows").write_bytes(b"local only")
    (other.path / "more").write_bytes(b"local only")
    with mock.patch.object(bucket, "read", wraps=bucket.read) as read:
        other.fetch()
        other.fetch()
    assert [call.args[0] for call in read.mock_calls] == ["rows"]
    assert (other.path / "rows").read_bytes() == b"1\n2\n"
    assert not (other.path / "more").exists()


def test_checkpoints_are_complete_once_marked_and_are_discarded_and_set_aside(bucket):
    for step in (1, 2, 3):
        bucket.write(f"{step}/commit_success.txt", b"")
        bucket.write(f"{step}/arrays/d", b"data")
    bucket.write("4/arrays/d", b"of a save that a kill ended")
    saved = SavedCheckpoints(bucket.address)
    assert saved.steps == [1, 2, 3]
    saved.discard_after(2)
    assert saved.steps == [1, 2]
    assert not [name for name in bucket.generations() if name.startswith("3")]
    assert saved.set_aside(2) == bucket.address / "2.damaged"
    assert saved.steps == [1]
    assert bucket.read("2.damaged/arrays/d") == b"data"
    assert SavedCheckpoints(bucket.address / "nothing").steps == []


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.6)
    monkeypatch.setattr(lease, "_RENEWAL_SECONDS", 0.1)
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.05)


def elsewhere(monkeypatch):
    """The processes that hold a lease run on another host, from here on."""
    monkeypatch.setattr(lease, "scope", lambda: "another host")


def test_one_of_several_processes_gets_a_lease_and_the_others_a_line(bucket, quick, monkeypatch):
    leases, refused = [], []

    def take():
        try:
            leases.append(lease.take(bucket))
        except UserError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(leases) == 1
    assert all(line.startswith(f"{bucket.address} is in use by process") for line in refused)
    assert len(refused) == 3
    assert leases[0].is_held()
    leases[0].release()
    assert bucket.generations() == {}
    with lease.hold(bucket) as held:
        assert held.is_held()
    assert bucket.generations() == {}


def test_a_lease_that_is_not_renewed_is_taken_and_its_holder_finds_out(bucket, quick, monkeypatch):
    first = lease.take(bucket)
    with mock.patch.object(lease.BucketLease, "_renew"):  # has stopped
        first._stop.set()
        first._thread.join()
    elsewhere(monkeypatch)
    begun = time.monotonic()
    second = lease.take(bucket)
    assert time.monotonic() - begun >= 0.6
    assert not first.is_held()
    first._stop.clear()  # continues
    first._renew()
    assert not first.is_held()
    first.release()
    assert second.is_held()
    assert list(bucket.generations()) == [".lock.lease"]
    second.release()


def test_a_lease_of_a_process_that_has_ended_here_is_taken_at_once(bucket):
    with mock.patch.object(lease, "describe_process", return_value={"process": 1 << 30}):
        lease.take(bucket)._stop.set()  # as if killed
    begun = time.monotonic()
    lease.take(bucket).release()
    assert time.monotonic() - begun < lease.LEASE_SECONDS / 4


def test_a_lease_survives_a_server_that_does_not_answer_for_a_while(bucket, quick):
    with lease.hold(bucket) as held:
        with mock.patch.object(bucket, "write_if", side_effect=ServiceError("away")):
            time.sleep(0.3)
            assert held.is_held()
            time.sleep(0.6)
            assert not held.is_held()
        time.sleep(0.3)
        assert held.is_held()  # no other process took it


@pytest.fixture
def faulty(server, monkeypatch):
    """A proxy before the server, and the same directory of the bucket through it."""
    monkeypatch.setattr(hub, "_ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("gcsfs.retry.random.random", lambda: -100.0)  # without waits
    with FaultyBucket(server) as proxy:
        with mock.patch.dict("os.environ", bucket_environment(proxy.url)):
            yield proxy
        bucket_environment(server)


@pytest.mark.parametrize("fault", ["error", "reset", "lost", "stall"])
def test_requests_that_fail_are_sent_again(faulty, bucket, fault):
    generation = NOTHING
    faulty.fault = lambda number: fault if number % 3 == 0 else "none"
    for number in range(3):
        bucket.write(f"{number}", b"x" * number)
        assert bucket.read(f"{number}") == b"x" * number
        generation = bucket.write_if("lock", f"{number}".encode(), generation=generation)
        assert generation is not None
    assert list(bucket.generations()) == ["0", "1", "2", "lock"]
    for number in range(3):
        bucket.delete(f"{number}")
    assert list(bucket.generations()) == ["lock"]
    assert faulty.faults[fault] >= 5


def test_a_server_that_has_ended_is_one_line(faulty, bucket):
    bucket.write("a", b"1")
    faulty.stop()
    with pytest.raises(ServiceError, match=rf"^{bucket.address}: .*Connect call failed"):
        bucket.write("a", b"2")


def test_an_outage_is_not_taken_for_damage(bucket):
    bucket.write("1/commit_success.txt", b"")
    bucket.write("1/_CHECKPOINT_METADATA", b"{}")
    saved = SavedCheckpoints(bucket.address)
    state = {"w": jax.ShapeDtypeStruct((2,), "float32")}
    with pytest.raises(DamagedCheckpoint, match=r"1 is damaged \(it cannot be read: .*metadata"):
        saved.restore(state)
    away = ConnectionRefusedError("away")
    with mock.patch("gcsfs.GCSFileSystem.open", side_effect=away):
        assert saved.steps == [1]
        with pytest.raises(ServiceError, match=f"^{bucket.address}: away$"):
            saved.restore(state)
        with pytest.raises(ServiceError, match=f"^{bucket.address}: away$"):
            SavedCheckpoints(bucket.address).find_damage(1)
    bucket.write("1/_CHECKPOINT_METADATA", b"{")
    assert SavedCheckpoints(bucket.address).find_damage(1) == "_CHECKPOINT_METADATA is damaged"


def test_a_renewal_of_which_the_answer_is_lost_keeps_the_lease(bucket, quick):
    write_if = bucket.write_if

    def lose_the_answer(*arguments, **options):
        write_if(*arguments, **options)
        raise ServiceError("away")

    with lease.hold(bucket) as held:
        with mock.patch.object(bucket, "write_if", lose_the_answer):
            time.sleep(0.3)
        time.sleep(0.5)
        assert held.is_held()


class Killed(BaseException):
    """Ends the process before a request."""


def killed_before(bucket, number):
    """Requests that change the bucket, of which that of a number, from 0, is not sent any more."""
    remaining = [number]

    def dying(method):
        def send(*arguments, **options):
            if remaining[0] == 0:
                raise Killed
            remaining[0] -= 1
            return method(*arguments, **options)

        return send

    return mock.patch.multiple(bucket, write=dying(bucket.write), delete=dying(bucket.delete))


def test_a_kill_while_overwriting_leaves_the_old_run_or_the_new_one(bucket, tmp_path):
    """Killed before every request in turn; the next start finds either run complete."""
    new, outcomes = Config(num_steps=9), []
    for number in range(20):
        for name in bucket.generations():
            bucket.delete(name)
        at = run_directory.RunDirectory(
            tmp_path / f"{number}" / "a", WorkingCopy(tmp_path / f"{number}" / "a", bucket)
        )
        run_directory.create(at.path, Config())
        at.metrics.write_text('{"step": 1}\n')
        at.store()
        bucket.write("checkpoints/4/commit_success.txt", b"")
        bucket.write("checkpoints/4/arrays/d/0", b"")
        is_killed = False
        try:
            with killed_before(bucket, number):
                run_directory.overwrite(at.path, new, delete_elsewhere=at.delete_elsewhere)
                at.store()
        except Killed:
            is_killed = True
        path = tmp_path / f"{number}" / "next"
        then = run_directory.RunDirectory(path, WorkingCopy(path, bucket))
        then.fetch()
        refused = ""
        try:
            run_directory.check_resumable(path, new, delete_elsewhere=then.delete_elsewhere)
            then.store()
        except UserError as error:
            refused = str(error)
        if refused:
            assert "num_steps=6" in refused
            assert "checkpoints/4/arrays/d/0" in bucket.generations()
            assert bucket.read(files.METRICS) == b'{"step": 1}\n'
        else:
            assert list(bucket.generations()) == [files.CONFIG]
        outcomes.append("old" if refused else "new")
        if not is_killed:
            break
    assert not is_killed
    assert outcomes == sorted(outcomes, reverse=True)
    assert set(outcomes) == {"old", "new"}


def test_a_run_with_other_objects_or_an_evaluation_in_progress_is_not_overwritten(
    bucket, tmp_path, quick, monkeypatch
):
    path = tmp_path / "a"
    at = run_directory.RunDirectory(path, WorkingCopy(path, bucket))
    run_directory.create(path, Config())
    at.store()
    evaluation = Bucket(bucket.address / files.EVALUATIONS / "one")
    with lease.hold(evaluation), pytest.raises(UserError, match=r"evaluations/one is in use by"):
        run_directory.overwrite(path, Config(), delete_elsewhere=at.delete_elsewhere)
    bucket.write("mine.txt", b"")
    at.fetch()
    with pytest.raises(UserError, match=r"contains mine.txt, which no run wrote"):
        run_directory.overwrite(path, Config(), delete_elsewhere=at.delete_elsewhere)


def test_errors_name_the_address_and_not_the_copy(bucket):
    def resume():
        with run_directory.at(bucket.address) as at:
            at.fetch()
            copies.append(at.path)
            run_directory.check_start(at.path, "resume")

    copies = []
    with pytest.raises(UserError, match=f"^there is no run {bucket.address}$"):
        resume()
    assert not copies[0].parent.exists()
