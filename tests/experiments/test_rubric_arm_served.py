"""Rubric-ARM end to end: two rounds in which a tiny model's exports are served and trained."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import rubric_arm
import serve_export
from tiny_preferences import free_port
from tiny_rubric_arm import SHAPE, TOPICS, make, row

from dvaojax import cli, files
from dvaojax.data.records import ProblemRecord, user
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.rewards.preferences import comparison_question, read_rubric_text, read_verdict
from dvaojax.tasks.preferences import read_preference

pytestmark = [pytest.mark.slow, pytest.mark.nightly]


def data(directory):
    """Preferences about some topics to train on, and about others to evaluate."""
    source = directory / "source"
    source.mkdir()
    for split, topics in (("train", TOPICS[:12]), ("test", TOPICS[12:])):
        rows = "".join(json.dumps(row(topic)) + "\n" for topic in topics)
        (source / f"{split}.jsonl").write_text(rows)
    command = ["data", "prepare", "preferences", "--source", str(source), "--columns"]
    assert cli.main([*command, "prompt=prompt", "--data-dir", str(directory)]) == 0


def arguments(directory, base, port):
    """The command line of two short rounds of a tiny model."""
    both = {
        "pretrained": base,
        "task.tokenizer.path": base,
        "model.vocab_size": PretrainedTokenizer(str(base)).vocab_size,
        "model.width": SHAPE["hidden_size"],
        "model.ff_width": SHAPE["intermediate_size"],
        "model.num_layers": SHAPE["num_hidden_layers"],
        "model.num_heads": SHAPE["num_attention_heads"],
        "model.num_kv_heads": SHAPE["num_key_value_heads"],
        "model.head_width": SHAPE["head_dim"],
        "model.compute_dtype": "float32",
        "model.remat": "none",
        "task.max_prompt_length": 320,
        "max_new_tokens": 48,
        "num_steps": 8,
        "prompts_per_step": 8,
        "group_size": 8,
        "pipeline_depth": 0,
        "rollout_stages": 1,
        "learning.micro_batches": 1,
        "optimizer.learning_rate": 5e-4,
        "evaluation.num_prompts": 4,
        "evaluation.samples": 8,
    }
    serve = f"{sys.executable} {serve_export.__file__} {{model}} {{name}} {{port}}"
    writer = [f"task.data_dir={directory}", "task.judge.max_tokens=48", "samples_per_step=64"]
    return [
        str(directory / "out"), "--serve", serve, "--port", str(port), "--rounds", "2",
        "--set", *(f"{key}={value}" for key, value in both.items()),
        "--set-writer", *writer,
    ]  # fmt: skip


def test_two_rounds_of_a_tiny_model_that_serves_its_exports(tmp_path, monkeypatch, capsys):
    """Prints what both policies achieve; rewards equal the verdicts of the exports themselves."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    base, out = tmp_path / "base", tmp_path / "out"
    make(base, steps=350)
    data(tmp_path)
    script = Path(rubric_arm.__file__)
    command = [sys.executable, str(script), *arguments(tmp_path, base, free_port())]
    subprocess.run(command, check=True)
    for number in (1, 2):
        for role in ("judge", "writer"):
            run = out / "runs" / f"{role}-{number}"
            weights = out / f"{role}-{number - 1}" if number > 1 else base
            assert files.read_json(run / "config.json")["config"]["pretrained"] == str(weights)
            summary = files.read_json(run / files.SUMMARY)
            rewards = {
                name: [round(summary[when][name]["mean"], 3) for when in ("before", "after")]
                for name in ("accuracy", "format")[: 2 if role == "judge" else 1]
            }
            with capsys.disabled():
                print(f"\n{run.name}: {rewards}")
        check_verdicts(out, number)


def check_verdicts(out, number):
    """Rewards of a writer are those of the verdicts of the judge exported before."""
    export = serve_export.Model(str(out / f"judge-{number}"))
    samples = files.read_json_lines(out / "runs" / f"writer-{number}" / files.SAMPLES)
    checked = {0.0: 0, 1.0: 0}
    for sample in samples[:64]:
        rubric, reward = read_rubric_text(sample["completion"]), sample["rewards"]["accuracy"]
        if rubric is None or reward is None:
            continue
        topic = re.search(r"about (.*?)\.", sample["prompt"])[1]
        columns = {"source": "tiny", "row": 0, **row(topic)}
        known = read_preference(ProblemRecord(user(columns["prompt"]), None, columns))
        question = comparison_question(dataclasses.replace(known.comparison, rubric=rubric))
        answer = export.answer({"messages": question, "temperature": 0.0, "max_tokens": 48})
        assert reward == (read_verdict(answer) == known.preferred)
        checked[reward] += 1
    assert sum(checked.values()) > 32
