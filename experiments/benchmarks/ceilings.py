"""Measured limits of a machine: floating-point operations and memory traffic per second.

    python experiments/benchmarks/ceilings.py
    python experiments/benchmarks/ceilings.py --dtype bfloat16

Both are the best of several measurements, so that other load on the machine does not lower the
limits. The products are square, in the sizes at which JAX is fastest on CPUs and on accelerators.
The copy is an in-place negation; reads and writes are counted.
"""

import argparse
import json
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
from timing import best_seconds

SIZES = {"cpu": (512, 1024, 2048), "elsewhere": (4096, 8192, 16384)}
COPY_BYTES = {"cpu": 2**28, "elsewhere": 2**31}  # much larger than any cache
ROUNDS = 7


class Ceilings(NamedTuple):
    """The limits of a machine.

    Attributes:
        flops_per_second: of a matrix product, two operations per multiply-add.
        bytes_per_second: read and written by a copy.
    """

    flops_per_second: float
    bytes_per_second: float


def measure(dtype: str) -> Ceilings:
    """The limits of the default device for matrices of this float type. Takes seconds."""
    return Ceilings(
        flops_per_second=max(_matmul_rate(size, dtype) for size in _here(SIZES)),
        bytes_per_second=_copy_rate(_here(COPY_BYTES)),
    )


def best(*measured: Ceilings) -> Ceilings:
    """The higher of each limit: one measurement may have been disturbed."""
    return Ceilings(*(max(values) for values in zip(*measured, strict=True)))


def _matmul_rate(size: int, dtype: str) -> float:
    left, right = (
        jax.random.normal(key, (size, size), dtype) for key in jax.random.split(jax.random.key(0))
    )
    return 2 * size**3 / best_seconds(jax.jit(jnp.matmul), left, right, rounds=ROUNDS)


def _copy_rate(size: int) -> float:
    # In place: with new memory, a CPU would spend most of the time on page faults.
    copy = jax.jit(jnp.negative, donate_argnums=0)
    buffer = copy(jnp.ones(size // 4, jnp.float32))
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        buffer = jax.block_until_ready(copy(buffer))
        seconds.append(time.perf_counter() - start)
    return 2 * size / min(seconds)


def _here(by_platform):
    return by_platform["cpu" if jax.default_backend() == "cpu" else "elsewhere"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    arguments = parser.parse_args()
    limits = measure(arguments.dtype)
    print(json.dumps({"device": jax.devices()[0].device_kind, **limits._asdict()}))


if __name__ == "__main__":
    main()
