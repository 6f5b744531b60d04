"""GDPO's demonstration: GSM8K with three rewards on Qwen2.5-1.5B-Instruct.

Claim under test (arXiv 2601.05242 and NVlabs/GDPO b080e63d): with the rewards "right", "an integer"
and "in the requested format", normalising each reward before summation (GDPO) learns all three
faster than normalising their sum (GRPO).

    dvaojax data prepare gsm8k
    dvaojax train experiments/gdpo_gsm8k.py
    dvaojax train experiments/gdpo_gsm8k.py --name grpo --set aggregator=reward_combination
    dvaojax train experiments/gdpo_gsm8k.py --name dvao --set aggregator=dvao
    dvaojax train experiments/gdpo_gsm8k.py --name as-published --set task.paid=reference

The repository shows curves for this demonstration, but no table of results.

As stated in its configuration: the model, 32 prompts x 16 completions (16 on each of 8 devices, 4
times), one epoch of the training set, 512 prompt and 1,024 completion tokens, a learning rate of
5e-6 with a tenth of the updates as warm-up and a cosine to 0, equal weights. Defaults of its TRL
0.18: a KL penalty of 0.04 with the k3 estimator, clipping at 0.2, temperature 1, no weight decay,
the token mean. Chosen here: the wording of the instruction, AdamW's second decay of 0.999, and
rewards that accept a comma between thousands (`task.paid=reference` pays as published).

Needs: four chips of v6e. Planned, not run: the table of `dvaojax/plan/README.md` has memory and
time.
Result: not run yet; no accelerator was available.
"""

from dvaojax.config import AggregatorConfig, Config, EvaluationConfig
from dvaojax.config.smoke import miniature
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.policy_loss import LossConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models.presets import PRESETS
from dvaojax.sharding import MeshConfig
from dvaojax.tasks.gsm8k import GSM8K

POLICY = "Qwen/Qwen2.5-1.5B-Instruct"
STEPS = 7473 // 32


def get_config() -> Config:
    """The published demonstration."""
    return Config(
        name="gdpo-gsm8k",
        pretrained=POLICY,
        model=PRESETS["qwen2.5-1.5b"],
        task=GSM8K(tokenizer=PretrainedTokenizer(POLICY)),
        weights={"correctness": 1.0, "integer": 1.0, "format": 1.0},
        aggregator=AggregatorConfig("gdpo"),
        num_steps=STEPS,
        prompts_per_step=32,
        group_size=16,
        max_new_tokens=1024,
        loss=LossConfig(kl_weight=0.04),
        optimizer=OptimizerConfig(
            learning_rate=5e-6, schedule="cosine", warmup_updates=STEPS // 10, b2=0.999
        ),
        learning=LearningConfig(micro_batches=8),
        warm_start=WarmStartConfig(num_steps=0),
        evaluation=EvaluationConfig(num_prompts=256),
        mesh=MeshConfig(data=1, fsdp=-1),
    )


def get_smoke_config() -> Config:
    """A miniature for tests: two steps that run every code path."""
    return miniature(get_config())
