"""DVAO on tool use with Qwen2.5-7B-Instruct: `dvao_tools_3b.py` with a larger policy.

Claim under test (arXiv 2605.25604, tool table): as on 3B, DVAO's mean is ahead of every other
method's on both objectives. Reward combination has the better format in the parts Live and
Non-Live.

    dvaojax train experiments/dvao_tools_7b.py

Data, baselines and settings are those of the 3B file. The paper's results, accuracy / format on
BFCL-v4, %:

| method         | Live        | Non-Live    | Multi-Turn  | mean        |
|----------------|-------------|-------------|-------------|-------------|
| before         | 62.92/0     | 69.56/0     | 11.00/0     | 47.83/0     |
| GRPO, accuracy | 68.76/0     | 81.65/0     | 6.38/0      | 52.26/0     |
| RC             | 75.06/87.58 | 85.33/96.11 | 14.75/45.56 | 58.38/76.42 |
| AC             | 63.80/67.39 | 56.21/85.40 | 12.75/51.33 | 44.25/68.04 |
| GDPO           | 76.17/68.90 | 86.73/85.83 | 17.50/49.63 | 60.13/68.12 |
| DVAO           | 79.68/77.93 | 87.06/95.11 | 22.25/64.58 | 63.00/79.21 |

Needs: 64 chips of v5p. Planned, not run: the table of `dvaojax/plan/README.md` has memory and time.
Result: not run yet; no accelerator was available.
"""

import dataclasses
from pathlib import Path

from dvaojax.config import Config, overrides
from dvaojax.config.smoke import miniature
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.models.presets import PRESETS

POLICY = "Qwen/Qwen2.5-7B-Instruct"


def get_config() -> Config:
    """The 3B experiment with a larger policy."""
    config = overrides.load_experiment(Path(__file__).with_name("dvao_tools_3b.py"))
    return dataclasses.replace(
        config,
        name="dvao-tools-7b",
        pretrained=POLICY,
        model=PRESETS["qwen2.5-7b"],
        task=dataclasses.replace(config.task, tokenizer=PretrainedTokenizer(POLICY)),
    )


def get_smoke_config() -> Config:
    """A miniature for tests: two steps that run every code path."""
    return miniature(get_config())
