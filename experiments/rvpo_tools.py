"""RVPO on tool use with Qwen2.5-3B-Instruct: a soft minimum over correctness and format.

Claim under test (arXiv 2605.05750): on tool use, with two rewards that seldom conflict, a soft
minimum over the objectives (RVPO) does as well as their mean (GDPO), so its gains on other tasks
have no cost here.

    dvaojax data prepare toolrl
    dvaojax data prepare bfcl
    dvaojax train experiments/rvpo_tools.py
    dvaojax train experiments/rvpo_tools.py --name gdpo-tools --set aggregator=gdpo

The paper's results on BFCL-v3: 80.4 % for RVPO and 80.7 % for GDPO on 3B; 71.9 % for both on
1.5B.

As stated in the paper: GDPO's recipe, groups of 4. That recipe (NVlabs/GDPO b080e63d,
`train_gdpo.sh`): 512 prompts per step in mini-batches of 128, 2,048 prompt and 1,024 new tokens, a
constant 1e-6, ToolRL's correctness in [-3, 3] and format in {0, 1}, about 100 steps, no KL loss.
Chosen here: sharpness 1, which third parties use for two rewards; the recommended form of both
rewards (`--set task.grading=reference` pays as ToolRL's code).

Needs: eight chips of v5p. Planned, not run: the table of `dvaojax/plan/README.md` has memory and
time.
Result: not run yet; no accelerator was available.
"""

from dvaojax.config import AggregatorConfig, Config, EvaluationConfig
from dvaojax.config.smoke import miniature
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.learning.optimizer import OptimizerConfig
from dvaojax.learning.train_step import LearningConfig
from dvaojax.learning.warm_start import WarmStartConfig
from dvaojax.models.presets import PRESETS
from dvaojax.sharding import MeshConfig
from dvaojax.tasks.tools import Tools

POLICY = "Qwen/Qwen2.5-3B-Instruct"


def get_config() -> Config:
    """The experiment of the paper."""
    return Config(
        name="rvpo-tools",
        pretrained=POLICY,
        model=PRESETS["qwen2.5-3b"],
        task=Tools(
            tokenizer=PretrainedTokenizer(POLICY), grading="correctness", max_prompt_length=2048
        ),
        weights={"accuracy": 1.0, "format": 1.0},
        aggregator=AggregatorConfig("rvpo"),
        num_steps=100,
        prompts_per_step=512,
        group_size=4,
        max_new_tokens=1024,
        optimizer=OptimizerConfig(learning_rate=1e-6),
        learning=LearningConfig(mini_batches=4),
        warm_start=WarmStartConfig(num_steps=0),
        evaluation=EvaluationConfig(num_prompts=256),
        mesh=MeshConfig(data=1, fsdp=-1),
    )


def get_smoke_config() -> Config:
    """A miniature for tests: two steps that run every code path."""
    return miniature(get_config())
