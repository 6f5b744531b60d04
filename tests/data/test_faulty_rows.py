"""Faulty rows of published datasets: repaired, dropped and counted, or refused."""

import collections
import json

import pytest

from dvaojax.data import sources
from dvaojax.errors import UserError

PARAMETERS = {"type": "dict", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SYSTEM = """Use tools.

**Available Tools**
In your response, you can use the following tools:
1. Name: Weather
Description: Tells the weather.
It needs a city.
Parameters: {"city": {"type": "string"}}
2. Name: Time
Description:
Parameters: {}

**Steps for Each Turn**
1. Name: none of this is a tool"""
CALL = '<tool_call>\n{"name": "Weather", "parameters": {"city": "Rome"}}\n</tool_call>'

# Dataset and file -> a valid row.
GOOD = {
    ("gsm8k", "train"): {"question": "1 + 1?", "answer": "It is <<1+1=2>>2.\n#### 2"},
    ("math500", "test"): {
        "problem": "1 + 1?",
        "solution": "\\boxed{2}",
        "answer": "2",
        "subject": "Algebra",
        "level": 1,
        "unique_id": "a/1.json",
    },
    ("aime24", "test"): {"problem": "1 + 1?", "answer": "002"},
    ("aime25", "test"): {"problem": "1 + 1?", "answer": "2", "source": "aime2025"},
    ("amc23", "test"): {"problem": "1 + 1?", "answer": 2.0},
    ("olympiadbench", "test"): {
        "id": 1,
        "subfield": "Algebra",
        "question": "1 + 1?",
        "solution": ["2"],
        "final_answer": ["$2$"],
        "answer_type": "Numerical",
        "is_multiple_answer": False,
    },
    ("dapo_math_17k", "train"): {
        "prompt": [{"role": "user", "content": "1 + 1?"}],
        "reward_model": {"ground_truth": "2"},
        "extra_info": {"index": 7},
    },
    ("toolrl", "sft"): {
        "instruction": SYSTEM,
        "input": "Rome?",
        "output": f"<think> </think>\n{CALL}",
    },
    ("bfcl", "irrelevance"): {
        "id": "irrelevance_0",
        "question": [[{"role": "user", "content": "Rome?"}]],
        "function": [{"name": "weather", "parameters": PARAMETERS}],
    },
    ("healthbench", "test"): {
        "prompt_id": "x",
        "prompt": [{"role": "user", "content": "It hurts."}],
        "rubrics": [{"criterion": "Asks where.", "points": 5, "tags": ["axis:completeness"]}],
        "example_tags": ["theme:x"],
        "canary": "none",
    },
    ("ifeval", "test"): {
        "key": 1,
        "prompt": "Write.",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{}],
    },
    ("mbpp", "all"): {
        "task_id": 11,
        "prompt": "Add one.",
        "code": "def helper(x):\n    return x\n\ndef add(x):\n    return helper(x) + 1",
        "test_list": ["assert add(1) == 2"],
        "test_imports": [],
    },
    ("humaneval", "test"): {
        "task_id": "HumanEval/0",
        "prompt": 'def add(x):\n    """Add one."""\n',
        "canonical_solution": "    return x + 1\n",
        "entry_point": "add",
        "test": "def check(candidate):\n    assert candidate(1) == 2\n",
    },
}


def parsed(tmp_path, name, key, *rows, **more):
    """The records of a file of these rows, and the notes."""
    paths = {}
    for at, lines in {key: rows, **more}.items():
        paths[at] = tmp_path / f"{at}.jsonl"
        paths[at].write_text("".join(json.dumps(row) + "\n" for row in lines))
    noted = collections.Counter()
    splits = sources.BY_NAME[name].parse(paths, noted)
    return [record for records in splits.values() for record in records], +noted


def test_good_rows_are_read(tmp_path):
    assert {name for name, _ in GOOD} == set(sources.BY_NAME)
    for (name, key), row in GOOD.items():
        records, _ = parsed(tmp_path, name, key, row)
        assert len(records) == 1, name
        assert records[0].metadata["source"] == name
        assert not isinstance(records[0].answer, float)


WRONG = [{"not": "this"}, [[3]], None, 0.5, "½ \\\\ ( <tool_call>"]


@pytest.mark.parametrize(("name", "key"), GOOD)
def test_names_file_line_and_field_of_wrong_type(tmp_path, name, key):
    good = GOOD[name, key]
    for field, right in good.items():
        for wrong in WRONG:
            if isinstance(wrong, str) and isinstance(right, str):
                continue
            with pytest.raises(UserError, match=rf"{key}.jsonl:2: .*'{field}") as raised:
                parsed(tmp_path, name, key, good, {**good, field: wrong})
            assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "key", "field", "value", "complaint"),
    [
        ("gsm8k", "train", "answer", "It is 2.", "does not end with one '#### ' and the answer"),
        ("gsm8k", "train", "answer", "#### 2\n#### 3", "does not end with one"),
        ("gsm8k", "train", "answer", "It is 2.\n####  ", "does not end with one"),
        ("aime24", "test", "answer", "1000", "is '1000', not an integer from 0 to 999"),
        ("aime24", "test", "answer", "\\frac12", "not an integer from 0 to 999"),
        ("amc23", "test", "answer", 2.5, "is 2.5, not an integer"),
        ("amc23", "test", "answer", "2", 'is "2", not a number'),
        ("olympiadbench", "test", "final_answer", ["1", "2"], "has 2 answers, not 1"),
        ("dapo_math_17k", "train", "prompt", [], "has no message"),
        (
            "dapo_math_17k",
            "train",
            "reward_model",
            {"ground_truth": "2.0"},
            "is '2.0', not an integer",
        ),
        ("dapo_math_17k", "train", "reward_model", {"ground_truth": 2}, "is 2, not a string"),
        (
            "toolrl",
            "sft",
            "output",
            "<think> </think> 42",
            "has neither a <tool_call> nor a <response>",
        ),
        ("toolrl", "sft", "output", "<tool_call>\nWeather\n</tool_call>", "cannot be read"),
        ("bfcl", "irrelevance", "question", [[], []], "has 2 turns, not 1"),
        (
            "healthbench",
            "test",
            "rubrics",
            [{"criterion": "x", "points": 0, "tags": []}],
            "has an item",
        ),
        (
            "healthbench",
            "test",
            "rubrics",
            [{"criterion": "x", "points": -1, "tags": []}],
            "no score is",
        ),
        ("ifeval", "test", "kwargs", [], "has 0 entries for 1 instructions"),
        ("mbpp", "all", "code", "def add(x:", "is not Python"),
        ("mbpp", "all", "test_list", ["assert True"], "does not call a function that the code"),
        ("humaneval", "test", "entry_point", "sub", "which the prompt does not define"),
        ("humaneval", "test", "test", "assert True", "defines no function check"),
    ],
)
def test_refuses_invalid_values(tmp_path, name, key, field, value, complaint):
    bad = {**GOOD[name, key], field: value}
    with pytest.raises(UserError) as raised:
        parsed(tmp_path, name, key, GOOD[name, key], bad)
    assert f"{key}.jsonl:2: " in str(raised.value)
    assert field in str(raised.value)
    assert complaint in str(raised.value)


def test_aime_copies_have_equal_answers(tmp_path):
    """Copies of the same problem contain 025 and 25, and one has a degree sign."""
    copies = ["025", "25", "25^\\circ", "000", "0"]
    rows = [{"problem": "?", "answer": label} for label in copies]
    records, noted = parsed(tmp_path, "aime24", "test", *rows)
    assert [record.answer for record in records] == ["25", "25", "25", "0", "0"]
    assert noted == {"leading zeros removed": 2, "degree signs removed": 1}
    assert [record.metadata["label"] for record in records] == copies


def test_aime25_skips_other_benchmarks(tmp_path):
    rows = [
        {"source": source, "prompt": source, "ground_truth": "7"}
        for source in ("aime2024", "aime2025", "MATH-500")
    ]
    records, _ = parsed(tmp_path, "aime25", "test", *rows)
    assert [record.prompt[0]["content"] for record in records] == ["aime2025"]


def dapo(problem, label, index):
    return {
        "prompt": [{"role": "user", "content": problem}],
        "reward_model": {"ground_truth": label},
        "extra_info": {"index": index},
    }


def test_dapo_drops_unreliable_labels(tmp_path):
    huge = 10**22 - 1  # 10**22 as a float
    rows = [
        dapo("twice", "1", 0),
        dapo("twice", "1", 1),
        dapo("conflict", "1", 2),
        dapo("rounded", str(int(float(105263157894736842))), 3),
        dapo("conflict", "2", 4),
        dapo("exact and huge", str(huge), 5),
        dapo("exact and large", str(2**53), 6),
        dapo("rounded and negative", f"-{int(float(huge))}", 7),
        dapo("minus zero", "-0", 8),
    ]
    records, noted = parsed(tmp_path, "dapo_math_17k", "train", *rows)
    assert [(record.metadata["index"], record.answer) for record in records] == [
        (0, "1"),
        (5, str(huge)),
        (6, str(2**53)),
        (8, "0"),
    ]
    assert noted == {
        "repeated problems left out": 2,
        "problems with conflicting labels left out": 1,
        "labels rounded through float64 left out": 2,
    }


def test_gold_call_is_last_block_after_thought(tmp_path):
    thought = "<think> I write <tool_call>\nnonsense\n</tool_call> and <response>. </think>\n"
    rows = [
        {**GOOD["toolrl", "sft"], "output": thought + CALL},
        {**GOOD["toolrl", "sft"], "output": thought + "<response> It rains. </response>"},
        {**GOOD["toolrl", "sft"], "output": f"{thought}{CALL}\n<response> Wait. </response>"},
    ]
    records, noted = parsed(tmp_path, "toolrl", "sft", *rows)
    call = {"name": "Weather", "parameters": {"city": "Rome"}}
    assert [record.answer for record in records] == [[call], [], [call]]
    wants = [(r.metadata["wants_call"], r.metadata["wants_response"]) for r in records]
    assert wants == [(True, False), (False, True), (True, True)]
    assert noted == {"thoughts that contain <tool_call>, skipped": 3}
    assert records[0].metadata["tools"] == [
        {
            "name": "Weather",
            "description": "Tells the weather.\nIt needs a city.",
            "parameters": {"city": {"type": "string"}},
        },
        {"name": "Time", "description": "", "parameters": {}},
    ]


@pytest.mark.parametrize(
    ("accepted", "possible"),
    [
        ({"city": ["Rome"]}, True),
        ({"city": ["Rome"], "unit": ["", "C"]}, True),  # unit is not in the schema; may be omitted
        ({"city": ["Rome"], "unit": ["C"]}, False),  # unit is not in the schema, but needed
        ({"city": []}, False),
        ({}, False),  # city is required, and no value is accepted
        ({"city": ["", "Rome"]}, True),  # city is required; "Rome" is accepted
        ({"city": ["Rome"], "unit": []}, False),
    ],
)
def test_drops_questions_that_no_call_can_answer(tmp_path, accepted, possible):
    question = {**GOOD["bfcl", "irrelevance"], "id": "live_simple_0"}
    gold = {"id": "live_simple_0", "ground_truth": [{"weather": accepted}]}
    more = {"live_simple answers": [gold]}
    records, noted = parsed(tmp_path, "bfcl", "live_simple", question, **more)
    assert len(records) == possible
    assert sum(noted.values()) == (not possible)
    if possible:
        assert records[0].answer == [{"weather": accepted}]
        assert records[0].metadata["category"] == "live_simple"


def test_bfcl_answers_without_ground_truth(tmp_path):
    row = GOOD["bfcl", "irrelevance"]
    records, _ = parsed(tmp_path, "bfcl", "irrelevance", row, live_relevance=[row])
    assert [(r.metadata["category"], r.answer) for r in records] == [
        ("irrelevance", []),
        ("live_relevance", None),
    ]


def test_bfcl_refuses_missing_or_invalid_answers(tmp_path):
    row = GOOD["bfcl", "irrelevance"]
    with pytest.raises(UserError, match=r"parallel.jsonl needs possible_answer/parallel.jsonl"):
        parsed(tmp_path, "bfcl", "parallel", row)
    gold = {"id": "another", "ground_truth": [{"weather": {"city": ["Rome"]}}]}
    with pytest.raises(UserError, match=r"'id' is 'irrelevance_0', which has no ground truth"):
        parsed(tmp_path, "bfcl", "parallel", row, **{"parallel answers": [gold]})
    gold = {"id": "irrelevance_0", "ground_truth": [{"time": {}}]}
    with pytest.raises(UserError, match="'function' does not describe 'time'"):
        parsed(tmp_path, "bfcl", "parallel", row, **{"parallel answers": [gold]})
    gold = {"id": "irrelevance_0", "ground_truth": [{"weather": {"city": "Rome"}}]}
    with pytest.raises(UserError, match=r"answers.jsonl:1: field 'ground_truth' is not a list of"):
        parsed(tmp_path, "bfcl", "parallel", row, **{"parallel answers": [gold]})


def test_names_truncated_parquet_file(tmp_path):
    path = tmp_path / "cut.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"cut.parquet is not a valid Parquet file"):
        sources.BY_NAME["dapo_math_17k"].parse({"train": path}, collections.Counter())
