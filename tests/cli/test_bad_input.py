"""Foreseeable mistakes in every subcommand: one line, exit code 1 or 2, and nothing written."""

import json

import pytest
from tiny_run import TINY

from dvaojax import cli
from dvaojax.config import Config, overrides
from dvaojax.run import directory as run_directory

PLAIN = "import dataclasses\nfrom dvaojax.config import Config\n"
TASK = """
from dvaojax.tasks.arithmetic import Arithmetic
from dvaojax.types import Prompt

@dataclasses.dataclass(frozen=True)
class Sums(Arithmetic):
    more: object = None

    def prompts(self, split):
        return [Prompt("1+2=\N{PILE OF POO}", "3", i) for i in range(64)]

def get_config():
    return Config(name="sums", task=Sums())
"""
SWEEP = """
from dvaojax.sweep import Sweep

def get_sweep():
    return Sweep(
        "few", Config(), {"plain": ()}, {"dvao": (), "gdpo": ("aggregator=gdpo",)},
        {"even": ()}, (0,), against="dvao", only={}, expected={},
    )
"""
FILES = {
    "notes.txt": "not a program",
    "folder/file": "",
    "syntax.py": "def (:",
    "zero.py": "\0",
    "latin.py": b"x = '\xe9'",
    "imports.py": "import nowhere_at_all",
    "exits.py": "import sys; sys.exit(0)",
    "raises.py": "def get_config():\n    return {}['x']\nget_sweep = get_config",
    "exits_later.py": "def get_config():\n    raise SystemExit(3)\nget_sweep = get_config",
    "recursion.py": "def get_config():\n    return get_config()\nget_sweep = get_config",
    "lists.py": "def get_config():\n    return [1]\nget_sweep = get_config",
    "weights.py": PLAIN + "def get_config():\n    return Config(weights=[1.0, 0.5])",
    "sums.py": PLAIN + TASK,
    "runs/deep/config.json": '{"a":' * 5000 + "1" + "}" * 5000,
    "runs/levels/config.json": '{"config":' + '{"a":' * 300 + "1" + "}" * 301,
    "runs/empty/config.json": "",
    "runs/binary/config.json": b"\xff\xfe\0",
    "runs/list/config.json": "[]",
    "runs/numbers/config.json": '{"config": 3, "starts": 4}',
    "sweeps/list/sweep.json": "[]",
    "sweeps/part/sweep.json": '{"sweep": {}, "starts": []}',
    "rows/good.jsonl": '{"prompt": "a", "answer": "b"}\n',
    "rows/cut.jsonl": '{"prompt": "a"\n',
    "rows/binary.jsonl": b"\xff\xfe\0",
    "rows/empty.jsonl": "",
    "rows/number.jsonl": "3\n",
    "rows/deep.jsonl": '{"prompt":' + "[" * 100_000,
    "rows/gz.jsonl.gz": b"\x1f\x8b\x08broken",
    "rows/table.parquet": b"PAR1xxx",
}
METRICS = {
    "metrics_empty": "",
    "metrics_binary": b"\xff\xfe\n\xff\n",
    "metrics_text": "hello\n",
    "metrics_string": '{"step": 1, "reward/a": "x"}\n',
    "metrics_list": '{"step": 1, "reward/a": [1]}\n',
    "metrics_deep": '{"step": 1, "a":' + "[" * 100_000 + "\n",
    "metrics_number": '{"step": 1' + "0" * 5000 + "}\n",
}
SUMMARIES = {
    "summary_list": "[]",
    "summary_string": '{"before": "x"}',
    "summary_part": '{"after": {"a": {"mean": 1}}}',
}

# Command -> words of its line.
MISTAKES = {
    "train folder": "there is no experiment file folder",
    "train notes.txt": "notes.txt is not a Python file",
    "train syntax.py": "syntax.py:1: invalid syntax",
    "train zero.py": "zero.py: ",
    "train latin.py": "latin.py:1: (unicode error)",
    "train imports.py": "imports.py:1: ModuleNotFoundError: No module named 'nowhere_at_all'",
    "train exits.py": "exits.py:1: SystemExit: 0",
    "train exits_later.py": "exits_later.py:2: SystemExit: 3",
    "train raises.py": "raises.py:2: KeyError: 'x'",
    "train recursion.py": "recursion.py:2: RecursionError",
    "train lists.py": "get_config() returned [1], not a configuration",
    "train weights.py": "weights=[1.0, 0.5] is a list: write weights={'accuracy': 1.0",
    "train sums.py --set warm_start.num_steps=0 learning.micro_batches=1": "prompt 0: Charac",
    "train --name a/b": "name='a/b' is not a valid name of a directory",
    "train --resume=atuo": "--resume does not accept 'atuo', only --resume or --resume=auto",
    "train --smoke=1": "--smoke does not accept '1', only --smoke",
    "train --set learning.micro_batches=1 compilation_cache=notes.txt/x": "notes.txt/x",
    "train --runs s3://bucket/runs": "--runs: s3://bucket/runs is neither a path nor in a bucket",
    "train --runs gs:///runs": "--runs: gs:///runs is neither a path nor in a bucket",
    "train --set seed=100000000000": "seed=100000000000 must be below 2**32",
    "train --set optimizer.learning_rate=nan": "learning_rate",
    "train --set sampling.temperature=-1": "temperature",
    "train --set model.width=0": "model",
    "train --set learning.micro_batches=1 model.attention=cudnn": "'cudnn' cannot be used",
    "train --set learning.micro_batches=1 model.decode_attention=cudnn": "'cudnn' does not",
    "train --set model.num_heads=3": "num_heads",
    "train --set mesh.data=0": "mesh",
    "train --set weights.accuracy=1e999": "weights.accuracy=inf is not a finite number",
    "train --set weights.accuracy=0 weights.brevity=0 weights.format=0": "at least one must be",
    "train --set warm_start.batch_size=0": "warm_start",
    "train --set task.num_train=0": "num_train",
    "train --set pretrained=folder": "folder",
    "train --set loss=nothing": "unknown loss 'nothing'",
    "train --set allocation=nothing": "nothing",
    "train --set aggregator=exits.py:f": "exits.py",
    "train --set aggregator=nowhere_at_all:f": "there is no module nowhere_at_all",
    "train --set learning.epochs=0": "learning.epochs=0",
    "evaluate": "the following arguments are required: RUN_OR_CHECKPOINT",
    "evaluate notes.txt": "notes.txt",
    "evaluate folder": "folder is not a run: it has no config.json",
    "evaluate runs/deep": "is not JSON: it is nested too deeply",
    "evaluate runs/levels": "is nested more than 100 levels deep",
    "evaluate runs/empty": "is not JSON",
    "evaluate runs/binary": "is not JSON",
    "evaluate runs/list": "was not written by dvaojax",
    "evaluate runs/numbers": "was not written by dvaojax",
    "evaluate runs/tiny": "there is no checkpoint",
    "evaluate runs/tiny --samples -1": "samples=-1 must be at least 1",
    "evaluate runs/tiny --experiment exits.py": "exits.py:1: SystemExit: 0",
    "evaluate runs/tiny --experiment folder": "there is no experiment file folder",
    "sweep": "the following arguments are required: SWEEP.py",
    "evaluate s3://bucket/runs/tiny": "s3://bucket/runs/tiny is neither a path nor in a bucket",
    "export runs/tiny gs://bucket/out": "gs://bucket/out is an address, not a path",
    "sweep few.py --out s3://bucket/out": "s3://bucket/out is neither a path nor in a bucket",
    "sweep folder": "there is no experiment file folder",
    "sweep exits_later.py": "exits_later.py:2: SystemExit: 3",
    "sweep lists.py": "returned [1]",
    "sweep weights.py": "it has no function get_sweep()",
    "sweep few.py --processes 0": "0 is not a whole number of at least 1",
    "sweep few.py --out folder": "folder exists and is not a sweep",
    "sweep few.py --out notes.txt/x": "a part of the path is a file",
    "sweep few.py --out /proc/nope": "/proc/nope cannot be written",
    "sweep few.py --out sweeps/list": "sweep.json was not written by dvaojax",
    "sweep few.py --out sweeps/part": "sweep.json was not written by dvaojax",
    "sweep few.py --report --out nothing": "no cell of the sweep is finished",
    "plot": "the following arguments are required: RUN",
    "plot notes.txt": "notes.txt is not a run",
    "plot runs/metrics_empty": "has nothing to plot yet",
    "plot runs/metrics_binary": "metrics.jsonl:1 is not a JSON object with a step",
    "plot runs/metrics_text": "metrics.jsonl:1 is not a JSON object with a step",
    "plot runs/metrics_string": "reward/a of step 1 is 'x', not a number",
    "plot runs/metrics_list": "reward/a of step 1 is [1], not a number",
    "plot runs/metrics_deep": "metrics.jsonl",
    "plot runs/metrics_number": "metrics.jsonl:1 is not a JSON object with a step",
    "plot runs/summary_list": "is not a summary of a run",
    "plot runs/summary_string": "'before' is not an evaluation",
    "plot runs/summary_part": "'a' of 'after' is not a mean with its interval",
    "plot runs/tiny --objectives x y": "no run has the objective x",
    "report": "the following arguments are required: RUN",
    "report folder": "folder is not a run",
    "report runs/levels": "is nested more than 100 levels deep",
    "report runs/numbers": "was not written by dvaojax",
    "report runs/tiny --out folder": "folder is a folder",
    "report runs/tiny --out nothing/x.html": "there is no folder nothing",
    "report runs/tiny --out notes.txt": "notes.txt is not a report",
    "export runs/tiny": "the following arguments are required: DIR",
    "export folder out": "folder is not a run",
    "export runs/tiny folder": "folder exists and is not overwritten",
    "export runs/tiny out --dtype int8": "invalid choice: 'int8'",
    "data": "the following arguments are required: ACTION",
    "data prepare": "the following arguments are required: NAME",
    "data prepare nothing": "there is no published dataset 'nothing'",
    "data prepare mine --source nothing": "nothing: no such file or directory",
    "data prepare mine --source folder": "folder",
    "data prepare mine --source rows/cut.jsonl": "rows/cut.jsonl:1 is not JSON",
    "data prepare mine --source rows/binary.jsonl": "rows/binary.jsonl",
    "data prepare mine --source rows/empty.jsonl": "rows/empty.jsonl has no record",
    "data prepare mine --source rows/number.jsonl": "rows/number.jsonl:1",
    "data prepare mine --source rows/deep.jsonl": "rows/deep.jsonl",
    "data prepare mine --source rows/gz.jsonl.gz": "rows/gz.jsonl.gz",
    "data prepare mine --source rows/table.parquet": "rows/table.parquet",
    "data prepare MINE --source rows/good.jsonl": "'MINE' is not a valid dataset name",
    "data prepare mine --source rows/good.jsonl --data-dir notes.txt": "notes.txt",
    "data prepare mine --source rows/good.jsonl --data-dir /proc/nope": "/proc/nope",
    "plan": "the following arguments are required: --topology",
    "plan --topology v5p:2x2x1 --experiment exits.py": "exits.py:1: SystemExit: 0",
    "plan --topology v9:2x2 --model qwen3-8b --prompt-length 8 --completion-length 8": "v9",
    "plan --topology v5e:4x4 --model nothing --prompt-length 8 --completion-length 8": "nothing",
    "methods nothing": "unknown method 'nothing'",
    "methods exits.py:f": "exits.py:1: SystemExit: 0",
    "methods lists.py:nothing": "lists.py has no function 'nothing'",
    "methods :f": "write file.py:function or package.module:function",
    "methods --markdown x": "invalid choice: 'x'",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, with a run that was not trained and with files that are damaged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    written = {**FILES, "few.py": PLAIN + SWEEP}
    config = overrides.apply(Config(name="tiny"), TINY)
    for name in ("tiny", *METRICS, *SUMMARIES):
        run_directory.create(tmp_path / "runs" / name, config)
        row = METRICS.get(name, json.dumps({"step": 1, "reward/a": 0.5, "reward/b": 0.5}) + "\n")
        written[f"runs/{name}/metrics.jsonl"] = row
        if name in SUMMARIES:
            written[f"runs/{name}/summary.json"] = SUMMARIES[name]
    for name, content in written.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


def test_every_mistake_gives_one_line_and_writes_nothing(here, capsys):
    def contents():
        return {path: path.read_bytes() if path.is_file() else None for path in here.rglob("*")}

    before, wrong = contents(), []
    for command, words in MISTAKES.items():
        code = cli.main(command.split())
        printed = capsys.readouterr()
        if (
            code not in (1, 2)
            or printed.out
            or printed.err.count("\n") != 1
            or words not in printed.err
            or "traceback" in printed.err
            or contents() != before
        ):
            wrong.append(f"{command}: {code} {printed.err!r}")
    assert not wrong, "\n".join(wrong)
