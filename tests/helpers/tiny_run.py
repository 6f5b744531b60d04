"""Settings of a tiny run of the main job, and the environment of child processes."""

import os
import sys
from pathlib import Path

import dvaojax

HELPERS = Path(__file__).parent

# Warnings of child processes are errors, except for an entry of the compilation cache that another
# process is writing.
STRICT_PYTHON = [
    *[sys.executable, "-W", "error"],
    *["-W", "default:Error reading persistent compilation cache entry"],
    *["-W", "default:Error writing persistent compilation cache entry"],
]

# All parts of the main job except the warm start. Eight groups fit eight devices.
TINY = [
    "num_steps=2",
    "prompts_per_step=8",
    "group_size=2",
    "max_new_tokens=8",
    "learning.micro_batches=1",
    "model.width=16",
    "model.num_layers=1",
    "model.num_heads=1",
    "model.num_kv_heads=1",
    "model.head_width=8",
    "model.ff_width=16",
    "evaluation.num_prompts=8",
    "warm_start.num_steps=0",
    "warm_start.batch_size=8",
    "warm_start.micro_batches=1",
    "checkpoints.every=1",
]


def child_environment() -> dict[str, str]:
    """The environment of a child process on the CPU, with the settings of `tests/conftest.py`.

    The child can import `dvaojax` and the modules of `tests/helpers`.
    """
    return {
        **os.environ,
        "PYTHONPATH": f"{Path(dvaojax.__file__).parents[1]}{os.pathsep}{HELPERS}",
        "JAX_PLATFORMS": "cpu",
    }
