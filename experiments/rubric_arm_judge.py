"""Rubric-ARM's judge: Qwen3-8B, rewarded for the right verdict and for its layout.

Claim under test (arXiv 2602.01511): the judge of `rubric_arm_writer.py`, trained before the writer
in each round; without the reward for the layout the two end 2.2 points lower.

    dvaojax data prepare rubrics --source DIRECTORY --columns prompt=prompt
    dvaojax train experiments/rubric_arm_judge.py

`rubric_arm.py` runs it in turns with `rubric_arm_writer.py`, with one rubric per preference from
the newest writer. Alone, it needs the files of `rubric_arm_writer.py` with a further column rubric.

As stated in the paper: the policy, GRPO on the sum of both rewards. Not stated there, and chosen
here: everything else, as for the writer, including equal weights. With two objectives, other
methods can be compared: `--set aggregator=dvao`.

Needs: eight chips of v5p or more. Neither planned nor run.
Result: not run yet; no accelerator was available.
"""

import dataclasses
from pathlib import Path

from dvaojax.config import Config, overrides
from dvaojax.config.smoke import miniature
from dvaojax.tasks.rubric_judging import RubricJudging


def get_config() -> Config:
    """One round of the judge, with the settings of the writer."""
    config = overrides.load_experiment(Path(__file__).with_name("rubric_arm_writer.py"))
    return dataclasses.replace(
        config,
        name="rubric-arm-judge",
        task=RubricJudging(
            tokenizer=config.task.tokenizer,
            train="rubrics",
            test=("rubrics",),
            max_prompt_length=4096,
        ),
        weights={"accuracy": 1.0, "format": 1.0},
    )


def get_smoke_config() -> Config:
    """A miniature for tests: two steps that run every code path."""
    return miniature(get_config())
