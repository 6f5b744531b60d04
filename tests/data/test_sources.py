"""Every published dataset with its real rows; expected values come from the raw files."""

import collections
import gzip
import json
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from import_layers import PACKAGE
from shared_data import ROOT, shared

from dvaojax.data import sources


def raw(path):
    """The rows of a file as plain JSON, independently of the package."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    return (
        json.loads(text) if text.startswith("[") else [json.loads(s) for s in text.split("\n") if s]
    )


def parsed(name, *files):
    """The splits and notes of a dataset, from real files."""
    known, noted = sources.BY_NAME[name], collections.Counter()
    paths = {key: shared(*parts) for key, parts in files}
    return known.parse(paths, noted), +noted


def contents(records):
    return [record.prompt[0]["content"] for record in records]


def test_dataset_names_urls_and_checksums():
    names = "gsm8k math500 aime24 aime25 amc23 olympiadbench dapo_math_17k toolrl bfcl healthbench"
    assert set(sources.BY_NAME) == {*names.split(), "ifeval", "mbpp", "humaneval"}
    urls = [file.url for known in sources.BY_NAME.values() for file in known.files.values()]
    assert len(set(urls)) == len(urls)
    commits = [
        url for url in urls if re.search(r"githubusercontent\.com/[^/]+/[^/]+/[0-9a-f]{40}/", url)
    ]
    assert len(commits) == len(urls) - 1  # HealthBench is not published in a repository
    sums = [file.sha256 for known in sources.BY_NAME.values() for file in known.files.values()]
    assert all(re.fullmatch(r"[0-9a-f]{64}", checksum) for checksum in sums if checksum)


def test_readme_lists_every_dataset_and_licence():
    readme = PACKAGE / "data" / "README.md"
    rows = [line for line in readme.read_text().splitlines() if line.startswith("| `")]
    for name, known in sources.BY_NAME.items():
        (row,) = [row for row in rows if f"`{name}`" in row.split("|")[1]]
        for licence in re.findall(r"MIT|Apache-2.0|CC BY 4.0", known.licence):
            assert licence in row.split("|")[4]


def test_checksums_match_the_real_files():
    """The README of the real data states the checksums of the published files."""
    shared("README.md")
    sums = {
        file.sha256: file for known in sources.BY_NAME.values() for file in known.files.values()
    }
    stated = re.findall(
        r"^\| `([^`]+)` \|.*`([0-9a-f]{64})` \|$", (ROOT / "README.md").read_text(), re.M
    )
    whole = [path for path, checksum in stated if checksum in sums]
    # These are unchanged published files; the others are excerpts or conversions.
    assert len(whole) >= 26
    assert {path.partition("/")[0] for path in whole} == set(sources.BY_NAME) - {
        "aime25",
        "healthbench",
        "mbpp",
    }


def test_gsm8k():
    splits, noted = parsed(
        "gsm8k", ("train", ("gsm8k", "train.jsonl")), ("test", ("gsm8k", "test.jsonl"))
    )
    assert not noted
    for split, rows, commas, negative in (("train", 7473, 79, 3), ("test", 1319, 14, 2)):
        records, lines = splits[split], raw(shared("gsm8k", f"{split}.jsonl"))
        assert len(records) == rows
        assert contents(records) == [line["question"] for line in lines]
        assert [r.answer for r in records] == [
            line["answer"].splitlines()[-1].removeprefix("#### ") for line in lines
        ]
        assert sum("," in r.answer for r in records) == commas
        assert sum(r.answer.startswith("-") for r in records) == negative
        assert all(re.fullmatch(r"-?[0-9,]+", r.answer) for r in records)
        assert not any("<<" in r.metadata["rationale"] for r in records)
        assert [r.metadata["row"] for r in records] == list(range(rows))


def last_box(text):
    """The content of the last `\\boxed{}`, with balanced braces."""
    start = text.rindex("\\boxed{") + len("\\boxed{")
    depth = 1
    for end in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if not depth:
            return text[start:end]
    raise AssertionError(text)


def test_math500():
    splits, noted = parsed("math500", ("test", ("math500", "test.jsonl")))
    records = splits["test"]
    assert len(records) == 500
    assert not noted
    assert all(last_box(record.metadata["solution"]) == record.answer for record in records)
    assert {record.metadata["level"] for record in records} == {1, 2, 3, 4, 5}
    assert len({record.metadata["unique_id"] for record in records}) == 500


def test_aime25_is_integers():
    splits, noted = parsed("aime25", ("test", ("aime25", "test.jsonl")))
    answers = [record.answer for record in splits["test"]]
    labels = [row["answer"] for row in raw(shared("aime25", "test.jsonl"))]
    assert len(answers) == 30
    assert [a for a, b in zip(answers, labels, strict=True) if a != b] == ["336"]
    assert noted == {"degree signs removed": 1}
    assert all(answer == str(int(answer)) for answer in answers)


def test_aime24_is_integers():
    splits, noted = parsed("aime24", ("test", ("aime24", "test.jsonl")))
    labels = [row["answer"] for row in raw(shared("aime24", "test.jsonl"))]
    assert [record.answer for record in splits["test"]] == [str(int(label)) for label in labels]
    assert noted == {"leading zeros removed": 7}


def test_amc23_has_no_float():
    splits, noted = parsed("amc23", ("test", ("amc23", "test.jsonl")))
    with shared("amc23", "test.jsonl").open() as file:
        labels = [json.loads(line, parse_float=Decimal)["answer"] for line in file]
    assert len(labels) == 40
    assert [record.answer for record in splits["test"]] == [f"{label:.0f}" for label in labels]
    assert [Decimal(record.answer) for record in splits["test"]] == labels
    assert noted == {"floats written as integers": 40}


def test_olympiadbench():
    splits, _ = parsed("olympiadbench", ("test", ("olympiadbench", "test.jsonl")))
    records, rows = splits["test"], raw(shared("olympiadbench", "test.jsonl"))
    metadata = [record.metadata for record in records]
    assert collections.Counter(m["answer_type"] for m in metadata) == {
        "Numerical": 572,
        "Expression": 64,
        "Tuple": 33,
        "Interval": 6,
    }
    assert sum(m["is_multiple_answer"] for m in metadata) == 94
    assert sum(m["unit"] is not None for m in metadata) == 8
    assert [m["error"] for m in metadata if m["error"]] == ["1e-1"]
    for record, row in zip(records, rows, strict=True):
        (label,) = row["final_answer"]
        assert record.answer in label
        assert {*label.replace(record.answer, "")} <= {"$", ".", " "}
        # Dollar signs remain only where they separate several spans.
        assert record.answer.count("$") in (0, label.count("$"))
        assert "$" not in record.answer or label.count("$") > 2


def test_dapo_math_17k():
    path = shared("dapo_math_17k", "dapo_math_17k.parquet")
    parquet = pytest.importorskip("pyarrow.parquet")
    splits, noted = parsed("dapo_math_17k", ("train", ("dapo_math_17k", path.name)))
    table = parquet.read_table(path).to_pylist()
    labels = collections.defaultdict(set)
    for row in table:
        labels[row["prompt"][-1]["content"]].add(row["reward_model"]["ground_truth"])
    assert (len(table), len(labels)) == (17917, 17290)
    assert sum(len(values) > 1 for values in labels.values()) == 11
    records = splits["train"]
    assert len(records) == 17290 - 11 - 5
    assert noted == {
        "repeated problems left out": 17917 - 17290,
        "problems with conflicting labels left out": 11,
        "labels rounded through float64 left out": 5,
    }
    assert len(set(contents(records))) == len(records)
    assert all(labels[record.prompt[0]["content"]] == {record.answer} for record in records)
    rounded = {1000, 5195, 3224, 8136, 12110}
    assert not rounded & {record.metadata["index"] for record in records}
    assert all(abs(int(record.answer)) <= 2**53 for record in records)
    assert all(
        table[record.metadata["row"]]["extra_info"]["index"] == record.metadata["index"]
        for record in records
    )


def expected_calls(gold):
    """The calls of a reference answer, between its last tags."""
    block = gold[gold.rindex("</think>") :]
    if "<tool_call>" not in block:
        return []
    block = block[block.rindex("<tool_call>") + 11 : block.rindex("</tool_call>")]
    return [json.loads(line) for line in block.split("\n") if line]


def test_toolrl():
    splits, noted = parsed("toolrl", ("test", ("toolrl", "rlla_4k_test.jsonl")))
    records = splits["test"]
    assert not noted
    assert sum(r.metadata["wants_call"] for r in records) == 71
    assert sum(not r.metadata["wants_call"] and r.metadata["wants_response"] for r in records) == 9
    for record, row in zip(records, raw(shared("toolrl", "rlla_4k_test.jsonl")), strict=True):
        assert record.answer == expected_calls(row["reward_model"]["ground_truth"])
        assert list(record.prompt) == row["prompt"]
        numbers = re.findall(r"^(\d+)\. Name: ", record.prompt[0]["content"], re.M)
        assert [int(n) for n in numbers] == list(range(1, len(record.metadata["tools"]) + 1))
    unknown_tools = [
        record.metadata["row"]
        for record in records
        if not {call["name"] for call in record.answer}
        <= {tool["name"] for tool in record.metadata["tools"]}
    ]
    assert unknown_tools == [9]  # its reference answer has an incomplete tool name


def test_toolrl_parquet_equals_json_lines():
    pytest.importorskip("pyarrow.parquet")
    lines, _ = parsed("toolrl", ("test", ("toolrl", "rlla_4k_test.jsonl")))
    table, _ = parsed("toolrl", ("test", ("toolrl", "rlla_4k_test.parquet")))
    assert lines == table


NAMED_IN_THOUGHTS = (
    *(10, 44, 73, 76, 95, 97, 200, 213, 252, 280, 285, 317, 348, 350, 356, 363, 380),
)


def test_toolrl_skips_calls_inside_thoughts():
    splits, noted = parsed("toolrl", ("sft", ("toolrl", "rlla_sft.json")))
    records, rows = splits["sft"], raw(shared("toolrl", "rlla_sft.json"))
    numbers = [number for number in NAMED_IN_THOUGHTS if number < len(rows)]
    assert numbers
    assert noted == {"thoughts that contain <tool_call>, skipped": len(numbers)}
    for record, row in zip(records, rows, strict=True):
        assert record.answer == expected_calls(row["output"])
        assert record.metadata["wants_call"] == bool(record.answer)
    assert all(records[number].answer for number in numbers)


def bfcl_files():
    files = sources.BY_NAME["bfcl"].files
    at = shared("bfcl")
    return [
        (key, ("bfcl", name))
        for key, file in files.items()
        for name in file.names
        if (at / name).exists()
    ]


def test_bfcl():
    splits, noted = parsed("bfcl", *bfcl_files())
    records = splits["test"]
    counts = collections.Counter(record.metadata["category"] for record in records)
    rows = {"simple_python": 400, "multiple": 200, "parallel": 200, "parallel_multiple": 200}
    rows |= {"live_parallel": 16, "live_parallel_multiple": 24, "irrelevance": 240}
    assert {category: counts[category] for category in rows} == rows
    dotted = golds = 0
    answers = shared("bfcl", "possible_answer")
    golds_by_id = {
        row["id"]: row["ground_truth"] for path in answers.iterdir() for row in raw(path)
    }
    for record in records:
        metadata, gold = record.metadata, record.answer
        if metadata["category"].endswith("irrelevance"):
            assert gold == []
            continue
        assert gold == golds_by_id[metadata["id"]]
        golds += 1
        dotted += any("." in name for call in gold for name in call)
    # Two of 1,498 rows cannot be answered; live_simple may be missing.
    if "live_simple" in counts and counts["live_multiple"] == 200:
        assert (golds, dotted, counts["live_simple"]) == (1498 - 2, 666, 256)
        assert noted == {"questions that no call can answer left out": 2}
    ids = {record.metadata["id"] for record in records}
    assert {"parallel_multiple_12", "parallel_multiple_26"} <= ids  # omission is accepted
    assert not ids & {"live_simple_106-63-0", "live_simple_112-68-0"}


def test_healthbench():
    splits, _ = parsed("healthbench", ("test", ("healthbench", "sample50.jsonl")))
    records = splits["test"]
    items = [item for record in records for item in record.metadata["rubrics"]]
    assert (len(records), len(items)) == (50, 539)
    assert sum(item["points"] < 0 for item in items) == 158
    axes = [tag for item in items for tag in item["tags"] if tag.startswith("axis:")]
    assert collections.Counter(axes) == {
        "axis:completeness": 231,
        "axis:accuracy": 166,
        "axis:context_awareness": 83,
        "axis:communication_quality": 37,
        "axis:instruction_following": 22,
    }
    lowest = [
        Fraction(
            sum(min(i["points"], 0) for i in r.metadata["rubrics"]),
            sum(max(i["points"], 0) for i in r.metadata["rubrics"]),
        )
        for r in records
    ]
    assert min(lowest) == Fraction(-36, 7)
    assert all(record.answer is None and record.metadata["canary"] for record in records)
    lengths = [len(record.prompt) for record in records]
    assert sum(length > 1 for length in lengths) == 18
    assert max(lengths) == 9
    assert all(record.prompt[-1]["role"] == "user" for record in records)


def test_ifeval():
    splits, _ = parsed("ifeval", ("test", ("ifeval", "input_data.jsonl")))
    kinds = [record.metadata["instruction_id_list"] for record in splits["test"]]
    assert collections.Counter(map(len, kinds)) == {1: 305, 2: 179, 3: 57}
    assert len(set().union(*kinds)) == 25


def test_mbpp():
    splits, _ = parsed("mbpp", ("all", ("mbpp", "sanitized-mbpp.json")))
    assert {split: len(records) for split, records in splits.items()} == {"train": 170, "test": 257}
    records = [*splits["train"], *splits["test"]]
    counts = collections.Counter(len(record.answer) for record in records)
    assert counts == {3: 397, 4: 22, 5: 4, 6: 3, 7: 1}
    assert sum("import math" in record.metadata["test_imports"] for record in records) == 13
    for record in records:
        name = record.metadata["entry_point"]
        assert re.search(rf"\bdef {name}\b|\bclass {name}\b", record.metadata["code"])
        assert all(re.search(rf"\b{name}\b", test) for test in record.answer)
        assert record.prompt[0]["content"].endswith(record.answer[0])


def test_humaneval():
    splits, _ = parsed("humaneval", ("test", ("humaneval", "HumanEval.jsonl.gz")))
    records, rows = splits["test"], raw(shared("humaneval", "HumanEval.jsonl.gz"))
    assert len(records) == 164
    assert contents(records) == [row["prompt"] for row in rows]
    assert [record.answer for record in records] == [[row["test"]] for row in rows]
    assert all(f"def {r.metadata['entry_point']}(" in r.prompt[0]["content"] for r in records)
