"""Preparation of datasets: atomic, idempotent, and without TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from shared_data import shared

from dvaojax import cli
from dvaojax.data import jsonl, prepared, preparing, sources
from dvaojax.data.builders import RecordBuilder
from dvaojax.errors import UserError


@pytest.fixture
def own(tmp_path):
    """The user's own dataset, with texts and numbers that are easily corrupted."""
    texts = ["plain", "é 中文 🙂", "a\u2028b\x85c\x00d", "line\nline", '{"json": "inside"}', ""]
    lines = [
        {"prompt": text, "answer": str(2**70 + i), "metadata": {"big": 2**63 + i, "none": None}}
        for i, text in enumerate(texts)
    ]
    lines.append(
        {
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
            "answer": [{"name": "f", "parameters": {"x": 0.1, "y": [True, None]}}],
        }
    )
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def tree(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_reads_what_was_prepared(own, tmp_path):
    done = preparing.prepare("mine", source=own, data_dir=tmp_path / "sets")
    assert (done.is_new, done.splits, done.absent) == (True, {"train": 7}, ())
    records = prepared.read("mine", "train", data_dir=tmp_path / "sets")
    written = jsonl.read(own)
    assert list(records) == written
    assert len(records) == 7
    assert records[-1] == written[-1]
    assert records[2:5] == written[2:5]
    with pytest.raises(IndexError):
        records[7]


def test_directory_has_one_split_per_file(own, tmp_path):
    (tmp_path / "held").mkdir()
    for split in ("train", "test"):
        (tmp_path / "held" / f"{split}.jsonl").write_bytes(own.read_bytes())
    preparing.prepare("mine", source=tmp_path / "held", data_dir=tmp_path)
    train, test = (prepared.read("mine", split, data_dir=tmp_path) for split in ("train", "test"))
    assert list(train) == list(test)
    assert train[0].metadata["source"] == "mine"


def test_preparing_twice(own, tmp_path):
    first = preparing.prepare("mine", source=own, data_dir=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in first.path.iterdir()}
    again = preparing.prepare("mine", source=own, data_dir=tmp_path)
    assert again == first._replace(is_new=False)
    assert {path: path.stat().st_mtime_ns for path in first.path.iterdir()} == before
    own.write_text('{"prompt": "another"}\n')
    with pytest.raises(UserError, match=r"from another file than .*mine.jsonl: --overwrite"):
        preparing.prepare("mine", source=own, data_dir=tmp_path)


def test_overwrite_replaces_what_was_prepared(own, tmp_path, capsys):
    sets = ["--data-dir", str(tmp_path / "sets")]
    command = ["data", "prepare", "mine", "--source", str(own), *sets]
    assert cli.main(command) == 0
    own.write_text('{"prompt": "another"}\n')
    before = tree(tmp_path)
    assert cli.main(command) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert cli.main([*command, "--overwrite"]) == 0
    assert "mine is prepared in" in capsys.readouterr().out
    assert tree(tmp_path) == before
    (record,) = prepared.read("mine", "train", data_dir=tmp_path / "sets")
    assert record.prompt[0]["content"] == "another"
    # A row that cannot be read leaves the earlier dataset.
    own.write_text("{")
    assert cli.main([*command, "--overwrite"]) == 2
    assert tree(tmp_path) == before
    assert len(prepared.read("mine", "train", data_dir=tmp_path / "sets")) == 1


def test_columns_and_files_are_part_of_what_was_prepared(tmp_path, capsys):
    source = tmp_path / "source"
    source.mkdir()
    for split in ("train", "test"):
        (source / f"{split}.csv").write_text("question,answer,level\n1+1?,2,easy\n")
    command = ["data", "prepare", "mine", "--data-dir", str(tmp_path / "sets"), "--source"]
    columns = ["--columns", "prompt=question", "answer=answer"]
    assert cli.main([*command, str(source)]) == 2
    assert "did you mean 'prompt'? Rename it, or add --columns prompt=question answer=answer" in (
        capsys.readouterr().err
    )
    assert cli.main([*command, str(source), *columns]) == 0
    (record,) = prepared.read("mine", "test", data_dir=tmp_path / "sets")
    assert (record.prompt[0]["content"], record.answer) == ("1+1?", "2")
    assert record.metadata == {"source": "mine", "row": 0, "level": "easy"}
    assert cli.main([*command, str(source), *columns]) == 0
    capsys.readouterr()
    for arguments, message in (
        ([str(source), "--columns", "prompt=question", "answer=level"], "with other columns"),
        ([str(source / "train.csv"), *columns], "from more files than these"),
        ([str(source), "--columns", "question=prompt"], "question=prompt is not prompt=COLUMN"),
        ([str(source), "--columns", "prompt="], "prompt= is not prompt=COLUMN"),
    ):
        assert cli.main([*command, *arguments]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["data", "prepare", "gsm8k", *columns]) == 2
    assert "--columns is for your own data" in capsys.readouterr().err


def test_malformed_row_leaves_no_files(own, tmp_path):
    with own.open("a") as file:
        file.write('{"prompt": "?", "answer": 1.5}\n')
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"mine.jsonl:8: field 'answer' is the float 1.5"):
        preparing.prepare("mine", source=own, data_dir=tmp_path / "a" / "b")
    assert tree(tmp_path) == before


def test_full_disk_leaves_no_files(own, tmp_path, monkeypatch):
    def generate(self, records):
        yield 0, {"prompt": "[]", "answer": "0", "metadata": "{}"}
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RecordBuilder, "_generate_examples", generate)
    before = tree(tmp_path)
    with pytest.raises((UserError, OSError), match="No space left"):
        preparing.prepare("mine", source=own, data_dir=tmp_path / "sets")
    assert tree(tmp_path) == before


def test_partial_preparation_is_not_a_dataset(own, tmp_path):
    directory = prepared.directory("mine", data_dir=tmp_path)
    directory.mkdir(parents=True)
    (directory / "mine-train.array_record-00000-of-00001").write_bytes(b"half")
    with pytest.raises(UserError, match="mine is not prepared"):
        prepared.read("mine", "train", data_dir=tmp_path)
    preparing.prepare("mine", source=own, data_dir=tmp_path)
    assert len(prepared.read("mine", "train", data_dir=tmp_path)) == 7


@pytest.fixture
def published(monkeypatch):
    """Simulated network of the download manager: URL -> file or error."""
    from tensorflow_datasets.core.download import DownloadManager

    network = {}

    def download(self, urls):
        results = {key: network[url] for key, url in urls.items()}
        for value in results.values():
            if isinstance(value, Exception):
                raise ConnectionError("retried too often") from value
        return results

    monkeypatch.setattr(DownloadManager, "download", download)
    return network


def test_published_dataset_is_checked_against_its_checksums(published, tmp_path):
    files = sources.BY_NAME["gsm8k"].files
    published |= {file.url: shared("gsm8k", file.names[0]) for file in files.values()}
    done = preparing.prepare("gsm8k", data_dir=tmp_path)
    assert done.splits == {"train": 7473, "test": 1319}
    # Local copies of the same files give the same dataset.
    again = preparing.prepare("gsm8k", source=shared("gsm8k"), data_dir=tmp_path)
    assert not again.is_new


def test_refuses_changed_file_at_published_address(published, own, tmp_path):
    for file in sources.BY_NAME["gsm8k"].files.values():
        published[file.url] = own
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"train.jsonl has the SHA-256 [0-9a-f]{64}, not 17f347dc"):
        preparing.prepare("gsm8k", data_dir=tmp_path / "sets")
    assert tree(tmp_path) == before


def test_network_failure_is_one_line_with_the_remedy(published, tmp_path, capsys):
    for file in sources.BY_NAME["math500"].files.values():
        published[file.url] = OSError("Name or service not known")
    sets = str(tmp_path / "sets")
    assert cli.main(["data", "prepare", "math500", "--data-dir", sets]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Name or service not known" in error
    assert "dvaojax data prepare math500 --source FILE_OR_DIRECTORY" in error
    assert tree(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["gsm9k"], "no published dataset 'gsm9k'; did you mean 'gsm8k'"),
        (["My-Set", "--source", "{own}"], "'My-Set' is not a valid dataset name"),
        (["mine", "--source", "{tmp}/absent.jsonl"], "absent.jsonl: no such file"),
        (["mine", "--source", "{tmp}/empty"], "has no file that ends in .jsonl"),
        (["gsm8k", "--source", "{tmp}/empty"], "none of the files of gsm8k: train.jsonl, test"),
        (["gsm8k", "--source", "{own}"], "matches none of the files of gsm8k by name"),
        (["math500", "--source", "{own}"], "mine.jsonl:1: there is no field 'subject'"),
    ],
)
def test_preparation_errors_are_one_line(own, tmp_path, capsys, arguments, complaint):
    (tmp_path / "empty").mkdir()
    written = [argument.format(own=own, tmp=tmp_path) for argument in arguments]
    before = tree(tmp_path)
    sets = str(tmp_path / "sets")
    assert cli.main(["data", "prepare", *written, "--data-dir", sets]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert complaint in error
    assert tree(tmp_path) == before


def test_unprepared_dataset_names_the_command(own, tmp_path):
    with pytest.raises(UserError, match="dvaojax data prepare gsm8k --data-dir"):
        prepared.read("gsm8k", "train", data_dir=tmp_path)
    with pytest.raises(UserError, match=r"dvaojax data prepare mine --source FILE "):
        prepared.read("mine", "train", data_dir=tmp_path)
    preparing.prepare("mine", source=own, data_dir=tmp_path)
    with pytest.raises(UserError, match=r"no split 'test'; the splits prepared .* are train"):
        prepared.read("mine", "test", data_dir=tmp_path)


def test_data_dir_from_environment(own, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    assert cli.main(["data", "prepare", "mine", "--source", str(own)]) == 0
    assert len(prepared.read("mine", "train")) == 7
    assert cli.main(["data", "prepare", "mine", "--source", str(own)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "mine is prepared in" in first
    assert "mine is already prepared in" in second


def test_list_shows_prepared_datasets(tmp_path, capsys):
    preparing.prepare("amc23", source=shared("amc23"), data_dir=tmp_path)
    assert cli.main(["data", "list", "--data-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("amc23" in line and "test 40" in line for line in lines)
    assert any("gsm8k" in line and "none" in line for line in lines)


HIDE = """
import importlib.machinery, sys
class Hidden(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            return None
        return super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Hidden
"""


def run_python(code, *hidden):
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(hidden=hidden) + code], capture_output=True, text=True
    )


def test_prepares_and_reads_without_tensorflow(own, tmp_path):
    code = f"""
from pathlib import Path
from dvaojax.data import prepared, preparing
preparing.prepare("mine", source=Path({str(own)!r}), data_dir={str(tmp_path)!r})
records = prepared.read("mine", "train", data_dir={str(tmp_path)!r})
import tensorflow_datasets as tfds
rows = tfds.builder("mine", data_dir={str(tmp_path)!r}).as_data_source(split="train")
assert len(rows) == len(records) == 7
assert rows[1]["answer"].decode() == '"' + records[1].answer + '"'
print(any(name.partition(".")[0] == "tensorflow" for name in sys.modules))
"""
    done = run_python(code, "tensorflow")
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


def test_list_needs_no_extra(own, tmp_path):
    preparing.prepare("amc23", source=shared("amc23"), data_dir=tmp_path)
    (tmp_path / "gsm8k/1.0.0").mkdir(parents=True)
    (tmp_path / "gsm8k/1.0.0/dataset_info.json").write_text("{}")  # of another program
    code = f"""
from dvaojax import cli
print(cli.main(["data", "list", "--data-dir", {str(tmp_path)!r}]))
"""
    extras = ("tensorflow_datasets", "array_record", "grain", "pyarrow", "transformers")
    done = run_python(code, *extras)
    lines = done.stdout.splitlines()
    assert (done.stderr, lines[-1]) == ("", "0")
    assert any("amc23" in line and "test 40" in line for line in lines)
    assert any("gsm8k" in line and "damaged" in line for line in lines)
    assert any("math500" in line and "none" in line for line in lines)


def test_missing_package_names_its_extra(own, tmp_path):
    preparing.prepare("mine", source=own, data_dir=tmp_path)
    code = f"""
from dvaojax import cli
from dvaojax.data import jsonl, prepared, sources
assert not {{"tensorflow_datasets", "grain", "pyarrow", "jax"}} & set(sys.modules)
print(cli.main(["data", "prepare", "gsm8k", "--data-dir", {str(tmp_path)!r}]))
prepared.read("mine", "train", data_dir={str(tmp_path)!r})
"""
    done = run_python(code, "tensorflow_datasets")
    assert done.stdout == "2\n"
    first, *_, last = done.stderr.splitlines()
    hint = "tensorflow_datasets is not installed: pip install '.[data]' in the checkout of dvaojax"
    assert first == f"dvaojax: {hint}"
    assert hint in last


def test_default_data_dir(monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert prepared.directory("gsm8k") == Path.home() / "tensorflow_datasets" / "gsm8k" / "1.0.0"
