"""A small workload for tests of the benchmarks."""

import dataclasses

from workload import make_workload

from dvaojax.models.presets import PRESETS


def make(**knobs):
    """A workload with three prompts of 6 tokens and four completions of at most 40 tokens."""
    model = dataclasses.asdict(PRESETS["tiny"])
    shape = {"prompt_length": 6, "completion_length": 40, "num_prompts": 3, "group_size": 4}
    return make_workload(model, **shape, steps=5, **knobs)
