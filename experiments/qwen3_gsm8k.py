"""The first real model: Qwen3-0.6B learns GSM8K on one accelerator.

Claim under test: trained on three rewards (right, an integer, in the requested format), a small
reasoning model learns short, well-formed, right answers; all three objectives rise within the first
fifty steps.

    dvaojax data prepare gsm8k
    dvaojax train experiments/qwen3_gsm8k.py
    dvaojax evaluate runs/qwen3-gsm8k
    dvaojax export runs/qwen3-gsm8k qwen3-gsm8k

No paper: all settings are chosen here. 8 prompts x 8 completions of at most 512 tokens, 300 steps
of AdamW at 1e-6; thinking is off in the template, so that the completion writes its own `<think>`
block, which is scored.

Needs: one GPU of 24 GB or one TPU chip of 16 GB. Planned, not run: the table of
`dvaojax/plan/README.md` has memory and time.
Result: not run yet; no accelerator was available.
"""

import dataclasses

from dvaojax.config import Config, EvaluationConfig
from dvaojax.config.smoke import miniature
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models.presets import PRESETS
from dvaojax.tasks.gsm8k import GSM8K

POLICY = "Qwen/Qwen3-0.6B"


def get_config() -> Config:
    """Settings for one accelerator."""
    # A chip of 16 GB has space for the results of attention. Layers that are compiled one by one
    # add their gradients to the sums without arrays of their own.
    model = dataclasses.replace(
        PRESETS["qwen3-0.6b"], logits_chunk=1024, remat="attention", layer_loop="unrolled"
    )
    return Config(
        name="qwen3-gsm8k",
        pretrained=POLICY,
        model=model,
        task=GSM8K(tokenizer=PretrainedTokenizer(POLICY), max_prompt_length=384, thinking="off"),
        weights={"correctness": 1.0, "integer": 0.5, "format": 0.5},
        num_steps=300,
        prompts_per_step=8,
        group_size=8,
        max_new_tokens=512,
        optimizer=OptimizerConfig(learning_rate=1e-6, warmup_updates=10),
        learning=LearningConfig(micro_batches=8),
        warm_start=WarmStartConfig(num_steps=0),
        evaluation=EvaluationConfig(num_prompts=256),
    )


def get_smoke_config() -> Config:
    """A miniature for tests: two steps that run every code path."""
    return miniature(get_config())
