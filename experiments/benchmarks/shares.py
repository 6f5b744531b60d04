"""Derived measures of timings: tokens per second, and shares of the machine's limits."""

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
    """Prompt and completion lengths of the timed steps."""
    return [
        Lengths(np.array([len(prompt) for prompt in prompts]), np.asarray(limits))
        for prompts, limits in zip(workload.prompts, workload.limits, strict=True)
    ][WARM_UP:]


def measured(report: Mapping[str, Any], workload: Workload, limits: Ceilings) -> dict[str, float]:
    """Medians over the timed steps of one system.

    Args:
        report: the seconds of each step under `step_seconds`, and of its timed parts under
            `rollout_seconds`, `reward_seconds` and `train_seconds`.
        workload: the workload that was run.
        limits: of the machine.

    Returns:
        The medians of the seconds under the same names, and

        - `tokens_per_second`: real tokens per second of a step, a prompt counts once;
          `rollout_tokens_per_second`, `train_tokens_per_second`: per second of a part;
        - `arithmetic_share`: the seconds of the step's matrix products at the machine's peak rate,
          divided by the seconds of the step;
        - `rollout_arithmetic_share`, `train_arithmetic_share`: the same for the timed parts; the
          latter is the update's model-FLOP utilisation;
        - `rollout_bandwidth_share`: the seconds for reading weights and caches for every token,
          divided by the seconds of the rollout.
    """
    model, steps = ModelConfig(**workload.model), lengths_of(workload)
    products = {
        "rollout": [flops.prefill_flops(model, s) + flops.decode_flops(model, s) for s in steps],
        "train": [flops.train_flops(model, s) for s in steps],
    }
    timed = {p: report[f"{p}_seconds"] for p in (*PARTS, "step") if f"{p}_seconds" in report}
    products = {part: counts for part, counts in products.items() if part in timed}
    products["step"] = [sum(parts) for parts in zip(*products.values(), strict=True)]

    result = {f"{part}_seconds": statistics.median(seconds) for part, seconds in timed.items()}
    for part, counts in products.items():
        prefix = "" if part == "step" else f"{part}_"
        result[f"{prefix}tokens_per_second"] = _rate([s.tokens for s in steps], timed[part])
        share = _rate(counts, timed[part]) / limits.flops_per_second
        result[f"{prefix}arithmetic_share"] = share
    if "rollout" in timed:
        read = [flops.decode_bytes(model, s) for s in steps]
        result["rollout_bandwidth_share"] = _rate(read, timed["rollout"]) / limits.bytes_per_second
    return result


def _rate(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    return statistics.median(a / s for a, s in zip(amounts, seconds, strict=True))
