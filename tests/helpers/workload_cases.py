"""A small workload for the tests of the benchmarks."""

import dataclasses

from workload import make_workload

from dvaojax.models.presets import PRESETS


def make(**knobs):
    """Three prompts of 6 tokens, four completions of at most 40."""
    model = dataclasses.asdict(PRESETS["tiny"])
    shape = {"prompt_length": 6, "completion_length": 40, "num_prompts": 3, "group_size": 4}
    return make_workload(model, **shape, steps=5, **knobs)
