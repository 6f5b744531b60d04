"""The user's own JSON lines: records and error messages."""

import gzip
import json

import pytest

from dvaojax.data import jsonl
from dvaojax.data.records import ProblemRecord
from dvaojax.errors import UserError


def written(tmp_path, *lines, name="mine.jsonl"):
    path = tmp_path / name
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return path


def test_string_prompt_becomes_user_message(tmp_path):
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    path = written(
        tmp_path,
        {"prompt": "1 + 1?", "answer": "2", "metadata": {"level": 1}},
        {"prompt": talk, "answer": [{"name": "add", "parameters": {"a": 2}}]},
        {"prompt": "Say something."},
    )
    assert jsonl.read(path) == [
        ProblemRecord(
            ({"role": "user", "content": "1 + 1?"},),
            "2",
            {"source": "mine", "row": 0, "level": 1},
        ),
        ProblemRecord(
            tuple(talk), [{"name": "add", "parameters": {"a": 2}}], {"source": "mine", "row": 1}
        ),
        ProblemRecord(
            ({"role": "user", "content": "Say something."},), None, {"source": "mine", "row": 2}
        ),
    ]


def test_record_round_trip(tmp_path):
    record = ProblemRecord(
        ({"role": "user", "content": "\u2028é\x00"},), str(2**70), {"source": "s"}
    )
    again = jsonl.read(written(tmp_path, record.to_json()))[0]
    assert (again.prompt, again.answer) == (record.prompt, record.answer)
    assert again.metadata == {"source": "s", "row": 0}  # the user's own is not replaced


def test_line_separators_empty_lines_bom_and_gzip(tmp_path):
    line = json.dumps({"prompt": "a\u2028b\x85c"}, ensure_ascii=False).encode()
    path = written(tmp_path, b"\xef\xbb\xbf" + line, b"", b"  ", line + b"\r")
    texts = [record.prompt[0]["content"] for record in jsonl.read(path)]
    assert texts == ["a\u2028b\x85c"] * 2
    packed = tmp_path / "mine.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [record.prompt for record in jsonl.read(packed)] == [
        record.prompt for record in jsonl.read(path)
    ]


def test_large_integer_answer_is_exact(tmp_path):
    assert jsonl.read(written(tmp_path, {"prompt": "?", "answer": 10**30 + 1}))[0].answer == (
        10**30 + 1
    )


GOOD = {"prompt": "?", "answer": "1"}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", r"mine.jsonl:2 is not JSON"),
        (b'["prompt"]', r"mine.jsonl:2 is not a JSON object"),
        (b'{"prompt": NaN}', r"mine.jsonl:2 is not JSON: NaN is not a number"),
        (b'{"prompt": "\xff"}', r"mine.jsonl:2 is not JSON: .*utf-8"),
        (b'{"prompt": "\\ud800"}', r"mine.jsonl:2: .* lone surrogate"),
        (b"[" * 100_000, r"mine.jsonl:2 is not JSON"),
        ({"answer": "1"}, r"mine.jsonl:2: there is no field 'prompt'"),
        ({"prompt": 3}, r"mine.jsonl:2: field 'prompt' is 3, not a list"),
        ({"prompt": []}, r"mine.jsonl:2: 'prompt' has no message"),
        ({"prompt": ["hello"]}, r"mine.jsonl:2: 'prompt'\[0\] is not a message"),
        ({"prompt": [{"role": "user"}]}, r"mine.jsonl:2: 'prompt'\[0\] has no 'content'"),
        ({"prompt": [{"role": "human", "content": ""}]}, r"'prompt'\[0\] has the role 'human'"),
        ({"prompt": [{"role": "assistant", "content": "Hi"}]}, r"ends with an assistant message"),
        ({**GOOD, "answer": 1e22}, r"mine.jsonl:2: field 'answer' is the float 1e\+22"),
        ({**GOOD, "metadata": "x"}, r"mine.jsonl:2: field 'metadata' is \"x\", not an object"),
        ({**GOOD, "anwser": "2"}, r"mine.jsonl:2: field 'anwser' is unknown; .*'answer'"),
    ],
)
def test_malformed_line_names_file_line_and_field(tmp_path, line, complaint):
    with pytest.raises(UserError, match=complaint) as raised:
        jsonl.read(written(tmp_path, GOOD, line))
    assert "\n" not in str(raised.value)


def test_missing_empty_and_truncated_file(tmp_path):
    with pytest.raises(UserError, match=r"absent.jsonl: No such file"):
        jsonl.read(tmp_path / "absent.jsonl")
    with pytest.raises(UserError, match="has no record"):
        jsonl.read(written(tmp_path, b"\n"))
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(json.dumps(GOOD).encode())[:-10])
    with pytest.raises(UserError, match=r"cut.jsonl.gz: "):
        jsonl.read(cut)
