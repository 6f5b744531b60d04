"""Rubric-ARM's writer of rubrics: Qwen3-8B, rewarded by the verdicts of a frozen judge.

Claim under test (arXiv 2602.01511): trained in turns, judge first, the two reach 74.8 on the
paper's mean of reward benchmarks (76.2 with five votes), after 70.1 with supervised fine-tuning
alone. If the writer is trained first in each round, they end 2.4 points lower.

    dvaojax data prepare preferences --source DIRECTORY --columns prompt=prompt
    dvaojax train experiments/rubric_arm_writer.py --set task.judge.url=http://HOST:8000/v1

`rubric_arm.py` runs it in turns with `rubric_arm_judge.py`. DIRECTORY has `train.jsonl` and
`test.jsonl`, with the columns prompt, chosen and rejected.

As stated in the paper: the policy, GRPO, one greedy verdict per rubric. Not stated there, and
chosen here: everything else, including the wording of the questions, 64 prompts per step, groups of
8, 100 steps per round, at most 2,048 new tokens, AdamW at a constant 1e-6. The paper starts from
models that were fine-tuned on demonstrations, and has its own preferences.

Needs: eight chips of v5p or more, and a judge with OpenAI's chat-completions protocol on further
ones. Neither planned nor run.
Result: not run yet; no accelerator was available.
"""

from dvaojax.config import AggregatorConfig, Config, EvaluationConfig
from dvaojax.config.smoke import miniature
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models.presets import PRESETS
from dvaojax.rewards.judge import JudgeConfig
from dvaojax.sharding import MeshConfig
from dvaojax.tasks.rubric_writing import RubricWriting

POLICY = "Qwen/Qwen3-8B"


def get_config() -> Config:
    """One round of the writer."""
    return Config(
        name="rubric-arm-writer",
        pretrained=POLICY,
        model=PRESETS["qwen3-8b"],
        task=RubricWriting(
            tokenizer=PretrainedTokenizer(POLICY),
            train="preferences",
            test=("preferences",),
            max_prompt_length=2048,
            judge=JudgeConfig(max_tokens=2048),
        ),
        weights={"accuracy": 1.0},
        aggregator=AggregatorConfig("grpo"),
        num_steps=100,
        prompts_per_step=64,
        group_size=8,
        max_new_tokens=2048,
        pipeline_depth=1,
        optimizer=OptimizerConfig(learning_rate=1e-6),
        learning=LearningConfig(micro_batches=8),
        warm_start=WarmStartConfig(num_steps=0),
        evaluation=EvaluationConfig(num_prompts=256),
        mesh=MeshConfig(data=1, fsdp=-1),
    )


def get_smoke_config() -> Config:
    """A miniature for tests: two steps that run every code path."""
    return miniature(get_config())
