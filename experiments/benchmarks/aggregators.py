"""Time of every aggregator, compared with a NumPy loop and with a copy of the rewards.

Claim under test: on 4,096 groups of 16 completions with 8 objectives, each aggregator is at least
30 times faster, jitted, than a NumPy loop over the groups, and `dvao`, `reward_combination` and
`advantage_combination` take at most 15 times as long as copying the rewards.

    python experiments/benchmarks/aggregators.py
    python experiments/benchmarks/aggregators.py --json times.json

Everything is timed in one process, in turns, so that other load affects all entries equally; the
medians are printed. The loop computes the same as the aggregator, with NumPy's mean and standard
deviation of one group at a time.

Needs: any machine, about half a minute.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from aggregator_loops import LOOPS
from command_line import new_file
from rich.console import Console
from rich.table import Table
from timing import medians

from dvaojax.aggregators import BY_NAME, needs_lengths

GROUPS, COMPLETIONS, OBJECTIVES = 4096, 16, 8
FASTER_THAN_THE_LOOP = 30.0
COPIES = {"dvao": 15.0, "reward_combination": 15.0, "advantage_combination": 15.0}


def main() -> int:
    """Times everything and prints the table; returns 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=new_file, help="also write the numbers to this file")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of measurement (default 9)")
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(GROUPS, COMPLETIONS, OBJECTIVES)).astype(np.float32)
    weights = rng.dirichlet(np.ones(OBJECTIVES)).astype(np.float32)
    lengths = rng.integers(1, 1000, size=(GROUPS, COMPLETIONS))
    on_device = tuple(map(jnp.asarray, (rewards, weights, lengths)))

    calls = {("jitted", name): _jitted_call(name, *on_device) for name in LOOPS}
    calls["jitted", "copy"] = partial(jax.jit(jnp.copy), on_device[0])
    loops = {("loop", name): _loop_call(name, rewards, weights, lengths) for name in LOOPS}
    seconds = medians({**calls, **loops}, rounds=arguments.rounds, repeats=_repeats)

    copy = seconds["jitted", "copy"]
    rows = [_row(name, seconds["jitted", name], seconds["loop", name], copy) for name in LOOPS]
    _print(rows, copy)
    if arguments.json:
        report = {
            "shape": [GROUPS, COMPLETIONS, OBJECTIVES],
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
            "copy_microseconds": copy * 1e6,
            "aggregators": rows,
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(row["met"] for row in rows) else 1


def _jitted_call(name: str, rewards, weights, lengths) -> Callable[[], object]:
    extra = (lengths,) if needs_lengths(BY_NAME[name]) else ()
    return partial(jax.jit(BY_NAME[name]), rewards, weights, *extra)


def _repeats(key: tuple[str, str]) -> int:
    """Calls per round: ten of jitted functions, one of loops."""
    return 10 if key[0] == "jitted" else 1


def _loop_call(name: str, rewards, weights, lengths) -> Callable[[], object]:
    return lambda: LOOPS[name](rewards, weights, lengths)


def _row(name: str, jitted: float, looped: float, copy: float) -> dict:
    """One line of the table; times in seconds."""
    faster, copies = looped / jitted, jitted / copy
    return {
        "aggregator": name,
        "microseconds": jitted * 1e6,
        "loop_microseconds": looped * 1e6,
        "times_faster_than_the_loop": faster,
        "copies_of_the_rewards": copies,
        "met": faster >= FASTER_THAN_THE_LOOP and copies <= COPIES.get(name, float("inf")),
    }


def _print(rows: list[dict], copy: float) -> None:
    table = Table(
        title=f"{GROUPS} groups x {COMPLETIONS} completions x {OBJECTIVES} objectives, float32; "
        f"a copy of the rewards takes {copy * 1e6:.0f} us"
    )
    table.add_column("aggregator")
    for heading in ("median us", "copies", "allowed", "loop us", "times faster", "target"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["aggregator"],
            f"{row['microseconds']:.0f}",
            f"{row['copies_of_the_rewards']:.1f}",
            f"{COPIES[row['aggregator']]:.0f}" if row["aggregator"] in COPIES else "-",
            f"{row['loop_microseconds']:.0f}",
            f"{row['times_faster_than_the_loop']:.0f}",
            "met" if row["met"] else "MISSED",
        )
    Console(width=max(100, Console().width)).print(table)


if __name__ == "__main__":
    sys.exit(main())
