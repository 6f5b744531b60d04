"""The user's own rows in every format: what is read, what is kept, and the line about the rest."""

import codecs
import datetime
import decimal
import gzip
import json
import os
import zoneinfo

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from dvaojax import cli
from dvaojax.data import jsonl, own_files
from dvaojax.errors import UserError

ROWS = [
    {"prompt": "1+1?", "answer": "2"},
    {"prompt": 'é, "🙂"\nsecond line', "answer": "007"},
    {"prompt": "a\u2028b", "answer": "1e5"},
]
BOM = codecs.BOM_UTF8


def texts(path, **more):
    return [(r.prompt[0]["content"], r.answer) for r in jsonl.read(path, **more)]


def csv_text(newline, delimiter=","):
    cells = [["prompt", "answer"], *(list(row.values()) for row in ROWS)]
    quoted = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in cells]
    return newline.join(delimiter.join(row) for row in quoted)


def arrow_bytes(table, kind):
    sink = pa.BufferOutputStream()
    with (ipc.new_stream if kind == "stream" else ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def parquet_file(path, **columns):
    parquet.write_table(pa.table(columns), path)
    return path


def test_every_format_gives_the_same_rows(tmp_path):
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in ROWS]
    listed = json.dumps(ROWS, ensure_ascii=False).encode()
    table = pa.Table.from_pylist(ROWS)
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink)
    contents = {
        "a.jsonl": b"\n".join(lines),
        "b.jsonl": BOM + b"\r\n\r\n".join(lines) + b"\r\n \r\n",
        "c.json": listed,
        "d.json": BOM + b"\r\n " + listed.replace(b"}, {", b"},\r\n\r\n{"),
        "e.jsonl.gz": gzip.compress(BOM + b"\n".join(lines)),
        "f.csv": csv_text("\n").encode(),
        "g.CSV": BOM + csv_text("\r\n").encode() + b"\r\n\r\n",
        "h.csv": b"\n" + csv_text("\n\n").encode() + b"\n",
        "i.tsv": csv_text("\n", "\t").encode(),
        "j.csv.gz": gzip.compress(csv_text("\n").encode()),
        "k.parquet": sink.getvalue().to_pybytes(),
        "l.arrow": arrow_bytes(table, "stream"),
        "m.feather": arrow_bytes(table, "file"),
    }
    expected = [tuple(row.values()) for row in ROWS]
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert texts(path) == expected, name


MALFORMED = {
    "utf16.jsonl": ('{"prompt": "x"}'.encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
    "utf16.csv": ("prompt\nx".encode("utf-16"), "is UTF-16 text"),
    "latin.csv": ("prompt\ncaf\xe9".encode("latin-1"), "is not UTF-8 text"),
    "more.csv": (b"prompt,answer\n1,2\n1,2,3\n", "more.csv:3 has 3 values for 2 columns"),
    "fewer.csv": (b"prompt,answer\n\n\n1\n", "fewer.csv:4 has 1 value for 2 columns"),
    "quote.csv": (b'prompt,answer\n1,"2"x\n', "quote.csv:2 is not a row of a CSV file"),
    "open.csv": (b'prompt,answer\n1,"2\n', "is not a row of a CSV file"),
    "twice.csv": (b"prompt,prompt\n1,2\n", "names the column 'prompt' more than once"),
    "semicolon.csv": (b"prompt;answer\n1;2\n", "separates columns by semicolons"),
    "header.csv": (b"prompt,answer\n", "has no record"),
    "blank.jsonl": (b"\n\r\n \n", "has no record"),
    "bom.jsonl": (BOM, "has no record"),
    "twice.jsonl": (b'{"prompt": "a", "answer": "1", "answer": "2"}', "key 'answer' is repeated"),
    "large.jsonl": (b'{"prompt": "a", "metadata": {"x": 1e999}}', "1e999 is too large a number"),
    "cr.jsonl": (b'{"prompt": "a"}\r{"prompt": "b"}\r', "is not JSON"),
    "cut.gz": (gzip.compress(b'{"prompt": "a"}' * 50)[:-20], "cut.gz: "),
    "bits.gz": (gzip.compress(b"x" * 99)[:12] + b"\xff" * 30, "bits.gz: "),
    "cut.arrow": (arrow_bytes(pa.table({"prompt": ["a"]}), "stream")[:50], "not a valid Arrow"),
    "cut.parquet": (b"PAR1 and no more", "is not a valid Parquet file"),
}


def test_malformed_files_give_one_line_that_names_the_place(tmp_path):
    for name, (content, message) in MALFORMED.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError, match=message) as error:
            jsonl.read(path)
        assert name in str(error.value)
        assert "\n" not in str(error.value), name
        assert len(str(error.value)) < 500, name


UTC = datetime.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC"))
VALUES = [
    ("answer", pa.array([None, decimal.Decimal("4.50")]), "'answer' is of type Decimal: write"),
    ("answer", pa.array([None, b"4"]), "'answer' is of type bytes: write it as a string"),
    ("answer", pa.array([None, 4.5]), "'answer' is the float 4.5"),
    ("answer", pa.array([None, float("nan")]), "'answer' is nan, which is not a finite number"),
    ("answer", pa.array([None, datetime.date(2026, 1, 2)]), "'answer' is of type date"),
    ("answer", pa.array([None, datetime.timedelta(1)]), "'answer' is of type timedelta"),
    ("answer", pa.array([None, 1], pa.timestamp("ns")), "'answer' (cannot be read as|is of type)"),
    ("answer", pa.array([None, 2**62], pa.timestamp("us")), "'answer' cannot be read as timestamp"),
    (
        "answer",
        pa.array([None, [("a", 1)]], pa.map_(pa.string(), pa.int64())),
        r"'answer\[0\]' is of type tuple",
    ),
    ("metadata", pa.array([{"t": None}, {"t": UTC}]), "'metadata.t' is of type datetime"),
    ("metadata", pa.array([{"x": 1.0}, {"x": float("nan")}]), "'metadata.x' is nan"),
    ("metadata", pa.array([{"x": [1.0]}, {"x": [0.0, float("inf")]}]), r"'metadata.x\[1\]' is inf"),
    ("metadata", pa.array([{"x": b""}, {"x": b"\xff"}]), "'metadata.x' is of type bytes"),
]


def test_values_that_json_lacks_are_refused_with_row_and_field(tmp_path, capsys):
    for number, (field, values, message) in enumerate(VALUES):
        path = parquet_file(tmp_path / f"{number}.parquet", prompt=["a", "b"], **{field: values})
        with pytest.raises(UserError, match=rf"row [01]: field {message}") as error:
            jsonl.read(path)
        assert "\n" not in str(error.value), message
    command = ["data", "prepare", "mine", "--source", str(path), "--data-dir", str(tmp_path / "s")]
    assert cli.main(command) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_columns_of_the_same_name_are_refused(tmp_path):
    table = pa.table([["a"], ["b"]], names=["prompt", "prompt"])
    (tmp_path / "twice.arrow").write_bytes(arrow_bytes(table, "stream"))
    with pytest.raises(UserError, match="names the column 'prompt' more than once"):
        jsonl.read(tmp_path / "twice.arrow")


# Columns of other names.


def written(tmp_path, *rows, name="mine.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"question": "2+2?", "answer": "4"},
            "'question' is unknown; did you mean 'prompt'? Rename it, or add --columns "
            "prompt=question answer=answer",
        ),
        (
            {"problem": "2+2?", "solution": "so 4", "ground_truth": "4"},
            "did you mean 'prompt'? Rename it, or add --columns prompt=problem answer=ground_truth",
        ),
        ({"messages": [], "label": 1}, "add --columns prompt=messages answer=label"),
        ({"input": "2", "target": "4"}, "add --columns prompt=input answer=target"),
        ({"prompt": "2", "solution": "4"}, "'solution' is unknown; did you mean 'answer'?"),
        ({"prompt": "2", "anwser": "4"}, "'anwser' is unknown; did you mean 'answer'?"),
        (
            {"prompt": "2", "answer": "4", "level": 5},
            "'level' is unknown; put it in the metadata, or add --columns prompt=prompt "
            "answer=answer, which makes metadata of all other columns",
        ),
        ({"x": "2", "y": "4"}, "name the columns: --columns prompt=COLUMN answer=COLUMN"),
    ],
)
def test_the_usual_names_of_columns_are_recognised(row, message, tmp_path):
    with pytest.raises(UserError) as error:
        jsonl.read(written(tmp_path, row))
    assert message in str(error.value)
    assert "mine.jsonl:1" in str(error.value)


def test_one_row_with_another_name_is_not_a_reason_to_map_columns(tmp_path):
    path = written(tmp_path, {"prompt": "1+1", "answer": "2"}, {"question": "1+2", "answer": "3"})
    with pytest.raises(UserError, match=r"mine.jsonl:2: field 'question' .* 'prompt'\? Rename it$"):
        jsonl.read(path)


def test_two_columns_for_one_field_are_refused(tmp_path, capsys):
    path = written(tmp_path, {"question": "2+2?", "problem": "2+2?", "answer": "4"})
    columns = ["prompt=question", "prompt=problem", "answer=answer"]
    command = ["data", "prepare", "mine", "--source", str(path), "--data-dir", str(tmp_path / "d")]
    assert cli.main([*command, "--columns", *columns]) == 2
    error = capsys.readouterr().err
    assert error == "dvaojax: --columns gives prompt two columns, question and problem: keep one\n"


def test_columns_are_mapped_and_the_others_become_metadata(tmp_path):
    row = {
        "problem": "2+2?",
        "reward_model": {"ground_truth": "4", "style": "rule"},
        "source": "numina",
        "prompt": "an unused column",
        "metadata": {"level": 1},
    }
    path = written(tmp_path, row)
    columns = {"prompt": "problem", "answer": "reward_model.ground_truth"}
    (record,) = jsonl.read(path, columns=columns)
    assert (record.prompt[0]["content"], record.answer) == ("2+2?", "4")
    assert record.metadata == {
        "source": "numina",
        "row": 0,
        "prompt": "an unused column",
        "reward_model": row["reward_model"],
        "level": 1,
    }
    for columns, message in (
        ({"prompt": "question"}, "no 'question' for prompt; it has problem, reward_model, source"),
        ({"prompt": "problem", "answer": "a.b"}, "no 'a.b' for answer; it has"),
        ({"prompt": "reward_model"}, "field 'reward_model' is {.*, not a list"),
    ):
        with pytest.raises(UserError, match=f"mine.jsonl:1: .*{message}"):
            jsonl.read(path, columns=columns)
    both = written(tmp_path, {"q": "1", "level": 2, "metadata": {"level": 1}})
    with pytest.raises(UserError, match="'level' is also a key of 'metadata': rename one"):
        jsonl.read(both, columns={"prompt": "q"})
    dotted = written(tmp_path, {"a.b": "1"})  # a column whose name has a dot
    assert texts(dotted, columns={"prompt": "a.b"}) == [("1", None)]


def test_metadata_of_the_user_is_not_overwritten(tmp_path):
    path = written(tmp_path, {"prompt": "a", "metadata": {"source": "numina", "row": 99, "x": 1}})
    assert jsonl.read(path)[0].metadata == {"source": "numina", "row": 99, "x": 1}


# Messages.


USER = {"role": "user", "content": "weather?"}
CALL = {"type": "function", "function": {"name": "look", "arguments": {"city": "Lima"}}}
RESULT = {"role": "tool", "content": "12C", "name": "look", "tool_call_id": "call_1"}


def test_every_key_of_messages_is_kept(tmp_path):
    called = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    thought = {"role": "assistant", "content": "Yes?", "reasoning_content": "hm", "name": "bot"}
    conversation = [USER, called, RESULT, thought, USER]
    (record,) = jsonl.read(written(tmp_path, {"prompt": conversation}))
    assert list(record.prompt) == conversation
    # The content of a turn of calls may be null, and tables have every key in every row.
    (record,) = jsonl.read(
        written(tmp_path, {"prompt": [USER, {**called, "content": None, "name": None}, RESULT]})
    )
    assert list(record.prompt) == [USER, called, RESULT]


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ({**USER, "images": ["a.png"]}, "has the key 'images'; messages have a role, a content"),
        ({**USER, "weight": 0}, "has the key 'weight'"),
        ({**USER, "name": 5}, "has a 'name' that is not a string"),
        ({**USER, "tool_calls": "x"}, "has a 'tool_calls' that is not a list"),
        ({**USER, "tool_calls": ["x"]}, "'tool_calls' has a call without a function and its name"),
        (
            {**USER, "tool_calls": [{"function": {"arguments": {}}}]},
            "'tool_calls' has a call without a function",
        ),
        ({"role": "user", "content": [{"type": "text", "text": "a"}]}, "has no 'content' that is"),
        ({"role": "user", "content": None}, "has no 'content' that is a string"),
    ],
)
def test_keys_that_no_template_reads_are_refused(message, fault, tmp_path):
    with pytest.raises(UserError, match=rf"mine.jsonl:1: 'prompt'\[1\]:? {fault}"):
        jsonl.read(written(tmp_path, {"prompt": [USER, message, USER]}))


# Directories.


def names(splits):
    return {split: [path.name for path in paths] for split, paths in splits.items()}


def save(directory, *parts):
    """Writes what `datasets` writes with `save_to_disk`."""
    directory.mkdir(parents=True)
    files = [f"data-{i:05}-of-{len(parts):05}.arrow" for i in range(len(parts))]
    for name, rows in zip(files, parts, strict=True):
        table = pa.Table.from_pylist(rows)
        (directory / name).write_bytes(arrow_bytes(table, "stream"))
    state = {"_data_files": [{"filename": name} for name in files], "_split": None}
    (directory / "state.json").write_text(json.dumps(state))
    (directory / "dataset_info.json").write_text("{}")


def test_saved_datasets_are_read_in_the_order_of_their_parts(tmp_path, capsys):
    saved = tmp_path / "saved"
    save(saved / "train", ROWS[:2], ROWS[2:])
    save(saved / "test", ROWS[:1])
    (saved / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert list(own_files.by_split(saved)) == ["train", "test"]
    assert names(own_files.by_split(saved / "test")) == {"train": ["data-00000-of-00001.arrow"]}
    command = ["data", "prepare", "mine", "--source", str(saved), "--data-dir", str(tmp_path)]
    assert cli.main(command) == 0
    assert "train 3, test 1" in capsys.readouterr().out


def test_directories_with_parts_and_a_folder_for_data(tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        (tmp_path / "data").mkdir(exist_ok=True)
        parquet_file(tmp_path / "data" / f"{name}.parquet", prompt=[name])
    (tmp_path / "README.md").write_text("a repository of the hub")
    assert names(own_files.by_split(tmp_path)) == {
        "test": ["test-00000-of-00001.parquet"],
        "train": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
    }
    (tmp_path / "data/train-00000-of-00002.parquet").unlink()
    with pytest.raises(UserError, match="has 1 parts of train, not 2"):
        own_files.by_split(tmp_path)


def test_directories_that_cannot_be_read_give_one_line(tmp_path):
    def faulty(name, message, **files):
        directory = tmp_path / name
        directory.mkdir()
        for file, text in files.items():
            (directory / file.replace("_dot_", ".")).write_text(text)
        with pytest.raises(UserError, match=message) as error:
            own_files.by_split(directory)
        assert "\n" not in str(error.value)

    faulty("empty", r"has no file that ends in .jsonl, .*.csv.*.parquet")
    faulty("twice", "are the same split: keep one", train_dot_jsonl="", train_dot_csv="")
    faulty("all", "'all' cannot be the name of a split", all_dot_jsonl="")
    faulty("state", "has no list '_data_files'", state_dot_json="[]")
    faulty("deep", "nested too deeply", state_dot_json="[" * 100_000)
    files = '{"_data_files": [{"filename": %s}], "_indices_data_files": %s}'
    faulty("up", "'../x' is not the name of a file", state_dot_json=files % ('"../x"', "[]"))
    faulty("null", "None is not the name of a file", state_dot_json=files % ("null", "[]"))
    faulty("indices", "flatten_indices", state_dot_json=files % ('"a"', '[{"filename": "b"}]'))
    faulty("splits", "'..' is not", dataset_dict_dot_json='{"splits": [".."]}')
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: no such file or directory"):
        own_files.by_split(tmp_path / "pipe")


def test_a_directory_that_datasets_saved(tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")
    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "d", num_shards={"train": 2})
    (paths,) = own_files.by_split(tmp_path / "d").values()
    assert [pair for path in paths for pair in texts(path)] == [tuple(r.values()) for r in ROWS]
