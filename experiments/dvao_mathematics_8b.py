"""DVAO on mathematics with Qwen3-8B-Base: `dvao_mathematics_4b.py` with a larger policy.

Claim under test (arXiv 2605.25604, main table): as on 4B, DVAO ends more accurate than every other
method that is trained on both rewards. It does not end more accurate than GRPO on accuracy only,
which exceeds the budget in a third of its completions.

    dvaojax train experiments/dvao_mathematics_8b.py

Data, baselines, sweep, evaluation and settings are those of the 4B file. The paper's results,
accuracy / share within the budget, %; GRPO* is trained on accuracy only:

| method | AIME24      | AIME25      | MATH500     | Olympiad    | AMC23       | mean        |
|--------|-------------|-------------|-------------|-------------|-------------|-------------|
| before | 11.87/89.79 | 8.96/93.33  | 69.20/97.44 | 34.95/94.66 | 41.56/96.16 | 33.31/94.28 |
| GRPO*  | 29.58/40.00 | 24.58/52.08 | 87.93/89.61 | 55.57/70.81 | 65.21/64.83 | 52.57/63.47 |
| RC     | 21.04/97.08 | 16.25/99.38 | 84.97/99.59 | 49.73/98.48 | 59.33/99.02 | 46.26/98.71 |
| AC     | 20.41/97.71 | 15.62/98.96 | 84.42/99.58 | 48.52/98.93 | 58.13/99.02 | 45.42/98.84 |
| GDPO   | 1.67/100.0  | 0.00/100.0  | 35.07/100.0 | 9.15/99.96  | 27.56/100.0 | 14.69/99.99 |
| DVAO   | 21.87/100.0 | 18.33/100.0 | 86.10/99.99 | 50.62/99.76 | 60.54/99.85 | 47.49/99.92 |

Needs: 64 chips of v5p. Planned, not run: the table of `dvaojax/plan/README.md` has memory and time.
Result: not run yet; no accelerator was available.
"""

import dataclasses
from pathlib import Path

from dvaojax.config import Config, overrides
from dvaojax.config.smoke import miniature
from dvaojax.data.tokenizers import PretrainedTokenizer
from dvaojax.models.presets import PRESETS

POLICY = "Qwen/Qwen3-8B-Base"


def get_config() -> Config:
    """The 4B experiment with a larger policy."""
    config = overrides.load_experiment(Path(__file__).with_name("dvao_mathematics_4b.py"))
    return dataclasses.replace(
        config,
        name="dvao-mathematics-8b",
        pretrained=POLICY,
        model=PRESETS["qwen3-8b"],
        task=dataclasses.replace(config.task, tokenizer=PretrainedTokenizer(POLICY)),
    )


def get_smoke_config() -> Config:
    """A miniature for tests: two steps that run every code path."""
    return miniature(get_config())
