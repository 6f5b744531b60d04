"""Single matrix products as the compiler for TPUs estimates them, in shares of the peak rate.

    python experiments/benchmarks/tpu_products.py

No TPU is needed. What a program can reach by this compiler's estimates is bounded by these shares.

Needs: pip install '.[plan]', and half a minute.
"""

import sys

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding
from rich.console import Console
from rich.table import Table

from dvaojax.errors import UserError
from dvaojax.plan.chips import TPUS, parse_slice
from dvaojax.plan.collectives import Links
from dvaojax.plan.costs import TpuCost
from dvaojax.plan.described import slice_devices
from dvaojax.plan.profile import profile

TOPOLOGIES = ("v5e:1x1", "v5p:2x2x1", "v6e:1x1")
# Rows, inner and outer width: a large product, and those of the feed-forward layers of the planned
# experiments, of one micro-batch.
SHAPES = (
    (16_384, 8192, 8192),
    (16_896, 1536, 17_920),  # qwen2.5-1.5b
    (4608, 1024, 6144),  # qwen3-0.6b
    (4608, 3072, 1024),
)


def main() -> int:
    """Compiles every product for every chip and prints the shares; returns 2 without libtpu."""
    table = Table(title="share of the peak rate, bfloat16")
    for heading in ("rows x inner x outer width", *TOPOLOGIES):
        table.add_column(heading, justify="right")
    try:
        for shape in SHAPES:
            shares = [f"{share_of_peak(topology, shape):.0%}" for topology in TOPOLOGIES]
            table.add_row(" x ".join(f"{size:,}" for size in shape), *shares)
    except UserError as error:
        print(f"tpu_products.py: {error}", file=sys.stderr)
        return 2
    Console().print(table)
    return 0


def share_of_peak(topology: str, shape: tuple[int, int, int]) -> float:
    """The time of a product at the peak rate, divided by its estimated time."""
    chip = TPUS[topology.partition(":")[0]]
    on_chip = SingleDeviceSharding(slice_devices(parse_slice(topology))[0])
    rows, inner, outer = shape
    left, right = (
        jax.ShapeDtypeStruct(dimensions, jnp.bfloat16, sharding=on_chip)
        for dimensions in ((rows, inner), (inner, outer))
    )
    text = jax.jit(jnp.matmul).lower(left, right).compile().as_text() or ""
    links = Links(chip.link_bandwidth, chip.slices_bandwidth)
    cost = TpuCost(links, chip.clock, chip.memory_bandwidth, chip.flops, pairs=0)
    return 2 * rows * inner * outer / chip.flops / profile(text, cost).seconds


if __name__ == "__main__":
    sys.exit(main())
