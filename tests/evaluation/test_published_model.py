"""`dvaojax evaluate` on a published model: a tiny checkpoint, a real tokenizer, real rows."""

import json
import shutil

import jax
import pytest
from shared_data import shared

from dvaojax import cli, models
from dvaojax.models import ModelConfig, pretrained
from dvaojax.models.pretrained import configuration

pytestmark = pytest.mark.slow

TOKENIZER = ("tokenizers", "minimind")
DATASETS = ("math500", "aime25")
EVALUATE = ["evaluate", "tiny-model", "--task", "mathematics", "--set", "task.data_dir=prepared"]
FEW = ["evaluation.num_prompts=4", "evaluation.max_new_tokens=6", "task.max_prompt_length=160"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A working directory with a model's files and prepared datasets."""
    workspace = tmp_path_factory.mktemp("published")
    shutil.copytree(shared(*TOKENIZER), workspace / "tiny-model")
    config = ModelConfig(
        vocab_size=6400,
        width=16,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_width=8,
        ff_width=16,
        param_dtype="float32",
    )
    params = models.init(config, jax.random.key(0))
    description = configuration.make_description(config, "tiny-model")
    pretrained.write(workspace / "tiny-model", params, config, description, dtype="bfloat16")
    for name in DATASETS:
        source = ["--source", str(shared(name)), "--data-dir", str(workspace / "prepared")]
        assert cli.main(["data", "prepare", name, *source]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        yield workspace


def test_each_dataset_is_a_category(workspace, capsys):
    command = [*EVALUATE, "task.test=aime25,math500", *FEW, "evaluation.num_prompts=40"]
    assert cli.main([*command, "--out", "result", "--samples", "2"]) == 0
    printed = capsys.readouterr().out
    assert "prompts longer than 160 tokens" in printed
    summary = json.loads((workspace / "result/summary.json").read_text())
    lines = (workspace / "result/completions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    counts = {name: sum(row["category"] == name for row in rows) for name in ("aime25", "math500")}
    assert {n: 2 * c["problems"] for n, c in summary["categories"].items()} == counts
    assert sum(counts.values()) == 80
    assert min(counts.values()) > 0
    assert list(summary["objectives"]["accuracy"]) == ["avg@2", "pass@1", "pass@2", "maj@2"]
    # Random weights: never right, always short enough.
    assert summary["objectives"]["accuracy"]["pass@2"]["mean"] == 0.0
    assert summary["objectives"]["length"]["avg@2"]["mean"] == 1.0
    assert summary["length"]["mean"] <= 6.0


def test_default_directory_depends_on_the_weights(workspace):
    assert cli.main([*EVALUATE, *FEW]) == 0
    [directory] = (workspace / "evaluations").iterdir()
    assert directory.name.startswith("mathematics-tiny-model-")
    # Other weights under the same name are another policy.
    weights = workspace / "tiny-model/model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-2] + b"\x00\x00")
    assert cli.main([*EVALUATE, *FEW]) == 0
    assert len(list((workspace / "evaluations").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "tiny-model"], "tiny-model is a published model: choose its task"),
        ([*EVALUATE, "--step", "3"], "--step applies to runs, and tiny-model is a published"),
        ([*EVALUATE, "--experiment", "x.py"], "--experiment applies to runs"),
        ([*EVALUATE, "task.test=amc23"], "dvaojax data prepare amc23"),
        ([*EVALUATE, "num_steps=3"], "num_steps is a setting of the training; evaluate can set"),
        ([*EVALUATE, "model.num_layers=2"], "model.num_layers=2"),
        ([*EVALUATE, "task.thinking=maybe"], "'maybe' is not one of default, on, off"),
        (["evaluate", "tiny-model", "--task", "arithmetic"], "have different tokenizers"),
        (["evaluate", "owner/missing", "--task", "mathematics"], "owner/missing"),
    ],
)
def test_errors_are_one_line(workspace, capsys, monkeypatch, arguments, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = sorted(workspace.rglob("*"))
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(workspace.rglob("*")) == before
