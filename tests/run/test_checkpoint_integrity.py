"""A damaged checkpoint is noticed before anything is restored from it."""

import random
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dvaojax.errors import UserError
from dvaojax.run.checkpoint import Checkpoints
from dvaojax.run.checksums import SUMS, find_damage, write_checksums
from dvaojax.run.saved_checkpoints import DamagedCheckpoint, SavedCheckpoints

STATE = {
    "params": {"w": jnp.linspace(-1.0, 1.0, 3000).reshape(30, 100), "b": jnp.arange(7)},
    "flags": jnp.array([True, False]),
}
EXTRA = {"step": 2, "position": 128, "before": {"accuracy": {"mean": 0.375}}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of the steps 1 and 2; the first is the best."""
    path = tmp_path_factory.mktemp("saved") / "checkpoints"
    with Checkpoints(path, best_metric="reward") as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, STATE, extra=EXTRA, metrics={"reward": -float(step)})
    return path


@pytest.fixture
def copy(saved, tmp_path):
    """A copy of the checkpoints that may be damaged."""
    return shutil.copytree(saved, tmp_path / "checkpoints")


def files_of(checkpoint):
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())


def flip(path, generator):
    """Inverts one bit."""
    content = bytearray(path.read_bytes())
    place = generator.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def cut(path, generator):
    path.write_bytes(path.read_bytes()[: generator.randrange(path.stat().st_size)])


def empty(path, generator):
    path.write_bytes(b"")


def remove(path, generator):
    path.unlink()


def edit(path, generator):
    """Adds a digit after another one, as a user might in a record."""
    content = path.read_bytes()
    digits = [i for i, byte in enumerate(content) if chr(byte).isdigit()] or [len(content) - 1]
    place = generator.choice(digits) + 1
    path.write_bytes(content[:place] + b"7" + content[place:])


def swap(path, generator):
    """Replaces the file by another one of the same checkpoint."""
    step = next(parent for parent in path.parents if parent.name == "2")
    path.write_bytes(generator.choice(files_of(step)).read_bytes())


DAMAGES = (flip, cut, empty, remove, edit, swap)


def assert_equal_states(restored):
    jax.tree.map(np.testing.assert_array_equal, restored, STATE)


def restore_or_refuse(directory, step):
    """Whether the state was restored, exactly; otherwise the error has one line."""
    refusal = None
    try:
        saved = SavedCheckpoints(directory, best_metric="reward")
        restored, extra = saved.restore(STATE, step=step)
    except UserError as error:
        refusal = str(error)
    if refusal is None:
        assert_equal_states(restored)
        assert extra == EXTRA
        return True
    assert str(directory / str(step)) in refusal
    assert "\n" not in refusal
    assert len(refusal) < 500
    return False


@pytest.mark.slow
def test_damage_at_200_random_places_is_refused_or_harmless(saved, tmp_path):
    """The other checkpoint is still restored, and the run can continue to save."""
    generator, refused, touched = random.Random(0), 0, set()
    for number in range(200):
        directory = shutil.copytree(saved, tmp_path / "checkpoints")
        path = generator.choice(files_of(directory / "2"))
        damage = DAMAGES[number % len(DAMAGES)]
        before = path.read_bytes()
        damage(path, generator)
        is_damaged = not path.exists() or path.read_bytes() != before
        is_restored = restore_or_refuse(directory, 2)
        name = path.relative_to(directory / "2").as_posix()
        if is_damaged and name not in ("commit_success.txt", "_CHECKPOINT_METADATA", SUMS):
            assert not is_restored, (damage.__name__, name)
        refused += not is_restored
        touched.add(name.partition("/")[0])
        if number % 10 == 0:
            assert restore_or_refuse(directory, 1)
        shutil.rmtree(directory)
    assert refused > 100
    assert {"arrays", "record", "metrics", SUMS} <= touched


def test_damage_without_checksums_is_refused_or_not_noticed(saved, tmp_path):
    """Checkpoints of earlier versions: no traceback, although not every flipped bit is noticed."""
    generator, refused = random.Random(1), 0
    for number in range(40):
        directory = shutil.copytree(saved, tmp_path / "checkpoints")
        for step in ("1", "2"):
            (directory / step / SUMS).unlink()
        path = generator.choice(files_of(directory / "2"))
        (cut, empty, remove)[number % 3](path, generator)
        refused += not restore_or_refuse(directory, 2)
        shutil.rmtree(directory)
    assert refused > 10


def test_a_flipped_bit_of_a_weight_is_named(copy):
    """Without checksums this one is restored as another number."""
    largest = max(files_of(copy / "2"), key=lambda path: path.stat().st_size)
    flip(largest, random.Random(0))
    name = largest.relative_to(copy / "2").as_posix()
    with pytest.raises(
        DamagedCheckpoint, match=r"differs from its checksum\); other steps saved: \[1\]"
    ):
        SavedCheckpoints(copy).restore(STATE)
    assert SavedCheckpoints(copy).find_damage(2) == f"{name} differs from its checksum"
    # Files of more than 1 MiB would be left out here.
    assert SavedCheckpoints(copy).find_small_damage(2) == f"{name} differs from its checksum"
    with pytest.raises(DamagedCheckpoint, match="differs from its checksum"):
        SavedCheckpoints(copy).restore_part({"params": {"w": STATE["params"]["w"]}})


def test_a_digit_added_to_the_position_is_noticed(copy):
    record = copy / "2" / "record" / "metadata"
    text = record.read_text()
    assert '"position": 128' in text
    record.write_text(text.replace('"position": 128', '"position": 1280'))
    with pytest.raises(DamagedCheckpoint, match="record/metadata differs from its checksum"):
        SavedCheckpoints(copy).restore(STATE)


def test_checksums_that_were_deleted_are_noticed_by_those_of_earlier_checkpoints(copy):
    (copy / "2" / SUMS).unlink()
    with pytest.raises(DamagedCheckpoint, match=r"SHA256SUMS is missing"):
        SavedCheckpoints(copy).restore(STATE, step=2)
    (copy / "2" / SUMS).write_text((copy / "1" / SUMS).read_text())
    (copy / "1" / SUMS).unlink()  # as after a first part by a version without checksums
    assert_equal_states(SavedCheckpoints(copy).restore(STATE, step=1)[0])


def test_the_best_checkpoint_is_not_guessed_from_damaged_metrics(copy):
    assert SavedCheckpoints(copy, best_metric="reward").best_step == 1
    (copy / "2" / "metrics" / "metrics").write_text('{"merit": 9.0}')
    with pytest.raises(DamagedCheckpoint, match=r"2 is damaged \(metrics/metrics differs"):
        assert SavedCheckpoints(copy, best_metric="reward").best_step == 2
    for step in ("1", "2"):
        (copy / step / SUMS).unlink()
    (copy / "2" / "metrics" / "metrics").write_text("")
    with pytest.raises(DamagedCheckpoint, match="metrics cannot be read"):
        assert SavedCheckpoints(copy, best_metric="reward").best_step == 2


@pytest.mark.parametrize("content", ["", "[1]", '{"commit_timestamp_nsecs": 1e300}', "\xff"])
def test_a_damaged_checkpoint_that_is_set_aside_does_not_stop_the_run(copy, content):
    """Orbax reads this file of every checkpoint when it opens the directory."""
    (copy / "2" / "_CHECKPOINT_METADATA").write_text(content)
    saved = SavedCheckpoints(copy, best_metric="reward")
    assert saved.find_damage(2) == "_CHECKPOINT_METADATA is damaged"
    assert saved.set_aside(2).name == "2.damaged"
    with Checkpoints(copy, best_metric="reward") as checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (1, 1)
        checkpoints.save(2, STATE, extra=EXTRA, metrics={"reward": 1.0})
        assert (checkpoints.latest_step, checkpoints.best_step) == (2, 2)
        assert_equal_states(checkpoints.restore(STATE)[0])
    (copy / "2" / "record" / "metadata").unlink()
    assert SavedCheckpoints(copy).set_aside(2).is_dir()
    assert SavedCheckpoints(copy).steps == [1]


def test_later_checkpoints_are_discarded_newest_first(copy, monkeypatch):
    shutil.copytree(copy / "2", copy / "3")
    removed = []
    monkeypatch.setattr(shutil, "rmtree", lambda path: removed.append(path.name))
    saved = SavedCheckpoints(copy)
    saved.discard_after(1)
    assert removed == ["3.discarded", "2.discarded"]  # a kill here leaves them
    assert saved.steps == [1]
    monkeypatch.undo()
    saved.discard_after(1)
    assert sorted(path.name for path in copy.iterdir()) == ["1"]
    with Checkpoints(copy) as checkpoints:
        checkpoints.save(2, STATE, extra=EXTRA)
        assert checkpoints.steps == [1, 2]


def test_checksums_are_written_before_the_checkpoint_is_complete(tmp_path, monkeypatch):
    """A checkpoint without them would be restored without a comparison."""

    def fail(directory, **options):
        assert directory.name.startswith("1.")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dvaojax.run.checkpoint.write_checksums", fail)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, STATE, extra=EXTRA)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.wait()
    assert SavedCheckpoints(tmp_path).steps == []


def test_sha256sum_reads_the_checksums(copy):
    command = ["sha256sum", "--check", "--strict", "--quiet", SUMS]
    assert subprocess.run(command, cwd=copy / "2").returncode == 0
    empty(copy / "2" / "record" / "metadata", None)
    assert subprocess.run(command, cwd=copy / "2", capture_output=True).returncode == 1


def test_checksums_of_a_directory(tmp_path):
    for name in ("a", "b/c", "b/large"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name * 10)
    assert find_damage(tmp_path) is None
    write_checksums(tmp_path, leave_out=["a"])
    assert find_damage(tmp_path) is None
    (tmp_path / "a").write_text("may change")
    assert find_damage(tmp_path) is None
    (tmp_path / "b/large").write_text("changed, but of the same size")
    assert find_damage(tmp_path) == "b/large differs from its checksum"
    assert find_damage(tmp_path, largest=10) is None
    (tmp_path / "b/c").unlink()
    assert find_damage(tmp_path, largest=10) == "b/c is missing"
    (tmp_path / "b/c").mkdir()
    assert find_damage(tmp_path) == "b/c cannot be read: Is a directory"
    sums = (tmp_path / SUMS).read_text()
    for damaged in ("", sums[:-1].rpartition("\n")[0] + "\n", sums.replace("  b", " b"), sums[5:]):
        (tmp_path / SUMS).write_text(damaged)
        assert find_damage(tmp_path) == f"{SUMS} is damaged"
    (tmp_path / SUMS).write_bytes(b"\xff")
    assert find_damage(tmp_path) == f"{SUMS} cannot be read"
