"""A miniature of the user's own data with preferences, and runs of its tasks on the CPU."""

import dataclasses
import json
import socket
from pathlib import Path
from typing import Any

import tokenizer_files

from dvaojax import cli
from dvaojax.config import Config, EvaluationConfig
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models.config import ModelConfig
from dvaojax.rewards.judge import JudgeConfig
from dvaojax.tasks.comparisons import Comparisons
from dvaojax.tasks.rubric_judging import RubricJudging
from dvaojax.tasks.rubric_writing import RubricWriting

RUBRIC = "1. It is polite.\n2. It is short."
TOPICS = ("tea", "rain", "a cat", "the sea", "bread", "chess", "a kite", "snow", "jazz", "a bus")
SHORT_LIMITS = JudgeConfig(
    first_wait_seconds=0.01, timeout_seconds=5.0, attempts=2, batch_seconds=60.0
)


def prepare(directory: Path, name: str, rows: list[dict]) -> dict[str, Any]:
    """Prepares rows as the user's own dataset; returns the fields of a task that reads them."""
    source = directory / f"{name}.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["data", "prepare", name, "--source", str(source), "--data-dir", str(directory)]
    assert cli.main([*command, "--columns", "prompt=prompt"]) == 0
    return {"data_dir": str(directory), "train": f"{name}/train", "test": (f"{name}/train",)}


def free_port() -> int:
    """A port of the loopback interface on which no server listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def tokenizer(directory: Path) -> PretrainedTokenizer:
    """A tokenizer of bytes with a chat template, in a new directory."""
    directory.mkdir()
    path = tokenizer_files.write(
        directory,
        template=tokenizer_files.QWEN2_5,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    return PretrainedTokenizer(path)


def baselines(directory: Path) -> dict[str, Any]:
    """Prompts with a baseline answer and a rubric."""
    rows = [
        {"prompt": f"Say something about {topic}.", "answer": f"I like {topic}.", "rubric": RUBRIC}
        for topic in TOPICS
    ]
    return prepare(directory, "baselines", rows)


def little_run(task, **changes) -> Config:
    """A run of two steps from random weights."""
    config = Config(
        name=task.name,
        task=task,
        weights=dict.fromkeys((*task.objectives, *getattr(task, "scored_objectives", ())), 1.0),
        model=ModelConfig(
            vocab_size=272, width=16, num_layers=1, num_heads=2, num_kv_heads=1, head_width=8,
            ff_width=16, compute_dtype="float32",
        ),
        num_steps=2,
        prompts_per_step=8,
        group_size=2,
        max_new_tokens=8,
        rollout_stages=1,
        learning=LearningConfig(),
        warm_start=WarmStartConfig(num_steps=0, batch_size=8),
        evaluation=EvaluationConfig(num_prompts=8),
    )  # fmt: skip
    return dataclasses.replace(config, **changes)


def comparisons(directory: Path, url: str) -> Comparisons:
    """The task of answers that are compared, with a judge at an address."""
    judge = dataclasses.replace(SHORT_LIMITS, url=url)
    return Comparisons(
        tokenizer=tokenizer(directory / "tokenizer"), judge=judge, **baselines(directory)
    )


def preferences(directory: Path, *, name: str = "preferences", **columns: str) -> dict[str, Any]:
    """Preferences for the response that thanks, with further columns such as a rubric."""
    rows = [
        {
            "prompt": f"Say something about {topic}.",
            "chosen": f"Thanks! I like {topic}.",
            "rejected": f"I will not talk about {topic}.",
            **columns,
        }
        for topic in TOPICS
    ]
    return prepare(directory, name, rows)


def rubric_writing(directory: Path, url: str) -> RubricWriting:
    """The task of writing rubrics, with a judge at an address."""
    judge = dataclasses.replace(SHORT_LIMITS, url=url)
    return RubricWriting(
        tokenizer=tokenizer(directory / "tokenizer"), judge=judge, **preferences(directory)
    )


def rubric_judging(directory: Path) -> RubricJudging:
    """The task of judging by a rubric, the same for all preferences."""
    return RubricJudging(
        tokenizer=tokenizer(directory / "tokenizer"),
        max_prompt_length=1500,
        **preferences(directory, rubric=RUBRIC),
    )
