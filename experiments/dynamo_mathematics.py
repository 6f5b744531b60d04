"""DynaMO on mathematics with Qwen2.5-Math-7B: both of its parts, where completions go and how much
each token learns.

Claim under test (arXiv 2602.19208): more completions for problems whose rewards vary, together with
advantages that are raised on tokens of low entropy and lowered on tokens that change the entropy
most, end more accurate than GRPO with the same number of completions.

    dvaojax data prepare dapo_math_17k
    dvaojax data prepare aime24        # and aime25, math500, olympiadbench, amc23
    dvaojax train experiments/dynamo_mathematics.py

The baseline, and each part alone:

    dvaojax train experiments/dynamo_mathematics.py --name grpo \\
        --set allocation.name=uniform loss.name=clipped_surrogate loss.options=dual_clip=10
    dvaojax train experiments/dynamo_mathematics.py --name allocation \\
        --set loss.name=clipped_surrogate loss.options=dual_clip=10
    dvaojax train experiments/dynamo_mathematics.py --name modulation --set allocation.name=uniform

As the official code computes it, which differs from the paper in the rule of the allocation and,
by its defaults, in the upper clip:

    dvaojax train experiments/dynamo_mathematics.py --name code \\
        --set allocation.name=dynamo loss.name=dynamo_code loss.options=

Evaluation with 32 completions of every problem at temperature 1:

    dvaojax evaluate runs/dynamo-mathematics --samples 32

The paper's averages over its benchmarks, %, of one and of 32 completions:

| method | pass@1 | pass@32 |
|--------|--------|---------|
| GRPO   | 37.2   | 57.2    |
| DynaMO | 41.6   | 63.3    |

As in the official script: the model, 512 prompts x 16 completions (8 to 24 for a problem), 16
updates per step, clipping at 0.2 on both sides with a dual clip of 10, the token mean, no KL
penalty, temperature 1, a learning rate of 1e-6 after 10 updates of warm-up, a weight decay of 0.1.
After the paper: completions in proportion to the standard deviation of a problem's rewards. The
script leaves the data and the lengths open: DAPO-Math-17k, 1,024 prompt and 3,072 completion tokens
(the model's context), 300 of its at most 2,000 steps, the wording of the instruction, and the
verifier are chosen here.

Needs: a slice for a decoder of 7.6 billion parameters and 8,192 completions per step, see
`dvaojax plan --experiment experiments/dynamo_mathematics.py`; not planned yet.
Result: not run yet; no accelerator was available.
"""

from dvaojax.allocation import AllocationConfig
from dvaojax.config import AggregatorConfig, Config, EvaluationConfig, RewardConfig
from dvaojax.config.smoke import miniature
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.policy_loss import LossConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models.presets import PRESETS
from dvaojax.sharding import MeshConfig
from dvaojax.tasks.mathematics import Mathematics

POLICY = "Qwen/Qwen2.5-Math-7B"


def get_config() -> Config:
    """The experiment of the paper."""
    return Config(
        name="dynamo-mathematics",
        pretrained=POLICY,
        model=PRESETS["qwen2.5-math-7b"],
        task=Mathematics(
            tokenizer=PretrainedTokenizer(POLICY),
            train="dapo_math_17k",
            test=("aime24", "aime25", "math500", "olympiadbench", "amc23"),
            budget=3072,
            max_prompt_length=1024,
        ),
        weights={"accuracy": 1.0, "length": 0.0},
        aggregator=AggregatorConfig("grpo"),
        allocation=AllocationConfig("neyman", objective="accuracy", floor=8, cap=24),
        num_steps=300,
        prompts_per_step=512,
        group_size=16,
        max_new_tokens=3072,
        loss=LossConfig("dynamo", options=("dual_clip=10",)),
        optimizer=OptimizerConfig(learning_rate=1e-6, warmup_updates=10, weight_decay=0.1),
        learning=LearningConfig(mini_batches=16),
        warm_start=WarmStartConfig(num_steps=0),
        rewards=RewardConfig(workers=8),
        evaluation=EvaluationConfig(num_prompts=128),
        mesh=MeshConfig(data=1, fsdp=-1),
    )


def get_smoke_config() -> Config:
    """A miniature for tests: two steps that run every code path."""
    return miniature(get_config())
