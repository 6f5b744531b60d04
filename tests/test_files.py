"""Files remain readable after a kill at any byte."""

import json
import math
import threading

import pytest

from dvaojax import files
from dvaojax.errors import UserError


def write_steps(path, first, last):
    lines = files.JsonLines(path)
    lines.truncate_after(first - 1)
    for step in range(first, last + 1):
        lines.write(step, {"reward/accuracy": step / 7, "note": f"schön\n{step}"})
    lines.close()


def test_rows_are_read_back_exactly(tmp_path):
    path = tmp_path / "m.jsonl"
    write_steps(path, 1, 3)
    rows = files.read_json_lines(path)
    assert rows == [{"step": s, "reward/accuracy": s / 7, "note": f"schön\n{s}"} for s in (1, 2, 3)]
    assert list(rows[0]) == ["step", "reward/accuracy", "note"]


def test_nan_and_infinity_become_null(tmp_path):
    lines = files.JsonLines(tmp_path / "m.jsonl")
    values = {"a": math.nan, "b": [math.inf, 1.0], "c": {"d": -math.inf}, "e": None, "f": True}
    lines.write(0, values)
    line = (tmp_path / "m.jsonl").read_text()

    def reject(constant):
        raise AssertionError(f"{constant} is not JSON")

    expected = {"step": 0, "a": None, "b": [None, 1.0], "c": {"d": None}, "e": None, "f": True}
    assert json.loads(line, parse_constant=reject) == expected
    with pytest.raises(TypeError):
        lines.write(1, {"x": object()})
    lines.close()


def test_every_line_is_readable_when_write_returns(tmp_path):
    lines = files.JsonLines(tmp_path / "m.jsonl")
    for step in range(3):
        lines.write(step, {})
        assert len(files.read_json_lines(tmp_path / "m.jsonl")) == step + 1
    lines.close()


def test_resuming_after_a_kill_at_any_byte_gives_the_uninterrupted_file(tmp_path):
    whole, path = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    write_steps(whole, 1, 6)
    content = whole.read_bytes()
    three_lines = len(b"".join(content.splitlines(keepends=True)[:3]))
    for end in range(three_lines, len(content) + 1):  # the kill was after the checkpoint of step 3
        path.write_bytes(content[:end])
        assert [row["step"] for row in files.read_json_lines(path)][:3] == [1, 2, 3]
        write_steps(path, 4, 6)
        assert path.read_bytes() == content


def test_a_last_line_without_newline_is_kept(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}')
    files.JsonLines(path).close()
    assert [row["step"] for row in files.read_json_lines(path)] == [1, 2]


def test_all_lines_of_a_later_step_are_removed(tmp_path):
    lines = files.JsonLines(tmp_path / "s.jsonl")
    for step in (1, 1, 2, 2, 3):
        lines.write(step, {})
    lines.truncate_after(2)
    lines.write(3, {"again": 1})
    lines.close()
    assert [row["step"] for row in files.read_json_lines(tmp_path / "s.jsonl")] == [1, 1, 2, 2, 3]


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"a": 1}'])
def test_names_a_damaged_line(tmp_path, line):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n' + line + '\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"m\.jsonl:2 is not a JSON object with a step"):
        files.read_json_lines(path)


def test_json_is_written_atomically(tmp_path):
    path = tmp_path / "summary.json"
    files.write_json(path, {"x": [1, math.nan]})
    assert files.read_json(path) == {"x": [1, None]}
    with pytest.raises(TypeError):
        files.write_json(path, {"x": object()})
    assert files.read_json(path) == {"x": [1, None]}
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def test_names_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"none\.json: No such file"):
        files.read_json(tmp_path / "none.json")
    with pytest.raises(UserError, match=r"none\.jsonl: No such file"):
        files.read_json_lines(tmp_path / "none.jsonl")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match=r"bad\.json is not JSON"):
        files.read_json(tmp_path / "bad.json")


def test_a_directory_is_created_atomically(tmp_path):
    path = tmp_path / "deep" / "new"

    def fail():
        with files.new_directory(path) as directory:
            (directory / "half").write_text("half")
            assert not path.exists()
            raise ValueError("failed before completion")

    with pytest.raises(ValueError, match="failed before completion"):
        fail()
    assert list(path.parent.iterdir()) == []
    files.partial_path(path).mkdir()
    (files.partial_path(path) / "killed").write_text("left by an earlier process")
    with files.new_directory(path) as directory:
        (directory / "whole").write_text("whole")
    assert [file.name for file in path.iterdir()] == ["whole"]
    assert list(path.parent.iterdir()) == [path]
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "missing")
    for existing in (path, link):
        with pytest.raises(UserError, match="exists and is not overwritten"):
            files.new_directory(existing).__enter__()


def test_a_directory_is_exchanged_without_a_moment_in_which_it_is_missing(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
        (directory / "name").write_text(directory.name)
    stop, missing = threading.Event(), []

    def watch():
        while not stop.is_set():
            if not (second / "name").is_file():
                missing.append(True)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(1001):
        files.exchange(first, second)
    stop.set()
    watcher.join()
    assert ((first / "name").read_text(), (second / "name").read_text()) == ("second", "first")
    assert not missing


def test_a_directory_is_exchanged_by_three_renames_where_that_is_all_there_is(
    tmp_path, monkeypatch
):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for directory in (first, second):
        directory.mkdir()
        (directory / "name").write_text(directory.name)
    monkeypatch.setattr(files, "_exchanged", lambda *paths: False)
    files.exchange(first, second)
    assert ((first / "name").read_text(), (second / "name").read_text()) == ("second", "first")
    files.exchange(first, third)  # nothing was there
    assert (third / "name").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["second", "third"]


@pytest.mark.parametrize("depth", [101, 800, 100_000])
def test_json_that_is_nested_too_deeply_is_refused(tmp_path, depth):
    path = tmp_path / "deep.json"
    path.write_text('{"a":' * depth + "1" + "}" * depth)
    with pytest.raises(UserError, match=r"deep.json is n(ot JSON|ested more than 100 levels)"):
        files.read_json(path)
    path.write_text('{"step": 1, "a": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(UserError, match=r"deep.json:1 is not a JSON object with a step"):
        files.read_json_lines(path)


def test_json_of_a_hundred_levels_is_read(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text("[" * 100 + "]" * 100)
    assert files.read_json(path) is not None
