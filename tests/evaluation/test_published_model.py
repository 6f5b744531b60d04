"""`dvaojax evaluate` on a published model: a tiny checkpoint, a real tokenizer, real rows."""

import json
import shutil

import jax
import pytest
from shared_data import shared
from tiny_run import compiled_once

from dvaojax import cli, models
from dvaojax.models import ModelConfig, pretrained
from dvaojax.models.pretrained import configuration

TOKENIZER = ("tokenizers", "minimind")
SETS = ("math500", "aime25")
EVALUATE = ["evaluate", "tiny-model", "--task", "mathematics", "--set", "task.data_dir=prepared"]
FEW = ["evaluation.num_prompts=4", "evaluation.max_new_tokens=6", "task.max_prompt_length=160"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory of a model's files beside prepared sets; it is the working directory."""
    place = tmp_path_factory.mktemp("published")
    shutil.copytree(shared(*TOKENIZER), place / "tiny-model")
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
    pretrained.write(place / "tiny-model", params, config, description, dtype="bfloat16")
    for name in SETS:
        source = ["--source", str(shared(name)), "--data-dir", str(place / "prepared")]
        assert cli.main(["data", "prepare", name, *source]) == 0
    compiled = tmp_path_factory.getbasetemp() / "compiled"
    with pytest.MonkeyPatch.context() as patch, compiled_once(compiled):
        patch.chdir(place)
        yield place


def test_each_set_is_a_category(place, capsys):
    command = [*EVALUATE, "task.test=aime25,math500", *FEW, "evaluation.num_prompts=40"]
    assert cli.main([*command, "--out", "found", "--samples", "2"]) == 0
    printed = capsys.readouterr().out
    assert "prompts longer than 160 tokens" in printed
    found = json.loads((place / "found/summary.json").read_text())
    lines = (place / "found/completions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    counts = {name: sum(row["category"] == name for row in rows) for name in ("aime25", "math500")}
    assert {n: 2 * c["problems"] for n, c in found["categories"].items()} == counts
    assert sum(counts.values()) == 80
    assert min(counts.values()) > 0
    assert list(found["objectives"]["accuracy"]) == ["avg@2", "pass@1", "pass@2", "maj@2"]
    # Random weights: never right, always short.
    assert found["objectives"]["accuracy"]["pass@2"]["mean"] == 0.0
    assert found["objectives"]["length"]["avg@2"]["mean"] == 1.0
    assert found["length"]["mean"] <= 6.0


def test_it_is_kept_beside_the_working_directorys_other_evaluations(place):
    assert cli.main([*EVALUATE, *FEW]) == 0
    [directory] = (place / "evaluations").iterdir()
    assert directory.name.startswith("mathematics-tiny-model-")
    # Other weights of the same name are another policy.
    weights = place / "tiny-model/model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-2] + b"\x00\x00")
    assert cli.main([*EVALUATE, *FEW]) == 0
    assert len(list((place / "evaluations").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["evaluate", "tiny-model"], "tiny-model is a published model: choose its task"),
        ([*EVALUATE, "--step", "3"], "--step applies to runs, and tiny-model is a published"),
        ([*EVALUATE, "--experiment", "x.py"], "--experiment applies to runs"),
        ([*EVALUATE, "task.test=amc23"], "dvaojax data prepare amc23"),
        ([*EVALUATE, "num_steps=3"], "num_steps is a setting of the training; evaluate can set"),
        ([*EVALUATE, "model.num_layers=2"], "model.num_layers=2"),
        ([*EVALUATE, "task.thinking=maybe"], "'maybe' is not one of default, on, off"),
        (["evaluate", "tiny-model", "--task", "arithmetic"], "have different tokenizers"),
        (["evaluate", "nobody/nothing", "--task", "mathematics"], "nobody/nothing"),
    ],
)
def test_a_mistake_is_answered_in_one_line(place, capsys, monkeypatch, arguments, answer):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = sorted(place.rglob("*"))
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert answer in said
    assert said.count("\n") == 1
    assert sorted(place.rglob("*")) == before
