"""DVAO on mathematics with Qwen3-4B-Base: right answers in at most 4,000 tokens.

Claim under test (arXiv 2605.25604, main table): with the rewards "the answer is right" and "at
most 4,000 tokens", weighted equally, DVAO ends more accurate than reward combination, advantage
combination and GDPO, and keeps the budget at least as often as any of them.

    dvaojax data prepare dapo_math_17k
    dvaojax data prepare aime24        # and aime25, math500, olympiadbench, amc23
    dvaojax train experiments/dvao_mathematics_4b.py

The baselines, and one point of the Pareto sweep (accuracy weights 0.1, 0.3, 0.5, 0.7, 0.9):

    dvaojax train experiments/dvao_mathematics_4b.py --name rc \\
        --set aggregator=reward_combination
    dvaojax train experiments/dvao_mathematics_4b.py --name ac \\
        --set aggregator=advantage_combination
    dvaojax train experiments/dvao_mathematics_4b.py --name gdpo --set aggregator=gdpo
    dvaojax train experiments/dvao_mathematics_4b.py --name accuracy-only \\
        --set aggregator=grpo weights.accuracy=1 weights.length=0
    dvaojax train experiments/dvao_mathematics_4b.py --name dvao-0.1 \\
        --set weights.accuracy=0.1 weights.length=0.9

Evaluation with 16 completions of every problem at temperature 0.6 and top-p 0.95:

    dvaojax evaluate runs/dvao-mathematics-4b --preset dvao

The paper's results, accuracy / share within the budget, %; GRPO* is trained on accuracy only:

| method | AIME24      | AIME25      | MATH500     | Olympiad    | AMC23       | mean        |
|--------|-------------|-------------|-------------|-------------|-------------|-------------|
| before | 7.92/88.12  | 4.79/88.54  | 55.05/91.42 | 26.98/92.02 | 34.18/91.94 | 25.78/90.41 |
| GRPO*  | 17.91/62.08 | 10.20/68.33 | 78.92/93.04 | 42.88/82.82 | 49.62/82.91 | 39.91/77.84 |
| RC     | 14.58/92.50 | 9.38/95.42  | 78.31/98.91 | 41.18/97.43 | 51.50/97.67 | 38.99/96.39 |
| AC     | 16.25/91.04 | 9.38/95.21  | 77.65/98.69 | 41.02/98.08 | 49.47/98.12 | 38.75/96.23 |
| GDPO   | 2.08/95.83  | 3.75/96.46  | 30.06/99.52 | 16.56/98.29 | 14.60/98.95 | 13.41/97.81 |
| DVAO   | 16.87/100.0 | 13.54/99.79 | 81.36/99.94 | 45.63/99.96 | 53.53/99.85 | 42.19/99.91 |

As stated in the paper: the data, both rewards and their equal weights, 128 prompts x 16
completions, 500 steps, at most 8,192 new tokens, AdamW at a constant 1e-6, and the evaluation.
Not stated there, and chosen here: clipping at 0.2 on both sides, no KL penalty, one update per
step, temperature 1, a prompt limit of 1,024 tokens, the wording of the instruction, the verifier.

Needs: 64 chips of v5p. Planned, not run: the table of `dvaojax/plan/README.md` has memory and time.
Result: not run yet; no accelerator was available.
"""

from dvaojax.config import Config, EvaluationConfig, RewardConfig
from dvaojax.config.smoke import miniature
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models.presets import PRESETS
from dvaojax.rollout.sampling import Sampling
from dvaojax.sharding import MeshConfig
from dvaojax.tasks.mathematics import Mathematics

POLICY = "Qwen/Qwen3-4B-Base"


def get_config() -> Config:
    """The experiment of the paper."""
    return Config(
        name="dvao-mathematics-4b",
        pretrained=POLICY,
        model=PRESETS["qwen3-4b"],
        task=Mathematics(
            tokenizer=PretrainedTokenizer(POLICY),
            train="dapo_math_17k",
            test=("aime24", "aime25", "math500", "olympiadbench", "amc23"),
            budget=4000,
            max_prompt_length=1024,
        ),
        weights={"accuracy": 0.5, "length": 0.5},
        num_steps=500,
        prompts_per_step=128,
        group_size=16,
        max_new_tokens=8192,
        optimizer=OptimizerConfig(learning_rate=1e-6),
        learning=LearningConfig(micro_batches=2),
        warm_start=WarmStartConfig(num_steps=0),
        rewards=RewardConfig(workers=8),
        evaluation=EvaluationConfig(
            num_prompts=128, sampling=Sampling(temperature=0.6, top_p=0.95)
        ),
        mesh=MeshConfig(data=1, fsdp=-1),
    )


def get_smoke_config() -> Config:
    """A miniature for tests: two steps that run every code path."""
    return miniature(get_config())
