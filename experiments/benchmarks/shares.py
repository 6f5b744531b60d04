"""What measured seconds mean: real tokens per second, and shares of what the machine can do."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ceilings import Ceilings
from workload import WARM_UP, Workload

from dvaojax.models import ModelConfig, flops
from dvaojax.models.flops import Lengths

PARTS = ("rollout", "reward", "train")


def lengths_of(workload: Workload) -> list[Lengths]:
    """Of the timed steps."""
    return [
        Lengths(np.array([len(prompt) for prompt in prompts]), np.asarray(limits))
        for prompts, limits in zip(workload.prompts, workload.limits, strict=True)
    ][WARM_UP:]


def measured(report: Mapping[str, Any], workload: Workload, limits: Ceilings) -> dict[str, float]:
    """Medians over the timed steps of one system.

    Args:
        report: the seconds of each step under `step_seconds`, and of its parts under
            `rollout_seconds`, `reward_seconds` and `train_seconds` where they were timed.
        workload: what was done.
        limits: of the machine it was done on.

    Returns:
        The medians of the seconds under the same names, and further

        - `tokens_per_second`: real tokens over a step's seconds; a prompt counts once;
          `rollout_tokens_per_second`, `train_tokens_per_second`: the same over a part's;
        - `arithmetic_share`: the seconds that the step's matrix products take at the machine's
          best rate, over the seconds it took;
        - `rollout_arithmetic_share`, `train_arithmetic_share`: the same of the parts that were
          timed; the latter is the update's model-FLOP utilisation;
        - `rollout_bandwidth_share`: the seconds that it takes to read weights and caches for every
          token, over the rollout's.
    """
    model, steps = ModelConfig(**workload.model), lengths_of(workload)
    products = {
        "rollout": [flops.prefill_flops(model, s) + flops.decode_flops(model, s) for s in steps],
        "train": [flops.train_flops(model, s) for s in steps],
    }
    timed = {p: report[f"{p}_seconds"] for p in (*PARTS, "step") if f"{p}_seconds" in report}
    products = {part: counts for part, counts in products.items() if part in timed}
    products["step"] = [sum(of_parts) for of_parts in zip(*products.values(), strict=True)]

    found = {f"{part}_seconds": statistics.median(seconds) for part, seconds in timed.items()}
    for part, counts in products.items():
        prefix = "" if part == "step" else f"{part}_"
        found[f"{prefix}tokens_per_second"] = _rate([s.tokens for s in steps], timed[part])
        share = _rate(counts, timed[part]) / limits.flops_per_second
        found[f"{prefix}arithmetic_share"] = share
    if "rollout" in timed:
        read = [flops.decode_bytes(model, s) for s in steps]
        found["rollout_bandwidth_share"] = _rate(read, timed["rollout"]) / limits.bytes_per_second
    return found


def _rate(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    return statistics.median(a / s for a, s in zip(amounts, seconds, strict=True))
