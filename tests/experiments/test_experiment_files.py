"""Experiment files: docstrings, consistency, and miniature runs with real rows and tokenizer."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from comparing_judge import verdict
from judge_server import JudgeServer, grade
from shared_data import shared
from tiny_preferences import RUBRIC, preferences

from dvaojax import cli
from dvaojax.config import Config, overrides
from dvaojax.models.presets import PRESETS
from dvaojax.tasks.rubrics import Rubrics

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCRIPTS = {
    "bandit.py",
    "gradient_variance.py",
    "minimal_loop.py",
    "plan_table.py",
    "scale.py",
    "regimes.py",
    "rubric_arm.py",
}  # no configurations; tested elsewhere
FILES = sorted({path.name for path in EXPERIMENTS.glob("*.py")} - SCRIPTS)
EMBEDDED = {  # on the built-in task
    "arithmetic.py",
    "shootout.py",
    "tension.py",
    "vpo_arithmetic.py",
    "wrong_labels.py",
}
# Settings that select the datasets of an experiment that the tests have.
ROWS = {
    "dvao_mathematics_4b.py": ["task.test=math500,aime25,olympiadbench,amc23"],
    "dvao_tools_3b.py": ["task.train=toolrl/sft"],
    "dynamo_mathematics.py": [
        "task.test=math500,aime25,olympiadbench,amc23",
        "model.rope_theta=1000000",  # that of the tests' checkpoints
    ],
    "gdpo_gsm8k.py": [],
    "qwen3_gsm8k.py": [],
    "rubric_arm_judge.py": ["task.train=preferences/train", "task.test=preferences/train"],
    "rubric_arm_writer.py": ["task.train=preferences/train", "task.test=preferences/train"],
    "rvpo_healthbench.py": ["task.judge.cache="],
    "rvpo_tools.py": ["task.train=toolrl/sft"],
}
# Their miniatures equal those of other files, from which they differ only in the policy.
SAME = {"dvao_mathematics_8b.py": "dvao_mathematics_4b.py", "dvao_tools_7b.py": "dvao_tools_3b.py"}
DATASETS = (
    "gsm8k", "dapo_math_17k", "math500", "aime25", "olympiadbench", "amc23", "toolrl", "bfcl",
    "healthbench",
)  # fmt: skip


def published(name: str) -> dict[str, tuple[float, ...]]:
    """The rows of the table in an experiment's docstring."""
    docstring = (EXPERIMENTS / name).read_text().split('"""')[1]
    rows = [line.strip("|").split("|") for line in docstring.splitlines() if line.startswith("| ")]
    cells = {row[0].strip(): "/".join(row[1:]).split("/") for row in rows[1:]}
    return {method: tuple(float(cell) for cell in row) for method, row in cells.items()}


@pytest.mark.parametrize("name", FILES)
def test_docstring_has_claim_command_needs_and_result(name):
    docstring = (EXPERIMENTS / name).read_text().split('"""')[1]
    for part in ("Claim under test", f"dvaojax train experiments/{name}", "Needs:", "Result:"):
        assert part in docstring, part


@pytest.mark.parametrize("name", FILES)
def test_weights_match_objectives_and_batches_divide(name):
    for function in ("get_config", "get_smoke_config"):
        config = overrides.load_experiment(EXPERIMENTS / name, function=function)
        assert isinstance(config, Config)
        assert set(config.weights) == set(config.objectives)
        pieces = config.learning.mini_batches * config.learning.micro_batches
        assert config.prompts_per_step % pieces == 0


@pytest.mark.parametrize("name", sorted(set(FILES) - EMBEDDED))
def test_policy_matches_its_preset_and_tokenizer(name):
    config = overrides.load_experiment(EXPERIMENTS / name)
    chosen = {name: getattr(config.model, name) for name in ("logits_chunk", "remat", "layer_loop")}
    (preset,) = (
        key
        for key, known in PRESETS.items()
        if dataclasses.replace(known, **chosen) == config.model
    )
    assert preset in config.pretrained.lower()
    assert config.task.tokenizer.path == config.pretrained


@pytest.mark.parametrize("name", ["dvao_mathematics_4b.py", "dvao_mathematics_8b.py"])
def test_means_of_the_published_table_match_its_columns(name):
    for method, (*columns, accuracy, brevity) in published(name).items():
        assert sum(columns[::2]) / 5 == pytest.approx(accuracy, abs=0.011), method
        assert sum(columns[1::2]) / 5 == pytest.approx(brevity, abs=0.011), method


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("prepared")
    for name in DATASETS:
        source = str(shared(name))
        assert (
            cli.main(["data", "prepare", name, "--source", source, "--data-dir", str(directory)])
            == 0
        )
    preferences(directory, rubric=RUBRIC)
    return directory


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Checkpoints of the miniature's shape, written by `transformers`, with a real tokenizer."""
    transformers = pytest.importorskip("transformers")
    policies = tmp_path_factory.mktemp("policies")
    shape = {
        "vocab_size": 6400,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    }
    families = {
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, {"head_dim": 8}),
        "qwen2.5": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM, {}),
    }
    for family, (config, model, more) in families.items():
        for tied in (True, False):
            directory = policies / f"{family}-{'tied' if tied else 'untied'}"
            described = config(**shape, **more, tie_word_embeddings=tied)
            model(described).save_pretrained(directory)
            for file in shared("tokenizers", "minimind").iterdir():
                shutil.copy(file, directory)
    return policies


@pytest.fixture(scope="module")
def judge():
    """A judge that reports every criterion as met and prefers every first response."""
    pytest.importorskip("httpx")

    def act(number, request):
        is_comparison = "Verdict:" in request["messages"][-1]["content"]
        return verdict("A") if is_comparison else grade(met=True)

    with JudgeServer(act) as server:
        yield server.url


@pytest.mark.nightly
@pytest.mark.parametrize("name", ROWS)
def test_runs_in_miniature_from_a_checkpoint_on_real_rows(
    name, data_dir, policies, judge, tmp_path, monkeypatch
):
    experiment = overrides.load_experiment(EXPERIMENTS / name)
    family = "qwen3" if experiment.model.qk_norm else "qwen2.5"
    policy = policies / f"{family}-{'tied' if experiment.model.tied_head else 'untied'}"
    monkeypatch.chdir(tmp_path)
    settings = [
        f"pretrained={policy}",
        f"task.tokenizer.path={policy}",
        f"task.data_dir={data_dir}",
        "model.vocab_size=6400",
        *ROWS[name],
        *([f"task.judge.url={judge}"] if hasattr(experiment.task, "judge") else []),
    ]
    assert cli.main(["train", str(EXPERIMENTS / name), "--smoke", "--set", *settings]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    for evaluation in (summary["before"], summary["after"]):
        assert set(experiment.objectives) <= set(evaluation)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        for objective in experiment.objectives:
            reward = row[f"reward/{objective}"]
            # Some rubric items apply to no conversation of a step.
            applies = reward is not None or isinstance(experiment.task, Rubrics)
            assert applies
            assert reward is None or -3.0 <= reward <= 3.0
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert all("<|im_start|>" in sample["prompt"] for sample in samples)
    recorded = json.loads((run / "config.json").read_text())["config"]
    assert recorded["task"]["tokenizer"]["path"] == str(policy)
    assert (
        dataclasses.asdict(experiment.task)["max_prompt_length"]
        == (recorded["task"]["max_prompt_length"])
    )


def test_every_experiment_has_a_miniature_run():
    """The tests of the README run the experiments on the built-in task."""
    assert set(FILES) == {*EMBEDDED, *ROWS, *SAME}
    for name, other in SAME.items():
        left, right = (
            overrides.load_experiment(EXPERIMENTS / file, function="get_smoke_config")
            for file in (name, other)
        )
        changed = {
            field.name
            for field in dataclasses.fields(Config)
            if getattr(left, field.name) != getattr(right, field.name)
        }
        assert changed <= {"name", "model", "pretrained", "task", "mesh"}, name
