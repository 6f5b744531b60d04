"""Workloads of the benchmarks: the same shapes, token ids and lengths for every system.

Peers run in their own environments, so a workload is a JSON file. A system is a script that takes
the path of such a file and prints its timings as one line of JSON, the last line of its output.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP = 2  # steps that are not timed: compilation, caches, first allocations
PROBE_TOKENS = 32  # of the first prompt; every system reports their log-probability


@dataclasses.dataclass(frozen=True)
class Workload:
    """RL steps on one shape.

    Attributes:
        model: the decoder's shape, the fields of a `ModelConfig`.
        prompts: `[steps, B, P]` token ids without 0, including warm-up steps.
        limits: `[steps, B, G]` tokens of each completion; there are no stop tokens.
        completion_length: `T`, the sampler's limit.
        weights: an `.npz` of the initial parameters; empty for random ones in every system.
    """

    model: dict[str, Any]
    prompts: list[list[list[int]]]
    limits: list[list[list[int]]]
    completion_length: int
    weights: str = ""

    @property
    def group_size(self) -> int:
        return len(self.limits[0][0])

    @property
    def is_ragged(self) -> bool:
        return any(np.min(limits) < self.completion_length for limits in self.limits)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "Workload":
        return cls(**json.loads(path.read_text()))


def make_workload(
    model: dict[str, Any],
    *,
    prompt_length: int,
    completion_length: int,
    num_prompts: int,
    group_size: int,
    steps: int,
    ragged: bool = False,
    weights: str = "",
) -> Workload:
    """Random prompts without padding, and lengths of completions; the same on every machine.

    Args:
        model: the fields of a `ModelConfig`.
        prompt_length: `P`.
        completion_length: `T`.
        num_prompts: `B`.
        group_size: `G`.
        steps: timed steps, in addition to the warm-up.
        ragged: lengths from `ragged_lengths`; otherwise all lengths are `T`.
        weights: see `Workload`.
    """
    rng = np.random.default_rng(0)
    count = WARM_UP + steps
    shape = (count, num_prompts, prompt_length)
    prompts = rng.integers(1, model["vocab_size"], shape)
    groups = (count, num_prompts, group_size)
    limits = np.full(groups, completion_length)
    if ragged:
        limits = ragged_lengths(rng, groups, maximum=completion_length)
    return Workload(model, prompts.tolist(), limits.tolist(), completion_length, weights)


def ragged_lengths(
    rng: np.random.Generator, shape: tuple[int, ...], *, maximum: int, sigma: float = 0.7
) -> np.ndarray:
    """Lengths like those of reasoning models: log-normal, with some at the limit.

    One in 32 is at the maximum. The others are log-normal, so that the overall mean is a quarter of
    the maximum; values above it are drawn again, which makes the mean slightly smaller.

    Args:
        rng: random generator, advanced.
        shape: of the result.
        maximum: in tokens.
        sigma: standard deviation of the logarithm of a length.

    Returns:
        int array of the shape, from 1 to `maximum`.
    """
    at_the_maximum = 1 / 32
    mean = maximum * (1 / 4 - at_the_maximum) / (1 - at_the_maximum)
    normal = rng.standard_normal((64, *shape))
    # exp(mu + sigma z) has the mean exp(mu + sigma^2 / 2).
    drawn = np.exp(np.log(mean) - sigma**2 / 2 + sigma * normal)
    first_within = np.argmax(drawn <= maximum, axis=0)
    lengths = np.take_along_axis(drawn, first_within[None], axis=0)[0]
    lengths = np.clip(np.rint(lengths), 1, maximum).astype(int)
    return np.where(rng.random(shape) < at_the_maximum, maximum, lengths)
