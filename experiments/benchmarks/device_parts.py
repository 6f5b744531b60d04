"""One part of the benchmark of a device, in its own process.

    python device_parts.py PART SETTINGS.json

Started by `accelerator.py`. Every measurement is printed as soon as it is known, as one line of
JSON with the parts' name under `measured`, so that a part that fails later keeps what it has.
"""

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ceilings
import device_attention
import device_model
import jax
import jax.numpy as jnp
import numpy as np
from aggregator_loops import LOOPS
from timing import medians

from dvaojax.aggregators import BY_NAME, needs_lengths

GROUPS, COMPLETIONS, OBJECTIVES = 4096, 16, 8
Report = Callable[..., None]


def main() -> None:
    part, settings = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())

    def report(name: str, **measured: Any) -> None:
        print(json.dumps({"measured": name, **measured}), flush=True)

    PARTS[part](report, **settings)


def limits(report: Report) -> None:
    """The device, and its best product and copy."""
    device = jax.devices()[0]
    measured = ceilings.measure("bfloat16" if jax.default_backend() != "cpu" else "float32")
    report(
        "limits",
        device=device.device_kind,
        platform=device.platform,
        memory=(device.memory_stats() or {}).get("bytes_limit"),
        **measured._asdict(),
    )


def aggregators(report: Report, *, rounds: int) -> None:
    """Median microseconds of every aggregator, and of a copy of the rewards."""
    rng = np.random.default_rng(0)
    rewards = jnp.asarray(rng.normal(size=(GROUPS, COMPLETIONS, OBJECTIVES)), jnp.float32)
    weights = jnp.asarray(rng.dirichlet(np.ones(OBJECTIVES)), jnp.float32)
    lengths = jnp.asarray(rng.integers(1, 1000, size=(GROUPS, COMPLETIONS)))
    calls: dict[str, Callable[[], Any]] = {"copy": partial(jax.jit(jnp.copy), rewards)}
    for name in LOOPS:
        extra = (lengths,) if needs_lengths(BY_NAME[name]) else ()
        calls[name] = partial(jax.jit(BY_NAME[name]), rewards, weights, *extra)
    seconds = medians(calls, rounds=rounds, repeats=lambda key: 5)
    report("aggregators", microseconds={name: 1e6 * each for name, each in seconds.items()})


PARTS: Mapping[str, Callable[..., None]] = {
    "limits": limits,
    "attention": device_attention.training,
    "decode attention": device_attention.decoding,
    "model": device_model.measure,
    "aggregators": aggregators,
}


if __name__ == "__main__":
    main()
