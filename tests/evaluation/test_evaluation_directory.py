"""The directory of an evaluation: after a kill at any byte it resumes to the same files."""

import json

import numpy as np
import pytest

from dvaojax.errors import UserError
from dvaojax.evaluation.directory import CompletionsLayout, EvaluationDirectory, digest
from dvaojax.evaluation.held_out import AnsweredProblem
from dvaojax.types import Completion, Prompt

OBJECTIVES = ("right", "brief")
SAMPLES, BATCH = 2, 2
SETTINGS = {"policy": {"step": 3}, "evaluation": {"sampling": {"temperature": 0.6, "top_k": 0}}}
# Texts that a tokenizer may decode: line separators, NUL, a lone surrogate, other scripts.
TEXTS = ("plain", "two\nlines\r\n\u2028\u0085", "\x00\udc80", "答え 🙂", '"}\\', "")


def problem(index):
    completions = [
        Completion(TEXTS[(index + g) % len(TEXTS)], (index, g, 1), g == 0) for g in range(SAMPLES)
    ]
    rewards = np.array([[0.1 * index, np.nan], [1.0, -3.0]], np.float32)
    return AnsweredProblem(
        Prompt(f"problem {index}", None, 10 + index, "odd" * (index % 2)), completions, rewards
    )


PROBLEMS = [problem(index) for index in range(5)]
LAYOUT = CompletionsLayout(
    [p.prompt for p in PROBLEMS], SAMPLES, BATCH, OBJECTIVES, lambda c: c.text or None
)


def write(path, *, settings=SETTINGS, layout=LAYOUT):
    """Completes the evaluation; returns the number of problems written."""
    directory = EvaluationDirectory(path, settings, layout)
    first = len(directory.finished)
    for start in range(first, len(PROBLEMS), BATCH):
        directory.add(PROBLEMS[start : start + BATCH])
    return len(PROBLEMS) - first


def same(one, two):
    assert [p.prompt for p in one] == [p.prompt for p in two]
    assert [p.completions for p in one] == [p.completions for p in two]
    for a, b in zip(one, two, strict=True):
        assert a.rewards.dtype == b.rewards.dtype == np.float32
        np.testing.assert_array_equal(a.rewards, b.rewards)


def test_round_trip(tmp_path):
    assert write(tmp_path / "new/evaluation") == 5
    same(EvaluationDirectory(tmp_path / "new/evaluation", SETTINGS, LAYOUT).finished, PROBLEMS)
    assert write(tmp_path / "new/evaluation") == 0


def test_each_completion_is_one_json_line_with_every_reward(tmp_path):
    write(tmp_path / "one")
    lines = (tmp_path / "one/completions.jsonl").read_bytes().decode("utf-8").split("\n")
    assert lines.pop() == ""
    rows = [json.loads(line) for line in lines]
    assert [(row["problem"], row["sample"]) for row in rows] == [
        (i, g) for i in range(5) for g in range(SAMPLES)
    ]
    for row in rows:
        expected = PROBLEMS[row["problem"]]
        completion = expected.completions[row["sample"]]
        assert (row["completion"], row["token_ids"]) == (
            completion.text,
            list(completion.token_ids),
        )
        assert (row["index"], row["category"]) == (expected.prompt.index, expected.prompt.category)
        assert row["answer"] == (completion.text or None)
        assert row["rewards"] == {
            name: None if np.isnan(reward) else float(reward)
            for name, reward in zip(OBJECTIVES, expected.rewards[row["sample"]], strict=True)
        }


def test_resumes_from_any_truncation_with_the_same_file(tmp_path):
    write(tmp_path / "whole")
    whole = (tmp_path / "whole/completions.jsonl").read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    around_ends = {end + shift for end in ends for shift in (-2, -1, 0, 1)}
    for size in sorted(around_ends | set(range(0, len(whole), 67))):
        cut = tmp_path / "cut"
        cut.mkdir(exist_ok=True)
        (cut / "settings.json").write_bytes((tmp_path / "whole/settings.json").read_bytes())
        (cut / "completions.jsonl").write_bytes(whole[:size])
        lines = sum(end <= size for end in ends)
        finished = 5 if lines == 5 * SAMPLES else lines // (SAMPLES * BATCH) * BATCH
        assert write(cut) == 5 - finished
        assert (cut / "completions.jsonl").read_bytes() == whole


def test_resumes_with_another_batch_size(tmp_path):
    directory = EvaluationDirectory(tmp_path / "one", SETTINGS, LAYOUT)
    directory.add(PROBLEMS[:2])
    directory.add(PROBLEMS[2:4])
    wider = CompletionsLayout(LAYOUT.prompts, SAMPLES, 3, OBJECTIVES, LAYOUT.answer)
    same(EvaluationDirectory(tmp_path / "one", SETTINGS, wider).finished, PROBLEMS[:3])


def test_refuses_other_settings_and_names_the_key(tmp_path):
    write(tmp_path / "one")
    other = {"policy": {"step": 3}, "evaluation": {"sampling": {"temperature": 1.0, "top_k": 0}}}
    with pytest.raises(UserError, match=r"evaluation.sampling.temperature was 0.6 and is 1.0"):
        write(tmp_path / "one", settings=other)
    with pytest.raises(UserError, match=r"seed was None and is 1"):
        write(tmp_path / "one", settings={**SETTINGS, "seed": 1})


def test_restarts_after_a_kill_before_the_settings(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one/.settings.json.partial").write_text('{"pol')
    assert write(tmp_path / "one") == 5


def test_does_not_touch_other_directories(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UserError, match="is not an evaluation"):
            EvaluationDirectory(path, SETTINGS, LAYOUT)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    "line",
    [b"{}", b"[]", b"not json", b'{"problem": 1, "sample": 0}', b"\xff", b"null"],
)
def test_invalid_line_is_named(tmp_path, line):
    write(tmp_path / "one")
    file = tmp_path / "one/completions.jsonl"
    lines = file.read_bytes().split(b"\n")
    lines[3] = line
    file.write_bytes(b"\n".join(lines))
    with pytest.raises(UserError, match=r"completions.jsonl:4 is not sample 1 of problem 1"):
        EvaluationDirectory(tmp_path / "one", SETTINGS, LAYOUT)
    assert file.read_bytes() == b"\n".join(lines)


def test_digest_depends_only_on_content():
    assert digest({"a": 1, "b": [1.5, "\udc80"]}) == digest({"b": [1.5, "\udc80"], "a": 1})
    assert len({digest(value) for value in (1, "1", [1], {"a": 1}, 2)}) == 5
