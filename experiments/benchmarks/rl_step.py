"""How long a whole RL step takes, beside other libraries and beside the machine's limits.

Rollout, two rewards computed on the host, aggregation and an update by AdamW: the same prompts,
lengths, model and initial weights for every system, each in a process of its own, one after the
other.

    python experiments/benchmarks/rl_step.py \
        --prompt-length 32 --completion-length 64 --prompts 8 --group-size 8 --against trl tunix

Tokens are real ones: no padding, and a prompt counts once for its group however often a system
computes it. The arithmetic limit of a step is the time that its matrix products take at the rate
of the best product measured in the same run (`ceilings.py`; the counts are those of
`dvaojax.models.flops`). The bandwidth limit of a rollout is the time that it takes to read weights
and caches for every token. Both shares of a peer are counted with our arithmetic, the prompt once.

Needs: any machine, a few minutes with peers. Models are named as published; their weights are
random. `tiny` is nobody's.
"""

import argparse
import dataclasses
import datetime
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import systems
from ceilings import Ceilings
from rich.console import Console
from rich.table import Table
from shares import measured
from systems import OURS, Outcome
from workload import Workload, make_workload

from dvaojax.files import write_json
from dvaojax.models.presets import PRESETS

PEERS = ("trl", "tunix")
SHAPE = ("prompt_length", "completion_length", "prompts", "group_size")
ABOUT = ("version", "jax", "torch", "device", "micro_batches", "peak_bytes", "ceilings")
PROBE_TOLERANCE = 1e-3  # nats, between the log-probabilities of one model in two systems


def main() -> int:
    """Times every system, prints the table, and returns 1 if one that is installed failed."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "workload.json"
        workload = make_workload(
            dataclasses.asdict(PRESETS[arguments.model]),
            prompt_length=arguments.prompt_length,
            completion_length=arguments.completion_length,
            num_prompts=arguments.prompts,
            group_size=arguments.group_size,
            steps=arguments.steps,
            weights=f"{directory}/weights.npz" if arguments.against else "",
        )
        workload.save(path)
        options = ["--part", arguments.part]
        if arguments.micro_batches:
            options += ["--micro-batches", str(arguments.micro_batches)]
        ours = systems.run(OURS, path, options=options)
        if ours.failed:
            raise SystemExit(f"{OURS} {ours.complaint}")
        # After ours, which has saved the weights that they begin with.
        peers = [
            systems.run(peer, path, python=arguments.peer_python) for peer in arguments.against
        ]
    outcomes = [ours, *(same_model(peer, ours) for peer in peers)]
    rows = [as_row(outcome, ours, workload) for outcome in outcomes]
    show(rows, arguments)
    if arguments.json:
        shape = {name: getattr(arguments, name) for name in ("model", *SHAPE)}
        today = datetime.date.today().isoformat()
        write_json(arguments.json, {"date": today, **shape, "systems": rows})
    return int(any(outcome.failed for outcome in outcomes))


def parse() -> argparse.Namespace:
    """The command line; a mistake in it ends the program with code 2."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, text in (
        ("prompt-length", "P, tokens of every prompt"),
        ("completion-length", "T, the most tokens of a completion"),
        ("prompts", "B, prompts of a step"),
        ("group-size", "G, completions of a prompt"),
    ):
        parser.add_argument(f"--{name}", type=int, required=True, help=text)
    parser.add_argument("--against", nargs="+", choices=PEERS, default=[], help="peers to time")
    parser.add_argument("--model", choices=sorted(PRESETS), default="tiny")
    parser.add_argument("--steps", type=int, default=5, help="timed steps, at least 5 (default 5)")
    parser.add_argument(
        "--part", choices=("step", "sampler", "train"), default="step", help="time this alone"
    )
    parser.add_argument("--micro-batches", type=int, help="of our update (default: by the device)")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with the peers")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments = parser.parse_args()
    least = {"prompt_length": 2, "steps": 5}
    for name in (*SHAPE, "steps"):
        if getattr(arguments, name) < least.get(name, 1):
            parser.error(f"--{name.replace('_', '-')} must be at least {least.get(name, 1)}")
    if arguments.micro_batches and arguments.prompts % arguments.micro_batches:
        parser.error(f"--micro-batches must divide {arguments.prompts} prompts")
    if arguments.against and arguments.part != "step":
        parser.error(f"--part {arguments.part} times ours alone; peers take whole steps")
    return arguments


def same_model(peer: Outcome, ours: Outcome) -> Outcome:
    """The peer's outcome, a failure where its first log-probabilities are not ours."""
    if peer.complaint:
        return peer
    off = abs(peer.report["probe_logprob"] - ours.report["probe_logprob"])
    if off <= PROBE_TOLERANCE:
        return peer
    return Outcome(peer.system, {}, f"computes another model: {off:.2g} nats off", failed=True)


def as_row(outcome: Outcome, ours: Outcome, workload: Workload) -> dict[str, Any]:
    """What is shown and kept of one system."""
    row: dict[str, Any] = {"system": outcome.system, "complaint": outcome.complaint}
    if outcome.complaint:
        return row
    row |= measured(outcome.report, workload, Ceilings(**ours.report["ceilings"]))
    row["times_ours"] = row["step_seconds"] / statistics.median(ours.report["step_seconds"])
    return row | {name: outcome.report[name] for name in ABOUT if name in outcome.report}


COLUMNS = {
    "step s": ("step_seconds", "{:.3f}"),
    "rollout s": ("rollout_seconds", "{:.3f}"),
    "rewards s": ("reward_seconds", "{:.3f}"),
    "train s": ("train_seconds", "{:.3f}"),
    "tokens/s": ("tokens_per_second", "{:,.0f}"),
    "x ours": ("times_ours", "{:.2f}"),
    "arithmetic": ("arithmetic_share", "{:.0%}"),
    "of rollout": ("rollout_arithmetic_share", "{:.0%}"),
    "of train": ("train_arithmetic_share", "{:.0%}"),
    "bandwidth": ("rollout_bandwidth_share", "{:.0%}"),
}


def show(rows: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """The table: medians, and shares of the limits."""
    ours = rows[0]
    products, copies = (limit / 1e9 for limit in Ceilings(**ours["ceilings"]))
    shape = " / ".join(str(getattr(arguments, name)) for name in SHAPE)
    table = Table(
        title=f"{arguments.model}, prompt / completion / prompts / group {shape}; "
        f"{ours['device']}, {products:,.0f} GFLOP/s, {copies:,.0f} GB/s"
    )
    table.add_column("system")
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    for row in rows:
        cells = [form.format(row[key]) if key in row else "-" for key, form in COLUMNS.values()]
        table.add_row(f"{row['system']} {row.get('version', '')}", *cells)
    console = Console(width=max(130, Console().width))
    console.print(table)
    for row in rows:
        if row["complaint"]:
            console.print(f"{row['system']}: {row['complaint']}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
