"""The first real model: Qwen3-0.6B learns GSM8K on one accelerator.

Claim under test: three rewards at once (right, an integer, in the form that was asked for) bring a
small model that thinks aloud to short, well-formed, right answers; all three objectives rise within
the first fifty steps.

    dvaojax data prepare gsm8k
    dvaojax train experiments/qwen3_gsm8k.py
    dvaojax evaluate runs/qwen3-gsm8k
    dvaojax export runs/qwen3-gsm8k qwen3-gsm8k

Every number here is ours: 8 prompts x 8 completions of at most 512 tokens, 300 steps of AdamW at
1e-6, thinking off, so that the completion writes its own `<think>` block and is scored on it.

Needs: one GPU of 24 GB or TPU chip of 16 GB; README, "Training a real model". Planned for one chip,
not run: 14.9 GiB, of which v5e has 15.8 and v6e 31.2; by the roofline 3.1 and 1.3 s a step, by the
compiler 7.1 and 3.4 s, 0.3 to 0.6 and 0.1 to 0.3 hours.
Result: not run yet; no accelerator was at hand.
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
    """One accelerator's worth."""
    return Config(
        name="qwen3-gsm8k",
        pretrained=POLICY,
        model=dataclasses.replace(PRESETS["qwen3-0.6b"], logits_chunk=1024),
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
    """The same experiment in miniature: every code path, two steps, nothing learned."""
    return miniature(get_config())
