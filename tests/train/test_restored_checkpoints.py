"""A run continues at its newest whole checkpoint or a chosen one, with nothing later left."""

import dataclasses
import json
import os
import random
import re
import shutil

import pytest
from digits_run import digits_config, quick_programs
from tiny_run import TINY

from dvaojax import cli, files
from dvaojax.errors import UserError
from dvaojax.run import lock
from dvaojax.run.checksums import SUMS
from dvaojax.run.saved_checkpoints import SavedCheckpoints
from dvaojax.train import TrainingError
from dvaojax.train.allocation_state import initial_data_state
from dvaojax.train.keys import KeyPurpose, run_key
from dvaojax.train.progress import TrainingProgress
from dvaojax.train.session import BEST_METRIC, open_session

CONFIG = digits_config(num_steps=9, checkpoints={"keep_latest": 3})


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with quick_programs():
        yield


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The parent of a run with checkpoints of the steps 2 (the best), 4, 6 and 8, and 8 rows."""
    runs = tmp_path_factory.mktemp("saved")
    with open_session(CONFIG, runs, "create") as opened:
        program = opened.program
        state = program.begin(
            program.init(run_key(CONFIG, KeyPurpose.PARAMETERS)), run_key(CONFIG, KeyPurpose.STEPS)
        )
        progress = TrainingProgress(
            state, None, initial_data_state(CONFIG), (), step=0, before={}, best=None, seconds=0.0
        )
        for step in range(1, 9):
            opened.metrics.write(step, {"loss": step / 10})
            for sample in range(2):
                opened.samples.write(step, {"completion": f"{step}, {sample}"})
            if step % 2 == 0:
                at_step = dataclasses.replace(progress, step=step, seconds=float(step))
                opened.save(at_step, {BEST_METRIC: -float(step)})
    files.write_json(runs / CONFIG.name / files.SUMMARY, {"steps": 8})
    return runs


@pytest.fixture
def run(saved, tmp_path):
    """The directory of a copy of that run."""
    return shutil.copytree(saved, tmp_path / "runs") / CONFIG.name


def resume(run, **options):
    """The step of the progress that a resumed run starts with."""
    with open_session(CONFIG, run.parent, "resume", **options) as opened:
        if opened.restored is not None:
            assert opened.restored.seconds == opened.restored.step
            return opened.restored.step
    return None


def steps_of(run, name):
    return [row["step"] for row in files.read_json_lines(run / name)]


def contents(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def damage(run, step, name="record/metadata"):
    path = run / files.CHECKPOINTS / str(step) / name
    path.write_bytes(path.read_bytes()[:-1] + b" ")


def remove_checksums(run):
    """Makes the checkpoints those of a version that wrote no checksums."""
    for path in (run / files.CHECKPOINTS).glob(f"*/{SUMS}"):
        path.unlink()


def assert_nothing_later(run, step):
    """Checkpoints, metrics, samples and the summary are those of a run that got to the step."""
    saved = SavedCheckpoints(run / files.CHECKPOINTS, best_metric=BEST_METRIC)
    assert saved.latest_step == step
    assert steps_of(run, files.METRICS) == list(range(1, step + 1))
    assert steps_of(run, files.SAMPLES) == [s for s in range(1, step + 1) for _ in range(2)]
    assert (run / files.SUMMARY).exists() == (step == 8)


def test_an_undamaged_run_continues_at_its_newest_checkpoint(run, capsys):
    assert resume(run) == 8
    assert capsys.readouterr().out == ""
    assert SavedCheckpoints(run / files.CHECKPOINTS).steps == [2, 4, 6, 8]


def test_a_damaged_newest_checkpoint_falls_back_to_the_newest_whole_one(run, capsys):
    damage(run, 8)
    damage(run, 6, "arrays/_METADATA")
    assert resume(run) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "checkpoint of step 8 is damaged (record/metadata differs from its checksum) and was "
        "renamed to 8.damaged; the run continues after step 4",
        "checkpoint of step 6 is damaged (arrays/_METADATA differs from its checksum) and was "
        "renamed to 6.damaged; the run continues after step 4",
    ]
    assert_nothing_later(run, 4)
    assert resume(run) == 4
    assert len(files.read_json(run / files.CONFIG)["starts"]) == 3


@pytest.mark.parametrize(("kept", "lost"), [(5, 3), (0, 8), (None, 8)])
def test_lost_rows_are_reported_and_the_run_continues(run, capsys, kept, lost):
    path = run / files.METRICS
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:kept]))
    assert resume(run) == 8
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(
        f"metrics.jsonl lacks the rows of {lost} of the 8 steps before the checkpoint, which are "
        "lost; the run continues after step 8"
    )


def test_an_older_damaged_checkpoint_is_set_aside_too(run, capsys):
    """Orbax reads the metrics of every checkpoint, and the best one is an old one."""
    (run / files.CHECKPOINTS / "2" / "metrics" / "metrics").write_text("")
    assert resume(run) == 8
    assert "step 2 is damaged (metrics/metrics differs" in capsys.readouterr().out
    saved = SavedCheckpoints(run / files.CHECKPOINTS, best_metric=BEST_METRIC)
    assert (saved.steps, saved.best_step) == ([4, 6, 8], 4)


@pytest.mark.parametrize("is_old", [False, True])
def test_a_chosen_step_leaves_nothing_later(run, is_old):
    if is_old:
        remove_checksums(run)
    assert resume(run, from_step=4) == 4
    assert_nothing_later(run, 4)


def refuse(run, message, **options):
    """Asserts that resuming is refused, and changes nothing."""
    before = contents(run)
    with pytest.raises(UserError, match=message) as refusal:
        resume(run, **options)
    assert "\n" not in str(refusal.value)
    assert contents(run) == before


def test_refusals_name_what_is_there_and_change_nothing(run):
    refuse(run, r"no checkpoint of step 5 in .*; saved: \[2, 4, 6, 8\]", from_step=5)
    damage(run, 4)
    refuse(
        run, r"damaged \(step 4: record/metadata .*\); other steps saved: \[2, 6, 8\]", from_step=4
    )
    with (run / files.METRICS).open("ab") as file:
        file.write(b"\0\0\0\n")
    refuse(run, r"metrics\.jsonl:9 is not a JSON object with a step: mend or remove that line")
    with (run / files.METRICS).open("r+b") as file:
        file.truncate((run / files.METRICS).stat().st_size - 4)
    for step in (2, 6, 8):
        damage(run, step)
    refuse(run, r"no checkpoint of the run is whole \(step 8: .*\): --overwrite begins it anew")
    shutil.rmtree(run / files.CHECKPOINTS)
    refuse(run, "mini has no checkpoint, so it cannot be resumed from step 4", from_step=4)
    refuse(run, "mini has no checkpoint, but 24 rows of .* --resume would lose: .* --overwrite")
    (run / files.CHECKPOINTS).mkdir()
    refuse(run, "mini has no checkpoint, but 24 rows")
    (run / files.METRICS).write_text("")
    refuse(run, "mini has no checkpoint, but 16 rows")
    (run / files.SAMPLES).unlink()
    assert resume(run) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", None),
        ("position", -1),
        ("position", "7"),
        ("seconds", []),
        ("before", 3),
        ("best", {"step": 1}),
        ("in_flight", [0]),
        ("in_flight", None),
    ],
)
def test_an_edited_record_without_checksums_falls_back(run, key, value):
    """Edits that no type shows cannot be noticed there."""
    remove_checksums(run)
    checkpoint = run / files.CHECKPOINTS / "8"
    record = files.read_json(checkpoint / "record" / "metadata")
    record["extra"][key] = value
    (checkpoint / "record" / "metadata").write_text(json.dumps(record))
    assert resume(run) == 6
    assert_nothing_later(run, 6)


def test_a_run_that_is_in_use_is_refused_and_stays_as_it_is(run):
    before = contents(run)
    in_use = rf"mini is in use by process {os.getpid()} on .*: wait until it has ended"
    with lock.hold(run):
        for start in ("resume", "overwrite"):
            with (
                pytest.raises(UserError, match=in_use),
                open_session(CONFIG, run.parent, start),
            ):
                pass
    assert contents(run) == before
    with open_session(CONFIG, run.parent, "resume"), pytest.raises(UserError, match=in_use):
        lock.take(run)
    lock.take(run).release()


def test_nothing_is_saved_after_the_lock_was_lost(run, monkeypatch):
    with open_session(CONFIG, run.parent, "resume") as opened:
        assert opened.restored is not None
        monkeypatch.setattr(type(opened.lock), "is_held", lambda _: False)
        later = dataclasses.replace(opened.restored, step=9)
        with pytest.raises(TrainingError, match=r"another process may have taken .*mini"):
            opened.save(later, {BEST_METRIC: 0.0})
    assert SavedCheckpoints(run / files.CHECKPOINTS).latest_step == 8


def test_a_directory_that_cannot_be_created_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "file").touch()
    for runs in (tmp_path / "file", tmp_path / "file" / "runs"):
        with (
            pytest.raises(UserError, match="mini cannot be written: Not a directory"),
            open_session(CONFIG, runs, "create"),
        ):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


TRAIN = ["train", "--name", "tiny", "--runs", "runs", "--set", *TINY]
THREE_STEPS = ["num_steps=3", "checkpoints.keep_latest=4"]


def rows(run):
    """The rows of metrics without durations."""
    return [
        {k: v for k, v in row.items() if not k.endswith(("_seconds", "per_second"))}
        for row in files.read_json_lines(run / files.METRICS)
    ]


@pytest.mark.slow
def test_the_command_line_continues_damaged_runs_exactly(tmp_path, monkeypatch, capfd):
    """The rows of a run that was damaged and resumed equal those of the run before."""
    monkeypatch.chdir(tmp_path)
    train, run = [*TRAIN, *THREE_STEPS], tmp_path / "runs" / "tiny"
    assert cli.main(train) == 0
    expected = rows(run), files.read_json_lines(run / files.SAMPLES)
    newest = run / files.CHECKPOINTS / "3"
    generator = random.Random(0)
    largest = max((p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[generator.randrange(len(content))] ^= 1
    largest.write_bytes(content)
    capfd.readouterr()

    for command in (["evaluate", "runs/tiny"], ["export", "runs/tiny", "exported"]):
        assert cli.main(command) == 2
        error = capfd.readouterr().err
        assert re.fullmatch(r"dvaojax: checkpoint .*/3 is damaged \(.*\); other .*\]\n", error)
    assert not (tmp_path / "exported").exists()
    assert cli.main(["export", "runs/tiny", "exported", "--step", "2"]) == 0

    with lock.hold(run):
        for start in ("--resume", "--overwrite"):
            assert cli.main([*train, start]) == 2
            assert f"in use by process {os.getpid()}" in capfd.readouterr().err
    assert cli.main([*train, "--from-step", "1"]) == 2
    assert capfd.readouterr().err == "dvaojax: --from-step needs --resume\n"
    for options, step in (([], 2), (["--from-step", "1"], 1)):
        assert cli.main([*train, "--resume", *options]) == 0
        fallback = "step 3 is damaged" in (printed := capfd.readouterr()).out
        assert (fallback, "Traceback" in printed.err) == (step == 2, False)
        assert (rows(run), files.read_json_lines(run / files.SAMPLES)) == expected
    shutil.rmtree(run / files.CHECKPOINTS)
    assert cli.main([*train, "--resume"]) == 2
    assert "has no checkpoint, but" in capfd.readouterr().err
    assert rows(run) == expected[0]
